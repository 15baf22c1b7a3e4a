/* The played world: see the header. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include "policy/floor.h"
#include "play.h"

static struct ip ip_of(const char *text)
{
	struct ip ip;

	assert_int_equal(ip_from(str_c(text), &ip), 0);
	return ip;
}

/* --- resolver_ops --- */

static void do_reply(void *arg, const struct dns_client *to, struct str msg)
{
	struct play *p = arg;

	buf_reset(&p->reply);
	buf_add_str(&p->reply, msg);
	p->replied_to = *to;
	p->n_replies++;
}

static int do_open(void *arg, const struct server *s, bool tcp, uint64_t *ret_sock)
{
	struct play *p = arg;
	struct play_sent *sent = &p->sent[p->n_sent % PLAY_SENT_MAX];

	if (p->refuse_open)
		return -EMFILE;
	*sent = (struct play_sent){ .sock = p->n_sent, .server = *s, .tcp = tcp, .open = true };
	*ret_sock = p->n_sent++;
	return 0;
}

static int do_send(void *arg, uint64_t sock, struct str msg)
{
	struct play *p = arg;
	struct play_sent *sent = &p->sent[sock % PLAY_SENT_MAX];

	assert_int_equal(dns_query_read(msg, &sent->q), 0);
	sent->sent = true;
	return 0;
}

static void do_close(void *arg, uint64_t sock)
{
	struct play *p = arg;

	p->sent[sock % PLAY_SENT_MAX].open = false;
}

static bool do_event(void *arg, const struct ipc_event_dns *ev)
{
	struct play *p = arg;

	if (p->events_lost)
		return false;
	p->event = *ev;
	p->n_events++;
	return true;
}

static enum weir_floor do_floor(void *arg, struct ip ip)
{
	static struct policy_floor *floor;
	struct play *p = arg;

	p->n_floor++;
	if (p->closed.family && ip_eq(p->closed, ip))
		return WEIR_FLOOR_OPERATOR;
	if (!floor) {
		static struct policy_floor built;
		struct policy_floor_spec spec = { 0 };

		prefix_from(STR("10.60.0.0/16"), true, &spec.range4);
		prefix_from(STR("10.42.0.0/16"), true, &spec.overlay4);
		prefix_from(STR("fd77:6569:7200::/64"), true, &spec.range6);
		assert_int_equal(policy_floor_build(&spec, &built, NULL), 0);
		floor = &built;
	}
	return policy_floor_find(floor, ip);
}

static void do_random(void *arg, void *out, size_t n)
{
	struct play *p = arg;
	uint8_t *at = out;

	while (n--) { /* xorshift: played, not unpredictable */
		p->random ^= p->random << 13;
		p->random ^= p->random >> 7;
		p->random ^= p->random << 17;
		*at++ = (uint8_t)p->random;
	}
}

static const struct resolver_ops ops = { do_reply, do_open, do_send, do_close, do_event, do_floor,
	do_random };

/* --- pinner_ops --- */

static struct play_pin *pin_find(struct play *p, uint32_t policy, struct ip ip)
{
	for (size_t i = 0; i < p->n_pins; i++)
		if (p->pins[i].policy == policy && ip_eq(p->pins[i].ip, ip))
			return &p->pins[i];
	return NULL;
}

static int do_pin(void *arg, uint32_t policy, struct ip ip, const struct weir_decision *d)
{
	struct play *p = arg;
	struct play_pin *pin = pin_find(p, policy, ip);

	if (p->pin_fails)
		return p->pin_fails;
	if (!pin) {
		assert_true(p->n_pins < PLAY_PINS_MAX);
		pin = &p->pins[p->n_pins++];
	}
	*pin = (struct play_pin){ policy, ip, *d, 0 };
	return 0;
}

static void do_unpin(void *arg, uint32_t policy, struct ip ip)
{
	struct play *p = arg;
	struct play_pin *pin = pin_find(p, policy, ip);

	assert_non_null(pin);
	*pin = p->pins[--p->n_pins];
}

