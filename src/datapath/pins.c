/* Pins: see the header. Each call is one system call per key; a pin has a handful. */
#include "bpf/map.h"
#include "datapath/keys.h"
#include "datapath/pins.h"

int pin_set(const struct pins *m, uint32_t policy, struct ip ip, const struct weir_decision *d,
	uint64_t now)
{
	struct weir_pin_key key = key_pin(policy, ip);
	struct weir_pin pin = { .last_used = now }, old;

	if (map_get(m->pins_fd, &key, &old) == 0)
		pin.last_used = old.last_used;
	pin.decision = *d;
	return map_set(m->pins_fd, &key, &pin);
}

void pin_delete(const struct pins *m, uint32_t policy, struct ip ip)
{
	struct weir_pin_key key = key_pin(policy, ip);

	map_delete(m->pins_fd, &key);
}

uint64_t pin_last_used(const struct pins *m, uint32_t policy, struct ip ip)
{
	struct weir_pin_key key = key_pin(policy, ip);
	struct weir_pin pin;

	return map_get(m->pins_fd, &key, &pin) < 0 ? 0 : pin.last_used;
}

int pin_ports_add(const struct pins *m, uint32_t policy, const struct policy_port_entry *p,
	size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct weir_port_key key = key_port(policy, &p[i]);

		int r = map_set(m->ports_fd, &key, &p[i].value);

		if (r < 0) {
			pin_ports_delete(m, policy, p, i);
			return r;
		}
	}
	return 0;
}

void pin_ports_delete(const struct pins *m, uint32_t policy, const struct policy_port_entry *p,
	size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct weir_port_key key = key_port(policy, &p[i]);

		map_delete(m->ports_fd, &key);
	}
}

int pin_set_image(const struct pins *m, uint32_t policy, struct ip ip,
	const struct policy_pin_image *img, uint64_t now)
{
	int r = pin_ports_add(m, policy, img->ports, img->n_ports);

	if (r < 0)
		return r;
	r = pin_set(m, policy, ip, &img->decision, now);
	if (r < 0)
		pin_ports_delete(m, policy, img->ports, img->n_ports);
	return r;
}
