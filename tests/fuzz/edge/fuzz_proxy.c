/*
 * The whole way of a query, played from bytes: a script of operations, each a byte, a length and
 * that many bytes, against the resolver with two sandboxes.
 *
 *   0 query of sandbox 1     1 query of sandbox 2 (to a resolver of its own)
 *   2 upstream answer, its id and question corrected to the oldest open socket's
 *   3 upstream answer as it is     4 time passes     5 a policy change     6 socket lost
 *
 * Properties: only names that the policy in force allows travel; no address of the floor is told or
 * pinned; private ones only where a rule opens them; replies are well-formed.
 */
#include "base/clock.h"
#include "edge/resolver.h"
#include "policy/floor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SOCKS 4096

struct world {
	struct resolver *r;
	uint64_t now, next, lowest;
	bool open[SOCKS];
	struct dns_query asked[SOCKS];
	struct policy_floor floor;
	struct policy *policies[2];
	uint32_t ids[2];
};

static void check(bool holds)
{
	if (!holds)
		abort();
}

static bool told(const struct world *w, struct ip ip)
{
	if (policy_floor_find(&w->floor, ip) != WEIR_FLOOR_NONE)
		return false;
	return !policy_is_private(ip) || policy_allows_private(w->policies[0], ip) ||
		policy_allows_private(w->policies[1], ip);
}

static void do_reply(void *arg, const struct dns_client *to, struct str msg)
{
	struct dns_name name;
	uint16_t type, qclass;
	struct dns_walk walk;
	struct dns_rr rr;
	int r;

	check(dns_walk_from(msg, &walk) == 0 && walk.flags & DNS_QR);
	check(to->tcp || msg.n <= DNS_UDP_SIZE);
	if (walk.left[0] == 0)
		return;
	check(dns_walk_question(&walk, &name, &type, &qclass) == 0);
	while ((r = dns_walk_next(&walk, &rr)) > 0) {
		if (rr.type == DNS_A && rr.section == 1)
			check(rr.rdata.n == 4 && told(arg, ip_raw(4, rr.rdata.p)));
		if (rr.type == DNS_AAAA && rr.section == 1)
			check(rr.rdata.n == 16 && told(arg, ip_raw(6, rr.rdata.p)));
	}
	check(r == 0);
}

static int do_open(void *arg, const struct server *s, bool tcp, uint64_t *ret)
{
	struct world *w = arg;

	if (w->next == SOCKS)
		return -EMFILE;
	*ret = w->next;
	w->open[w->next++] = true;
	return 0;
}

static int do_send(void *arg, uint64_t sock, struct str msg)
{
	struct world *w = arg;
	struct dns_query *q = &w->asked[sock];
	char text[DNS_TEXT_MAX];
	struct name name;
	size_t n;

	check(dns_query_read(msg, q) == 0 && q->qclass == DNS_IN);
	check(dns_name_text(&q->name, text, &n) == 0 &&
		name_from(str_n(text, n), &name, NULL) == 0);
	check(policy_name(w->policies[0], &name, NULL) != POLICY_NAME_DENIED ||
		policy_name(w->policies[1], &name, NULL) != POLICY_NAME_DENIED);
	return 0;
}

static void do_close(void *arg, uint64_t sock)
{
	struct world *w = arg;

	check(w->open[sock]);
	w->open[sock] = false;
}

static bool do_event(void *arg, const struct ipc_event_dns *ev)
{
	check(ipc_text_ok(ev->name, sizeof(ev->name)));
	return true;
}

static enum weir_floor do_floor(void *arg, struct ip ip)
{
	struct world *w = arg;

	return policy_floor_find(&w->floor, ip);
}

static void do_random(void *arg, void *p, size_t n)
{
	memset(p, 0x5a, n);
}

static int do_pin(void *arg, uint32_t policy, struct ip ip, const struct weir_decision *d)
{
	struct world *w = arg;

	check(policy_floor_find(&w->floor, ip) == WEIR_FLOOR_NONE);
	return 0;
}

static void do_unpin(void *arg, uint32_t policy, struct ip ip) {}
static uint64_t do_last_used(void *arg, uint32_t policy, struct ip ip)
{
	return 0;
}
static int do_ports_add(void *arg, uint32_t policy, const struct policy_port_entry *p, size_t n)
{
	return 0;
}
static void do_ports_del(void *arg, uint32_t policy, const struct policy_port_entry *p, size_t n) {}