static uint64_t do_last_used(void *arg, uint32_t policy, struct ip ip)
{
	struct play_pin *pin = pin_find(arg, policy, ip);

	return pin ? pin->last_used : 0;
}

static int do_ports_add(void *arg, uint32_t policy, const struct policy_port_entry *e, size_t n)
{
	struct play *p = arg;

	for (size_t i = 0; i < n; i++) {
		assert_true(p->n_ports < PLAY_PORTS_MAX);
		p->ports[p->n_ports++] = e[i];
	}
	return 0;
}

static void do_ports_del(void *arg, uint32_t policy, const struct policy_port_entry *e, size_t n)
{
	struct play *p = arg;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < p->n_ports; k++)
			if (p->ports[k].table == e[i].table && p->ports[k].proto == e[i].proto &&
				p->ports[k].port == e[i].port &&
				p->ports[k].port_bits == e[i].port_bits) {
				p->ports[k] = p->ports[--p->n_ports];
				break;
			}
}

static const struct pinner_ops pinner = { do_pin, do_unpin, do_last_used, do_ports_add,
	do_ports_del };

/* --- keeper_ops --- */

static struct play_note *note_find(struct play *p, const char *box, struct ip ip,
	const struct name *name)
{
	for (size_t i = 0; i < p->n_notes; i++)
		if (strcmp(p->notes[i].box, box) == 0 && ip_eq(p->notes[i].kept.ip, ip) &&
			name_eq(&p->notes[i].kept.name, name))
			return &p->notes[i];
	return NULL;
}

static int do_keep(void *arg, const char *box, const struct kept *k)
{
	struct play *p = arg;
	struct play_note *note = note_find(p, box, k->ip, &k->name);

	p->n_keeps++;
	if (!note) {
		assert_true(p->n_notes < PLAY_NOTES_MAX);
		note = &p->notes[p->n_notes++];
		str_copy(note->box, sizeof(note->box), str_c(box));
	}
	note->kept = *k;
	return 0;
}

static void do_forget(void *arg, const char *box, struct ip ip, const struct name *name)
{
	struct play *p = arg;
	struct play_note *note = note_find(p, box, ip, name);

	assert_non_null(note);
	*note = p->notes[--p->n_notes];
}

static void do_recall(void *arg, const char *box, kept_fn fn, void *fn_arg)
{
	struct play *p = arg;

	for (size_t i = 0; i < p->n_notes; i++)
		if (strcmp(p->notes[i].box, box) == 0)
			fn(fn_arg, &p->notes[i].kept);
}

static const struct keeper_ops keeper = { do_keep, do_forget, do_recall };

/* --- the world --- */

struct play *play_new(const struct play_conf *conf)
{
	struct play *p = calloc(1, sizeof(*p));
	struct resolver_conf rc = {.qps = conf && conf->qps ? conf->qps : 200,
		.cache_entries = conf && conf->cache_entries ? conf->cache_entries : 100,
		.pins_max = conf && conf->pins_max ? conf->pins_max : 1024,
		.knobs = {.reject = true}};
	struct str list = str_c(conf && conf->upstreams ? conf->upstreams : "9.9.9.9");

	assert_non_null(p);
	while (list.n) {
		struct str one = str_cut(&list, ' ');

		assert_int_equal(ip_from(one, &rc.upstreams[rc.n_upstreams].ip), 0);
		rc.upstreams[rc.n_upstreams++].port = 53;
	}
	prefix_from(STR("10.42.0.0/16"), true, &rc.overlay);
	rc.pinner = (struct pinner){ &pinner, p };
	rc.keeper = (struct keeper){ &keeper, p };
	p->conf = rc;
	p->now = 1000 * NS_PER_SEC;
	p->random = UINT64_C(88172645463325252);
	p->reply = BUF_MAX(DNS_MSG_MAX + 1);
	assert_int_equal(resolver_new(&rc, &ops, p, &p->r), 0);
	return p;
}

