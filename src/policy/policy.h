/*
 * What an egress policy means.
 *
 * A policy is an ordered list of rules, each an action and up to three conditions
 * that must ALL hold: names, prefixes, ports (each a list; any entry may match; an
 * empty list is no condition). The first rule that matches decides; if none does,
 * the default decides. Dialects translate into this form and nothing else knows
 * their grammar.
 *
 * A rule with names matches a flow only through the names known of its address:
 * those whose DNS answers pinned it for this sandbox. A rule with names and
 * prefixes matches only when the pinned address lies in one of the prefixes.
 *
 * Three readings of the same policy must agree, and tests hold them equal:
 *   policy_reference()  slow and obvious: one flow at a time, straight from the list
 *   policy_compile()    prefixes -> decisions and port tables, for the kernel's maps
 *   policy_pin()        the decision and port table of one pinned address
 *
 * Pure: no descriptors, no clocks, no globals. Used by the api, host and edge roles.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/ip.h"
#include "bpf/maps.h"
#include "policy/name.h"

#define POLICY_RULES_MAX    8192u /* the largest dialect allows 4096, besides the platform's own */
#define POLICY_NAMES_MAX    16384u /* over all rules */
#define POLICY_PREFIXES_MAX 16384u
#define POLICY_PORTS_MAX    16384u
#define POLICY_BLOB_MAX	    (8u << 20)

enum policy_dialect { POLICY_NATIVE, POLICY_CREATEOS, POLICY_OPENSANDBOX, POLICY_SANDBOX0 };
enum policy_proto { POLICY_TCP = 1, POLICY_UDP = 2, POLICY_TCP_UDP = 3 };

struct policy_port {
	uint8_t protos; /* enum policy_proto, as bits */
	uint16_t lo, hi;
};

struct policy_rule {
	uint8_t action; /* enum weir_verdict */
	/* Ranges into the policy's arrays: first and count. */
	uint32_t name0, names;
	uint32_t prefix0, prefixes;
	uint32_t port0, ports;
};

struct policy {
	uint8_t dialect;
	uint8_t fallback; /* enum weir_verdict: the default */
	uint32_t n_rules, n_names, n_prefixes, n_ports;
	struct policy_rule *rules;
	struct name_pattern *names;
	struct prefix *prefixes;
	struct policy_port *ports;
};

struct policy *policy_new(enum policy_dialect dialect, enum weir_verdict fallback); /* NULL: no memory */
struct policy *policy_free(struct policy *p);
static inline void auto_policy_done(struct policy **p)
{
	policy_free(*p);
}
#define auto_policy _cleanup_(auto_policy_done)

/* Append an empty rule, then conditions to the last rule. -ENOMEM, -E2BIG at a limit above. */
int policy_add_rule(struct policy *p, enum weir_verdict action);
int policy_add_name(struct policy *p, struct name_pattern name);
int policy_add_prefix(struct policy *p, struct prefix prefix);
int policy_add_port(struct policy *p, enum policy_proto protos, uint16_t lo, uint16_t hi);

/* One blob that carries a policy between roles; decode(encode(p)) equals p. The decoder
 * checks every range and limit: what it accepts is a valid policy. */
int policy_encode(const struct policy *p, struct buf *out);
int policy_decode(struct str blob, struct policy **ret, struct err *err);
bool policy_equal(const struct policy *a, const struct policy *b);
/* One rule as people read it: "allow api.example.com, *.x.org ports tcp/443". */
int policy_rule_text(const struct policy *p, uint32_t rule, struct buf *out);

struct policy_verdict {
	uint8_t verdict;
	uint16_t rule; /* or WEIR_RULE_NONE: the default */
	bool named_port; /* the deciding rule has a port condition, so it named this port */
};

/* TCP 25 is dropped, whatever `verdict` says, unless named_port or the operator's smtp switch.
 * An allow rule that does not name it does not end the search: a later one that does opens it,
 * unless a denial comes first. */

/* proto: IPPROTO_TCP or IPPROTO_UDP. names: those known of addr (canonical). */
struct policy_verdict policy_reference(const struct policy *p, struct ip addr, uint8_t proto,
	uint16_t port, const struct name *names, size_t n_names);

