/* Pins: see the header. Each call is one system call per key; a pin has a handful. */
#include <bpf/bpf.h>
#include "datapath/keys.h"
#include "datapath/pins.h"

int pin_set(const struct pins *m, uint32_t policy, struct ip ip, const struct weir_decision *d,
	uint64_t now)
{
	struct weir_pin_key key = key_pin(policy, ip);
	struct weir_pin pin = { .last_used = now }, old;

	if (bpf_map_lookup_elem(m->pins_fd, &key, &old) == 0)
		pin.last_used = old.last_used;
	pin.decision = *d;
	return bpf_map_update_elem(m->pins_fd, &key, &pin, BPF_ANY) < 0 ? -errno : 0;
}

void pin_delete(const struct pins *m, uint32_t policy, struct ip ip)
{
	struct weir_pin_key key = key_pin(policy, ip);

	bpf_map_delete_elem(m->pins_fd, &key);
}

uint64_t pin_last_used(const struct pins *m, uint32_t policy, struct ip ip)
{
	struct weir_pin_key key = key_pin(policy, ip);
	struct weir_pin pin;

	return bpf_map_lookup_elem(m->pins_fd, &key, &pin) < 0 ? 0 : pin.last_used;
}

int pin_ports_add(const struct pins *m, uint32_t policy, const struct policy_port_entry *p,
	size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct weir_port_key key = key_port(policy, &p[i]);

		if (bpf_map_update_elem(m->ports_fd, &key, &p[i].value, BPF_ANY) < 0) {
			int r = -errno;

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

		bpf_map_delete_elem(m->ports_fd, &key);
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