void play_restart(struct play *p)
{
	resolver_free(p->r);
	assert_int_equal(resolver_new(&p->conf, &ops, p, &p->r), 0);
}

void play_free(struct play *p)
{
	resolver_free(p->r);
	buf_done(&p->reply);
	free(p);
}

struct policy *play_policy(const char *text)
{
	struct str all = str_c(text), head = str_cut(&all, ':');
	struct policy *policy = policy_new(POLICY_NATIVE,
		str_eq_c(head, "allow") ? WEIR_ALLOW : WEIR_DENY);

	assert_non_null(policy);
	while (all.n) {
		struct str rule = str_trim(str_cut(&all, ';'));
		struct str action = str_cut(&rule, ' ');

		if (!action.n)
			continue;
		policy_add_rule(policy, str_eq_c(action, "allow") ? WEIR_ALLOW : WEIR_DENY);
		while (rule.n) {
			struct str word = str_cut(&rule, ' ');
			struct name_pattern name;
			struct prefix prefix;
			uint64_t port;

			if (str_u64(word, 65535, &port) == 0)
				policy_add_port(policy, POLICY_TCP_UDP, (uint16_t)port,
					(uint16_t)port);
			else if (prefix_from(word, false, &prefix) == 0)
				policy_add_prefix(policy, prefix);
			else if (name_pattern_from(word, false, &name, NULL) == 0)
				policy_add_name(policy, name);
			else
				fail_msg("what is " STR_FMT "?", STR_ARG(word));
		}
	}
	return policy;
}

int play_set(struct play *p, uint32_t slot, uint32_t policy_id, const char *text)
{
	struct ipc_edge_set set = { .slot = slot, .ifindex = 100 + slot, .policy = policy_id,
		.has_ipv6 = 1, .ip4 = ip_plus(ip_of("10.60.0.0"), slot) };
	struct policy *policy = play_policy(text);
	struct buf blob = BUF_MAX(POLICY_BLOB_MAX);
	struct err err = { 0 };
	int r;

	snprintf(set.id, sizeof(set.id), "sb-%u", slot);
	if (p->box)
		snprintf(set.id, sizeof(set.id), "%s", p->box);
	if (p->hostname)
		snprintf(set.hostname, sizeof(set.hostname), "%s", p->hostname);
	for (struct str nets = str_c(p->nets); nets.n; set.n_nets++) {
		struct str net = str_cut(&nets, ' '), number = str_cut(&net, ':');
		uint64_t n;

		assert_int_equal(str_u64(number, UINT32_MAX, &n), 0);
		set.nets[set.n_nets].number = (uint32_t)n;
		str_copy(set.nets[set.n_nets].name, sizeof(set.nets[0].name), net);
	}
	assert_int_equal(policy_encode(policy, &blob), 0);
	r = resolver_set(p->r, &set, buf_str(&blob), &err);
	buf_done(&blob);
	policy_free(policy);
	return r;
}

void play_ask_raw(struct play *p, uint32_t slot, struct str msg)
{
	struct dns_client from = { .peer = ip_plus(ip_of("10.60.0.0"), slot), .port = 40000,
		.dst = ip_of("169.254.77.1"), .ifindex = 100 + slot };

	buf_reset(&p->reply);
	resolver_query(p->r, &from, msg, p->now);
}

void play_ask_at(
	struct play *p, uint32_t slot, const char *resolver, const char *name, uint16_t type)
{
	struct dns_client from = { .peer = ip_plus(ip_of("10.60.0.0"), slot),
		.port = (uint16_t)(1024 + p->n_sent_total++ % 60000), .dst = ip_of(resolver),
		.ifindex = 100 + slot };
	struct buf msg = BUF_MAX(512);
	struct dns_name n;

	assert_int_equal(dns_name_from(str_c(name), &n), 0);
	assert_int_equal(dns_put_query(&msg, 0x1234, &n, type, false, false), 0);
	buf_reset(&p->reply);
	resolver_query(p->r, &from, buf_str(&msg), p->now);
	buf_done(&msg);
}

