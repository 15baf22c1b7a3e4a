/* The floor: see the header. Lists are short and lookups rare (API, DNS answers), so they walk. */
#include "policy/floor.h"

static const struct {
	const char *prefix;
	enum weir_floor floor;
} builtin[] = {
	{ "0.0.0.0/8", WEIR_FLOOR_ZERO },
	{ "127.0.0.0/8", WEIR_FLOOR_LOOPBACK },
	{ "169.254.0.0/16", WEIR_FLOOR_LINKLOCAL },
	{ "168.63.129.16/32", WEIR_FLOOR_LINKLOCAL },	/* Azure's metadata */
	{ "100.100.100.200/32", WEIR_FLOOR_LINKLOCAL }, /* Alibaba's */
	{ "192.0.0.0/24", WEIR_FLOOR_LINKLOCAL },	/* protocol assignments; Oracle's metadata */
	{ "224.0.0.0/4", WEIR_FLOOR_MULTICAST },
	{ "240.0.0.0/4", WEIR_FLOOR_MULTICAST },	/* reserved, 255.255.255.255 among it */
	{ "::/128", WEIR_FLOOR_ZERO },
	{ "::1/128", WEIR_FLOOR_LOOPBACK },
	{ "::/96", WEIR_FLOOR_EMBEDDED },
	{ "64:ff9b::/96", WEIR_FLOOR_EMBEDDED },
	{ "64:ff9b:1::/48", WEIR_FLOOR_EMBEDDED },
	{ "2001::/32", WEIR_FLOOR_EMBEDDED },
	{ "2002::/16", WEIR_FLOOR_EMBEDDED },
	{ "fd00:ec2::/32", WEIR_FLOOR_LINKLOCAL },	/* AWS's metadata and resolver */
	{ "fe80::/10", WEIR_FLOOR_LINKLOCAL },
	{ "fec0::/10", WEIR_FLOOR_LINKLOCAL },		/* site-local, long withdrawn */
	{ "ff00::/8", WEIR_FLOOR_MULTICAST },
};

static const struct prefix private_prefixes[] = { /* read once per address of every answer */
	{ { 4, { 10 } }, 8 }, { { 4, { 172, 16 } }, 12 }, { { 4, { 192, 168 } }, 16 },
	{ { 4, { 100, 64 } }, 10 }, { { 4, { 198, 18 } }, 15 }, { { 6, { 0xfc } }, 7 },
};

static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };

int policy_floor_add(struct policy_floor *f, struct prefix prefix, enum weir_floor floor)
{
	for (uint32_t i = 0; i < f->n; i++)
		if (prefix_cmp(f->e[i].prefix, prefix) == 0) {
			f->e[i].floor = (uint8_t)floor;
			return 0;
		}
	if (f->n == POLICY_FLOOR_MAX)
		return -E2BIG;
	f->e[f->n++] = (struct policy_floor_entry){ prefix, (uint8_t)floor };
	return 0;
}

static int add_list(struct policy_floor *f, const struct prefix *list, size_t n,
	enum weir_floor floor)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = policy_floor_add(f, list[i], floor);
	return r;
}

static int add_range(struct policy_floor *f, struct prefix range, enum weir_floor floor)
{
	return range.ip.family ? policy_floor_add(f, range, floor) : 0;
}

/* The NAT64 twin of every closed IPv4 prefix. */
static int add_twins(struct policy_floor *f)
{
	uint32_t n = f->n;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < n; i++) {
		struct policy_floor_entry e = f->e[i];
		uint8_t raw[16];

		if (e.prefix.ip.family != 4 || e.floor == WEIR_FLOOR_NONE)
			continue;
		memcpy(raw, nat64, sizeof(nat64));
		memcpy(raw + sizeof(nat64), e.prefix.ip.a, 4);
		r = policy_floor_add(f,
			prefix_of(ip_raw(6, raw), (uint8_t)(96 + e.prefix.len)), e.floor);
	}
	return r;
}

int policy_floor_build(const struct policy_floor_spec *spec, struct policy_floor *ret,
	struct err *err)
{
	struct prefix p;
	int r = 0;

	ret->n = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(builtin); i++) {
		r = prefix_from(str_c(builtin[i].prefix), true, &p);
		if (r == 0)
			r = policy_floor_add(ret, p, builtin[i].floor);
	}
	if (r == 0)
		r = add_range(ret, spec->range4, WEIR_FLOOR_SANDBOX);
	if (r == 0)
		r = add_range(ret, spec->range6, WEIR_FLOOR_SANDBOX);
	if (r == 0)
		r = add_range(ret, spec->overlay4, WEIR_FLOOR_OVERLAY);
	if (r == 0)
		r = add_list(ret, spec->host, spec->n_host, WEIR_FLOOR_HOST);
	if (r == 0)
		r = add_list(ret, spec->deny, spec->n_deny, WEIR_FLOOR_OPERATOR);
	if (r == 0)
		r = add_twins(ret);
	if (r == 0)
		r = add_list(ret, spec->allow, spec->n_allow, WEIR_FLOOR_NONE);
	if (r < 0)
		return err_set(err, r, ERR_INTERNAL, "the floor has more than %u prefixes",
			POLICY_FLOOR_MAX);
	return 0;
}

/* The longest entry that covers the prefix, or NULL. */
static const struct policy_floor_entry *longest(const struct policy_floor *f, struct prefix prefix)
{
	const struct policy_floor_entry *best = NULL;

	for (uint32_t i = 0; i < f->n; i++)
		if (prefix_covers(f->e[i].prefix, prefix) &&
			(!best || f->e[i].prefix.len > best->prefix.len))
			best = &f->e[i];
	return best;
}

enum weir_floor policy_floor_find(const struct policy_floor *f, struct ip addr)
{
	const struct policy_floor_entry *e = longest(f, prefix_of(addr, 128));

	return e ? e->floor : WEIR_FLOOR_NONE;
}

enum weir_floor policy_floor_covers(const struct policy_floor *f, struct prefix prefix)
{
	const struct policy_floor_entry *e = longest(f, prefix);

	if (!e || e->floor == WEIR_FLOOR_NONE)
		return WEIR_FLOOR_NONE;
	for (uint32_t i = 0; i < f->n; i++)
		if (f->e[i].floor == WEIR_FLOOR_NONE && prefix_covers(prefix, f->e[i].prefix))
			return WEIR_FLOOR_NONE;
	return e->floor;
}

bool policy_is_private(struct ip addr)
{
	if (addr.family == 6 && memcmp(addr.a, nat64, sizeof(nat64)) == 0)
		addr = ip_raw(4, addr.a + sizeof(nat64));
	for (size_t i = 0; i < ARRAY_SIZE(private_prefixes); i++)
		if (prefix_has(private_prefixes[i], addr))
			return true;
	return false;
}
