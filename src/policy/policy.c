/*
 * The model and its wire form.
 *
 * A rule owns three runs of the policy's arrays. Conditions are appended to the last rule
 * only, so runs lie in rule order without gaps, and the wire form needs no offsets: per rule
 * it says how many conditions follow and then lists them. Nothing can point outside.
 *
 *	"WP" version dialect fallback rules:u32
 *	per rule:  action names:u32 prefixes:u32 ports:u32
 *	  name:    scope length bytes        (canonical, or refused)
 *	  prefix:  family bits address[4|16] (host bits zero, IPv4 never as IPv6)
 *	  port:    protos lo:u16 hi:u16
 */
#include "base/rd.h"
#include "policy/policy.h"

#define BLOB_VERSION 1

struct policy *policy_new(enum policy_dialect dialect, enum weir_verdict fallback)
{
	struct policy *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->dialect = (uint8_t)dialect;
	p->fallback = (uint8_t)fallback;
	return p;
}

struct policy *policy_free(struct policy *p)
{
	if (!p)
		return NULL;
	free(p->rules);
	free(p->names);
	free(p->prefixes);
	free(p->ports);
	free(p);
	return NULL;
}

/* Room for one element after n. Capacities are the powers of two, so they need no field. */
static int grow(void *array, size_t size, uint32_t n, uint32_t max)
{
	void **p = array;
	void *bigger;

	if (n >= max)
		return -E2BIG;
	if (n & (n - 1)) /* between powers of two: room is left */
		return 0;
	bigger = reallocarray(*p, n ? (size_t)n * 2 : 1, size);
	if (!bigger)
		return -ENOMEM;
	*p = bigger;
	return 0;
}

int policy_add_rule(struct policy *p, enum weir_verdict action)
{
	int r = grow(&p->rules, sizeof(*p->rules), p->n_rules, POLICY_RULES_MAX);

	if (r < 0)
		return r;
	p->rules[p->n_rules++] = (struct policy_rule){ .action = (uint8_t)action,
		.name0 = p->n_names, .prefix0 = p->n_prefixes, .port0 = p->n_ports };
	return 0;
}

int policy_add_name(struct policy *p, struct name_pattern name)
{
	int r;

	if (p->n_rules == 0)
		return -EINVAL;
	r = grow(&p->names, sizeof(*p->names), p->n_names, POLICY_NAMES_MAX);
	if (r < 0)
		return r;
	p->names[p->n_names++] = name;
	p->rules[p->n_rules - 1].names++;
	return 0;
}

int policy_add_prefix(struct policy *p, struct prefix prefix)
{
	int r;

	if (p->n_rules == 0 || (prefix.ip.family != 4 && prefix.ip.family != 6) ||
		prefix.len > ip_bits(prefix.ip.family) ||
		prefix_cmp(prefix_of(prefix.ip, prefix.len), prefix) != 0)
		return -EINVAL;
	r = grow(&p->prefixes, sizeof(*p->prefixes), p->n_prefixes, POLICY_PREFIXES_MAX);
	if (r < 0)
		return r;
	p->prefixes[p->n_prefixes++] = prefix;
	p->rules[p->n_rules - 1].prefixes++;
	return 0;
}

int policy_add_port(struct policy *p, enum policy_proto protos, uint16_t lo, uint16_t hi)
{
	int r;

	if (p->n_rules == 0 || lo > hi || !protos || protos & ~(unsigned int)POLICY_TCP_UDP)
		return -EINVAL;
	r = grow(&p->ports, sizeof(*p->ports), p->n_ports, POLICY_PORTS_MAX);
	if (r < 0)
		return r;
	p->ports[p->n_ports++] = (struct policy_port){ (uint8_t)protos, lo, hi };
	p->rules[p->n_rules - 1].ports++;
	return 0;
}

bool policy_rule_is_dialects(const struct policy *p, uint32_t rule)
{
	const struct policy_rule *r = p->rules;
	const struct policy_port *port = p->ports;

	if (p->dialect != POLICY_OPENSANDBOX || rule != 0 || !p->n_rules || r->action != WEIR_DENY ||
		r->names || r->prefixes || r->ports < 1 || r->ports > 2)
		return false;
	return port->protos == POLICY_TCP_UDP && port->lo == POLICY_DNS_TLS && port->hi == POLICY_DNS_TLS &&
		(r->ports == 1 || (port[1].protos == POLICY_TCP && port[1].lo == POLICY_DNS_HTTPS &&
					  port[1].hi == POLICY_DNS_HTTPS));
}

int policy_encode(const struct policy *p, struct buf *out)
{
	buf_add_c(out, "WP");
	buf_u8(out, BLOB_VERSION);
	buf_u8(out, p->dialect);
	buf_u8(out, p->fallback);
	buf_be32(out, p->n_rules);
	for (uint32_t n = 0; n < p->n_rules; n++) {
		const struct policy_rule *r = &p->rules[n];

		buf_u8(out, r->action);
		buf_be32(out, r->names);
		buf_be32(out, r->prefixes);
		buf_be32(out, r->ports);
		for (uint32_t i = 0; i < r->names; i++) {
			const struct name_pattern *name = &p->names[r->name0 + i];

			buf_u8(out, name->scope);
			buf_u8(out, name->name.n);
			buf_add(out, name->name.s, name->name.n);
		}
		for (uint32_t i = 0; i < r->prefixes; i++) {
			const struct prefix *prefix = &p->prefixes[r->prefix0 + i];

			buf_u8(out, prefix->ip.family);
			buf_u8(out, prefix->len);
			buf_add(out, prefix->ip.a, ip_bits(prefix->ip.family) / 8);
		}
		for (uint32_t i = 0; i < r->ports; i++) {
			const struct policy_port *port = &p->ports[r->port0 + i];

			buf_u8(out, port->protos);
			buf_be16(out, port->lo);
			buf_be16(out, port->hi);
		}
	}
	return buf_failed(out);
}