void play_ask(struct play *p, uint32_t slot, const char *name, uint16_t type)
{
	play_ask_at(p, slot, "169.254.77.1", name, type);
}

static uint16_t type_of(struct str s)
{
	for (uint16_t t = 1; t < 260; t++)
		if (dns_type_name(t) && str_eq_c(s, dns_type_name(t)))
			return t;
	fail_msg("type " STR_FMT "?", STR_ARG(s));
	return 0;
}

void play_answer_build(
	struct play *p, size_t i, uint8_t rcode, const char *records, struct buf *out)
{
	struct play_sent *sent = &p->sent[i % PLAY_SENT_MAX];
	struct str list = str_c(records);
	uint16_t counts[2] = { 0, 0 };

	assert_true(sent->sent);
	buf_reset(out);
	dns_put_header(out, sent->q.id, DNS_QR | DNS_RD | DNS_RA | rcode, 0, 0, 0);
	dns_put_question(out, &sent->q.name, sent->q.type);
	while (list.n) {
		struct str rr = str_trim(str_cut(&list, ',')), owner = str_cut(&rr, ' ');
		uint16_t type = type_of(str_cut(&rr, ' '));
		struct dns_name name, target;
		uint64_t ttl;

		assert_int_equal(str_u64(str_cut(&rr, ' '), UINT32_MAX, &ttl), 0);
		assert_int_equal(dns_name_from(owner, &name), 0);
		counts[type == DNS_SOA]++;
		dns_put_rr(out, &name, 0, type, (uint32_t)ttl);
		if (type == DNS_A || type == DNS_AAAA) {
			uint8_t raw[16];
			char text[64];

			str_copy(text, sizeof(text), rr);
			assert_int_equal(
				inet_pton(type == DNS_A ? AF_INET : AF_INET6, text, raw), 1);
			buf_be16(out, type == DNS_A ? 4 : 16);
			buf_add(out, raw, type == DNS_A ? 4 : 16);
		} else if (type == DNS_TXT) {
			buf_be16(out, (uint16_t)(rr.n + 1));
			buf_u8(out, (uint8_t)rr.n);
			buf_add_str(out, rr);
		} else if (type == DNS_SOA) { /* the value is the minimum */
			uint64_t min;

			assert_int_equal(str_u64(rr, UINT32_MAX, &min), 0);
			buf_be16(out, 22);
			buf_be16(out, 0); /* two roots */
			for (int k = 0; k < 4; k++)
				buf_be32(out, 1);
			buf_be32(out, (uint32_t)min);
		} else if (type == DNS_CNAME) {
			assert_int_equal(dns_name_from(rr, &target), 0);
			buf_be16(out, target.n);
			dns_put_name(out, &target);
		} else {
			fail_msg("no values of this type here");
		}
	}
	dns_store16(out->p + 6, counts[0]);
	dns_store16(out->p + 8, counts[1]);
}

void play_answer(struct play *p, size_t i, uint8_t rcode, const char *records)
{
	struct buf msg = BUF_MAX(DNS_MSG_MAX);

	play_answer_build(p, i, rcode, records, &msg);
	buf_reset(&p->reply);
	resolver_answer(p->r, p->sent[i % PLAY_SENT_MAX].sock, buf_str(&msg), p->now);
	buf_done(&msg);
}

void play_wait(struct play *p, uint64_t ms)
{
	uint64_t end = p->now + ms * NS_PER_MS, next_sweep = p->now + RESOLVER_SWEEP_MS * NS_PER_MS;

	while (p->now < end) {
		p->now += MIN(RESOLVER_TICK_MS * NS_PER_MS, end - p->now);
		resolver_tick(p->r, p->now);
		if (p->now >= next_sweep) {
			resolver_sweep(p->r, p->now);
			next_sweep += RESOLVER_SWEEP_MS * NS_PER_MS;
		}
	}
}

/* --- reading replies --- */