static void set(struct world *w, int i, uint8_t form)
{
	struct ipc_edge_set set = {
		.slot = 1 + (uint32_t)i, .ifindex = 101 + (uint32_t)i, .id = "sb", .has_ipv6 = 1};
	struct policy *p = policy_new(POLICY_NATIVE, form & 1 ? WEIR_ALLOW : WEIR_DENY);
	struct buf blob = BUF_MAX(65536);
	struct name_pattern pattern;
	struct prefix prefix;
	uint32_t old = w->ids[i];

	name_pattern_from(STR("*.t"), form & 2, &pattern, NULL);
	policy_add_rule(p, form & 4 && form & 1 ? WEIR_DENY : WEIR_ALLOW);
	policy_add_name(p, pattern);
	if (form & 8)
		policy_add_port(p, POLICY_TCP, 443, 443);
	if (form & 16) {
		prefix_from(STR("10.0.0.0/8"), true, &prefix);
		policy_add_rule(p, WEIR_ALLOW);
		policy_add_prefix(p, prefix);
	}
	check(policy_encode(p, &blob) == 0);
	policy_free(w->policies[i]);
	w->policies[i] = p;
	set.policy = w->ids[i] = old + 2;
	check(resolver_set(w->r, &set, buf_str(&blob), NULL) == 0);
	if (form & 32 || old > 2)
		resolver_retire(w->r, set.slot, old);
	buf_done(&blob);
}

static void answer(struct world *w, struct str bytes, bool fitting)
{
	struct buf msg = BUF_MAX(70000);
	uint64_t sock = w->lowest;

	while (sock < w->next && !w->open[sock])
		sock++;
	w->lowest = sock;
	if (sock < w->next && fitting && bytes.n >= 4) {
		dns_put_header(&msg, w->asked[sock].id,
			(uint16_t)(DNS_QR | (dns_load16(bytes.p) & ~DNS_OPCODE)),
			(uint8_t)bytes.p[2], (uint8_t)bytes.p[3], 0);
		dns_put_question(&msg, &w->asked[sock].name, w->asked[sock].type);
		buf_add_str(&msg, str_skip(bytes, 4));
		resolver_answer(w->r, sock, buf_str(&msg), w->now);
	} else {
		resolver_answer(w->r, sock, bytes, w->now);
	}
	buf_done(&msg);
}

static void query(struct world *w, int i, struct str bytes)
{
	struct dns_client from = {.ifindex = 101 + (uint32_t)i,
		.peer = ip_v4(0x0a3c0001 + (uint32_t)i),
		.port = 999,
		.dst = ip_v4(i ? 0x01010101 : WEIR_LINK_GATEWAY),
		.tcp = bytes.n & 1};

	resolver_query(w->r, &from, bytes, w->now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct resolver_ops ops = { do_reply, do_open, do_send, do_close, do_event,
		do_floor, do_random };
	static const struct pinner_ops pins = { do_pin, do_unpin, do_last_used, do_ports_add,
		do_ports_del };
	struct world *w = calloc(1, sizeof(*w));
	struct resolver_conf conf = { .qps = 1000, .cache_entries = 8, .pins_max = 128,
		.n_upstreams = 1, .pinner = { &pins, w },
		.upstreams = { { .ip = ip_v4(0x09090909), .port = 53 } } };
	struct policy_floor_spec spec = { 0 };
	struct rd rd = rd_from(str_n(data, size));

	check(w != NULL);
	prefix_from(STR("10.60.0.0/16"), true, &spec.range4);
	check(policy_floor_build(&spec, &w->floor, NULL) == 0);
	w->now = NS_PER_SEC;
	w->ids[1] = 1;
	check(resolver_new(&conf, &ops, w, &w->r) == 0);
	w->policies[0] = policy_new(POLICY_NATIVE, WEIR_DENY);
	w->policies[1] = policy_new(POLICY_NATIVE, WEIR_DENY);
	set(w, 0, 32);
	set(w, 1, 33);
	for (int step = 0; step < 200 && rd_left(&rd); step++) {
		uint8_t what = rd_u8(&rd) % 7;
		struct str bytes = rd_str(&rd, MIN((size_t)rd_be16(&rd), rd_left(&rd)));

		switch (what) {
		case 0:
		case 1:
			query(w, what, bytes);
			break;
		case 2:
		case 3:
			answer(w, bytes, what == 2);
			break;
		case 4:
			w->now += (bytes.n + 1) * NS_PER_SEC;
			resolver_tick(w->r, w->now);
			resolver_sweep(w->r, w->now);
			break;
		case 5:
			set(w, bytes.n & 1, bytes.n > 1 ? (uint8_t)bytes.p[0] : 0);
			break;
		case 6:
			resolver_lost(w->r, w->lowest, w->now);
			break;
		}
	}
	resolver_free(w->r);
	policy_free(w->policies[0]);
	policy_free(w->policies[1]);
	free(w);
	return 0;
}
