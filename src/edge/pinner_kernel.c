/* Pins in the kernel's maps: see the header. */
#include "bpf/map.h"
#include "base/clock.h"
#include "base/fd.h"
#include "datapath/keys.h"
#include "datapath/pins.h"
#include "edge/pinner_kernel.h"

#define ORPHANS_MAX    256u

struct orphan_table { /* whose entries are still to be found */
	uint32_t policy, table;
};

struct pinner_kernel {
	struct pins maps; /* owned */
	uint64_t born;
	bool walking;
	struct weir_pin_key at; /* where the walk over pins stands */
	struct orphan_table orphans[ORPHANS_MAX];
	unsigned int n_orphans;
	uint64_t rest_until; /* between walks over the pins */
	bool synced, ports_walking;
	struct weir_port_key ports_at;
};

static int do_pin(void *arg, uint32_t policy, struct ip ip, const struct weir_decision *d)
{
	const struct pinner_kernel *k = arg;

	/* A fresh pin counts as used: the connection it is for is about to come. */
	return pin_set(&k->maps, policy, ip, d, clock_mono_ns());
}

static void do_unpin(void *arg, uint32_t policy, struct ip ip)
{
	const struct pinner_kernel *k = arg;

	pin_delete(&k->maps, policy, ip);
}

static uint64_t do_last_used(void *arg, uint32_t policy, struct ip ip)
{
	const struct pinner_kernel *k = arg;

	return pin_last_used(&k->maps, policy, ip);
}

static int do_ports_add(void *arg, uint32_t policy, const struct policy_port_entry *e, size_t n)
{
	const struct pinner_kernel *k = arg;

	return pin_ports_add(&k->maps, policy, e, n);
}

static void do_ports_del(void *arg, uint32_t policy, const struct policy_port_entry *e, size_t n)
{
	const struct pinner_kernel *k = arg;

	pin_ports_delete(&k->maps, policy, e, n);
}

static const struct pinner_ops kernel_ops = { do_pin, do_unpin, do_last_used, do_ports_add,
	do_ports_del };

struct pinner pinner_kernel(struct pinner_kernel *k)
{
	return (struct pinner){ &kernel_ops, k };
}

int pinner_kernel_new(int pins_fd, int ports_fd, uint64_t now, struct pinner_kernel **ret)
{
	struct pinner_kernel *k = calloc(1, sizeof(*k));

	if (!k) {
		fd_close(pins_fd);
		fd_close(ports_fd);
		return -ENOMEM;
	}
	k->maps = (struct pins){ pins_fd, ports_fd };
	k->born = now;
	*ret = k;
	return 0;
}

static bool is_orphan(struct pinner_kernel *k, struct resolver *r, const struct weir_pin_key *key,
	const struct weir_pin *pin, bool synced, uint64_t now)
{
	struct ip ip = { .family = key->scope & 1 ? 6 : 4 };

	memcpy(ip.a, key->addr.a, sizeof(ip.a));
	switch (resolver_pin_owner(r, key->scope >> 1, ip)) {
	case PIN_UNKNOWN_POLICY:
		return synced;
	case PIN_UNKNOWN_ADDR:
		return MAX(pin->last_used, k->born) + PINNER_ORPHAN_IDLE < now;
	case PIN_KNOWN:
		break;
	}
	return false;
}

static bool is_orphaned_port(const struct pinner_kernel *k, const struct weir_port_key *key)
{
	for (unsigned int i = 0; i < k->n_orphans; i++)
		if (k->orphans[i].policy == key->policy && k->orphans[i].table == key->table)
			return true;
	return false;
}

/* The port entries of tables whose pins are gone: one walk over the map serves many tables. */
static void collect_ports(struct pinner_kernel *k)
{
	for (unsigned int i = 0; i < PINNER_COLLECT_KEYS; i++) {
		struct weir_port_key next;
		bool end = map_next(k->maps.ports_fd,
			k->ports_walking ? &k->ports_at : NULL, &next) != 0;

		/* Only now: after a deleted key the walk would start anew. */
		if (k->ports_walking && is_orphaned_port(k, &k->ports_at))
			map_delete(k->maps.ports_fd, &k->ports_at);
		k->ports_walking = !end;
		if (end) {
			k->n_orphans = 0;
			return;
		}
		k->ports_at = next;
	}
}

void pinner_kernel_collect(struct pinner_kernel *k, struct resolver *r, bool synced, uint64_t now)
{
	bool gone = false;

	if (k->n_orphans && (k->ports_walking || !k->walking)) {
		collect_ports(k);
		return;
	}
	if (synced && !k->synced)
		k->rest_until = 0; /* an unknown policy is nobody's from now on */
	k->synced = synced;
	if (!k->walking && now < k->rest_until)
		return;
	for (unsigned int i = 0; i < PINNER_COLLECT_KEYS && k->n_orphans < ORPHANS_MAX; i++) {
		struct weir_pin_key next, old = k->at;
		struct weir_pin pin;

		if (map_next(k->maps.pins_fd, k->walking ? &k->at : NULL, &next) != 0) {
			k->walking = false;
			k->rest_until = now + PINNER_REST;
			if (gone)
				map_delete(k->maps.pins_fd, &old);
			return;
		}
		if (gone)
			map_delete(k->maps.pins_fd, &old);
		k->at = next;
		k->walking = true;
		gone = map_get(k->maps.pins_fd, &next, &pin) == 0 &&
			is_orphan(k, r, &next, &pin, synced, now);
		if (gone && pin.decision.ports == WEIR_PORTS_TABLE)
			k->orphans[k->n_orphans++] = (struct orphan_table){ next.scope >> 1,
				pin.decision.table };
	}
	if (gone) /* the walk starts over; what it has passed is decided by then */
		map_delete(k->maps.pins_fd, &k->at);
	k->walking = k->walking && !gone;
}

enum weir_floor floor_kernel(int floor_fd, struct ip ip)
{
	struct weir_floor_key key = key_floor((struct prefix){ ip, ip_bits(ip.family) });
	uint32_t floor;
	int r = map_get(floor_fd, &key, &floor);

	if (r == 0)
		return (enum weir_floor)floor;
	return r == -ENOENT ? WEIR_FLOOR_NONE : WEIR_FLOOR_OPERATOR;
}

uint32_t floor_generation_kernel(int config_fd)
{
	struct weir_config config = { 0 };
	uint32_t zero = 0;

	map_get(config_fd, &zero, &config);
	return config.floor;
}