const char *play_reply(struct play *p)
{
	static const char *const rcodes[] = {
		"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"};
	static char text[8192];
	const char *comma = "";
	struct dns_name name;
	uint16_t type, qclass;
	struct dns_walk w;
	struct dns_rr rr;
	size_t n;
	int r;

	if (p->reply.n == 0)
		return "silence";
	assert_int_equal(dns_walk_from(buf_str(&p->reply), &w), 0);
	assert_true(w.flags & DNS_QR);
	n = (size_t)snprintf(text, sizeof(text), "%s%s%s", w.flags & DNS_TC ? "TC " : "",
		w.flags & DNS_AD ? "AD " : "",
		(w.flags & 15) < 6 ? rcodes[w.flags & 15] : "?");
	if (w.left[0] == 0)
		return text;
	assert_int_equal(dns_walk_question(&w, &name, &type, &qclass), 0);
	while ((r = dns_walk_next(&w, &rr)) > 0) {
		char owner[DNS_TEXT_MAX], value[DNS_TEXT_MAX] = "";
		size_t k;

		if (rr.type == DNS_OPT)
			continue;
		assert_int_equal(dns_name_text(&rr.owner, owner, &k), 0);
		if (rr.type == DNS_A || rr.type == DNS_AAAA)
			inet_ntop(rr.type == DNS_A ? AF_INET : AF_INET6, rr.rdata.p, value,
				sizeof(value));
		else if (rr.type == DNS_CNAME || rr.type == DNS_PTR) {
			struct rd rd = rd_from(buf_str(&p->reply));
			struct dns_name target;

			rd_skip(&rd, (size_t)(rr.rdata.p - p->reply.p));
			assert_int_equal(dns_name_read(&rd, &target), 0);
			dns_name_text(&target, value, &k);
		} else if (rr.type == DNS_TXT) {
			snprintf(value, sizeof(value), STR_FMT, STR_ARG(str_skip(rr.rdata, 1)));
		}
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s %s %s %u%s%s",
			comma, owner, dns_type_name(rr.type), rr.ttl,
			value[0] ? " " : "", value);
		comma = ",";
	}
	assert_int_equal(r, 0);
	return text;
}

int play_reply_ede(struct play *p)
{
	struct dns_name name;
	uint16_t type, qclass;
	struct dns_walk w;
	struct dns_rr rr;

	assert_int_equal(dns_walk_from(buf_str(&p->reply), &w), 0);
	assert_int_equal(dns_walk_question(&w, &name, &type, &qclass), 0);
	while (dns_walk_next(&w, &rr) > 0)
		if (rr.type == DNS_OPT && rr.rdata.n >= 6 && dns_load16(rr.rdata.p) == 15)
			return dns_load16(rr.rdata.p + 4);
	return -1;
}

const struct play_pin *play_pin(struct play *p, uint32_t policy, const char *ip)
{
	return pin_find(p, policy, ip_of(ip));
}

int play_pin_verdict(struct play *p, uint32_t policy, const char *ip, uint8_t proto, uint16_t port)
{
	const struct play_pin *pin = play_pin(p, policy, ip);
	int best = -1, verdict = WEIR_DENY;

	if (!pin)
		return -1;
	if (pin->decision.ports & WEIR_PORTS_RANGE)
		return !!(pin->decision.ports & (weir_range_has(&pin->decision, proto, port) ?
			WEIR_PORTS_ALLOW : WEIR_PORTS_ELSE));
	if (!pin->decision.ports)
		return pin->decision.verdict;
	for (size_t i = 0; i < p->n_ports; i++) {
		const struct policy_port_entry *e = &p->ports[i];
		uint32_t mask = e->port_bits ? ~0u << (16 - e->port_bits) : 0;

		if (e->table != pin->decision.table || e->proto != proto ||
			((port ^ e->port) & mask & 0xffff) || e->port_bits <= best)
			continue;
		best = e->port_bits;
		verdict = e->value.verdict;
	}
	return verdict;
}