static int decode_name(struct rd *rd, struct policy *p)
{
	uint8_t scope = rd_u8(rd), n = rd_u8(rd);
	struct str text = rd_str(rd, n);
	struct name_pattern pattern = { .scope = scope };

	if (rd_failed(rd) || scope > NAME_BELOW_AND_APEX ||
		name_from(text, &pattern.name, NULL) < 0 ||
		!str_eq(name_str(&pattern.name), text))
		return -EBADMSG;
	return policy_add_name(p, pattern);
}

static int decode_prefix(struct rd *rd, struct policy *p)
{
	uint8_t family = rd_u8(rd), len = rd_u8(rd);
	const uint8_t *bytes;
	struct ip ip;

	if (family != 4 && family != 6)
		return -EBADMSG;
	bytes = rd_take(rd, family == 4 ? 4 : 16);
	if (!bytes)
		return -EBADMSG;
	ip = ip_raw(family, bytes);
	if (ip.family != family) /* IPv4 spelled as IPv6 */
		return -EBADMSG;
	return policy_add_prefix(p, (struct prefix){ ip, len });
}

static int decode_port(struct rd *rd, struct policy *p)
{
	uint8_t protos = rd_u8(rd);
	uint16_t lo = rd_be16(rd), hi = rd_be16(rd);

	return rd_failed(rd) ? -EBADMSG : policy_add_port(p, protos, lo, hi);
}

static int decode_rule(struct rd *rd, struct policy *p)
{
	uint8_t action = rd_u8(rd);
	uint32_t names = rd_be32(rd), prefixes = rd_be32(rd), ports = rd_be32(rd);
	int r;

	if (rd_failed(rd) || action > WEIR_ALLOW)
		return -EBADMSG;
	r = policy_add_rule(p, action);
	while (r == 0 && names--)
		r = decode_name(rd, p);
	while (r == 0 && prefixes--)
		r = decode_prefix(rd, p);
	while (r == 0 && ports--)
		r = decode_port(rd, p);
	return r;
}

int policy_decode(struct str blob, struct policy **ret, struct err *err)
{
	struct rd rd = rd_from(blob);
	auto_policy struct policy *p = NULL;
	struct str magic = rd_str(&rd, 2);
	uint8_t version = rd_u8(&rd), dialect = rd_u8(&rd), fallback = rd_u8(&rd);
	uint32_t rules = rd_be32(&rd);
	int r = 0;

	if (blob.n > POLICY_BLOB_MAX)
		return err_set(err, -EFBIG, ERR_INVALID, "the policy is larger than %u bytes",
			POLICY_BLOB_MAX);
	if (rd_failed(&rd) || !str_eq_c(magic, "WP") || version != BLOB_VERSION ||
		dialect > POLICY_SANDBOX0 || fallback > WEIR_ALLOW)
		return err_set(err, -EBADMSG, ERR_INVALID, "not an encoded policy");
	p = policy_new(dialect, fallback);
	if (!p)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	for (uint32_t i = 0; i < rules; i++) {
		r = decode_rule(&rd, p);
		if (r == -ENOMEM)
			return err_set(err, r, ERR_INTERNAL, "out of memory");
		if (r < 0)
			return err_set(err, -EBADMSG, ERR_INVALID,
				"rule %" PRIu32 " of the encoded policy is malformed", i);
	}
	if (rd_left(&rd))
		return err_set(err, -EBADMSG, ERR_INVALID, "%zu bytes follow the encoded policy",
			rd_left(&rd));
	*ret = take_ptr(p);
	return 0;
}

static bool pattern_equal(const struct name_pattern *a, const struct name_pattern *b)
{
	return a->scope == b->scope && name_eq(&a->name, &b->name);
}

bool policy_equal(const struct policy *a, const struct policy *b)
{
	if (a->dialect != b->dialect || a->fallback != b->fallback || a->n_rules != b->n_rules ||
		a->n_names != b->n_names || a->n_prefixes != b->n_prefixes ||
		a->n_ports != b->n_ports)
		return false;
	for (uint32_t i = 0; i < a->n_rules; i++) {
		const struct policy_rule *x = &a->rules[i], *y = &b->rules[i];

		if (x->action != y->action || x->names != y->names ||
			x->prefixes != y->prefixes || x->ports != y->ports)
			return false;
	}
	for (uint32_t i = 0; i < a->n_names; i++)
		if (!pattern_equal(&a->names[i], &b->names[i]))
			return false;
	for (uint32_t i = 0; i < a->n_prefixes; i++)
		if (prefix_cmp(a->prefixes[i], b->prefixes[i]) != 0)
			return false;
	for (uint32_t i = 0; i < a->n_ports; i++) {
		const struct policy_port *x = &a->ports[i], *y = &b->ports[i];

		if (x->protos != y->protos || x->lo != y->lo || x->hi != y->hi)
			return false;
	}
	return true;
}