#define POLICY_DNS_TLS	 853
#define POLICY_DNS_HTTPS 443
/* Is it what OpenSandbox's dialect begins with, which closes those ports to everybody? It is no reason to
 * refuse an echo: else none would ever pass. */
bool policy_rule_is_dialects(const struct policy *p, uint32_t rule);

/* Is addr allowed on every TCP and UDP port, but for the rule above? What ICMP echo needs. Obvious
 * version. */
bool policy_reference_all_ports(const struct policy *p, struct ip addr, const struct name *names,
	size_t n_names);

/* --- DNS: is a name allowed to be asked? --- */
enum policy_name_verdict {
	POLICY_NAME_DENIED, /* a rule denies it, or nothing allows it under default deny */
	POLICY_NAME_ALLOWED, /* a name rule allows it: its addresses are to be pinned */
	POLICY_NAME_DEFAULT, /* no name rule, default allow: forwarded, not pinned */
};
/* The FIRST name rule that matches decides. An allow rule counts whatever its ports and prefixes
 * say; a deny rule with ports or prefixes denies flows, not the name: the search goes on, and the
 * name is at least to be pinned so that the denial has something to hold on to. ret_rule (may be
 * NULL) is the rule, or WEIR_RULE_NONE. */
enum policy_name_verdict policy_name(const struct policy *p, const struct name *name,
	uint16_t *ret_rule);
/* Does a rule allow this resolver by a single address, or by a prefix with exactly port 53?
 * ("1.1.1.1:53", "1.1.1.1"; a wider prefix that does not single out the port does not count.) */
bool policy_names_resolver(const struct policy *p, struct ip resolver, uint8_t proto);
/* May a private (policy_is_private(), floor.h) answer address be passed on and pinned? Only if
 * some rule that mentions it, or the default, would allow it: a name alone does not. */
bool policy_allows_private(const struct policy *p, struct ip addr);

/* --- for the kernel --- */
struct policy_knobs { /* operator's switches, from the configuration */
	bool smtp, other_protocols, reject;
};

/* One port key of a table; prefixlen is over proto, zero, port: 16..32 (below the 64 id bits). */
#define POLICY_IMAGE_PORTS_MAX 65536u /* per version: one policy cannot fill weir_ports */
struct policy_port_entry {
	uint32_t table;
	uint8_t proto;
	uint16_t port;	    /* host order, low bits zero */
	uint8_t port_bits;  /* 0..16 leading bits that count */
	struct weir_port value;
};
struct policy_prefix_entry {
	struct prefix prefix;
	struct weir_decision decision;
};
/* All that the host role writes for one policy version. Tables are numbered from first_table. */
struct policy_image {
	struct weir_policy header;
	struct policy_prefix_entry *prefixes;
	size_t n_prefixes;
	struct policy_port_entry *ports;
	size_t n_ports;
};
int policy_compile(const struct policy *p, const struct policy_knobs *knobs,
	struct policy_image *ret, struct err *err);
void policy_image_done(struct policy_image *img);

/* The decision for one address known by these names, with its port table (at most
 * POLICY_PIN_PORTS_MAX entries, numbered `table`). */
#define POLICY_PIN_PORTS_MAX 65536u
struct policy_pin_image {
	struct weir_decision decision;
	struct policy_port_entry *ports;
	size_t n_ports;
};
int policy_pin(const struct policy *p, const struct policy_knobs *knobs, struct ip addr,
	const struct name *names, size_t n_names, uint32_t table, struct policy_pin_image *ret);
void policy_pin_image_done(struct policy_pin_image *img);

/* Names of reasons for logs, the API and people: "rule", "default", "floor", … */
const char *policy_reason_name(enum weir_reason reason);
/* A sentence: "169.254.169.254 is link-local (metadata); the floor cannot be opened by a rule". */
const char *policy_reason_text(enum weir_reason reason, enum weir_floor floor);
const char *policy_floor_name(enum weir_floor floor);
/* What part of the floor that is: "the address is loopback". */
const char *policy_floor_text(enum weir_floor floor);
