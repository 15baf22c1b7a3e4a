/*
 * What travels upstream and what is believed of what comes back: D1, D3, D8, D10, D14, D16,
 * time-outs.
 */
#include <netinet/in.h>
#include "edge/answer.h"
#include "play.h"

static struct play *world(const char *upstreams, const char *policy)
{
	struct play *p = play_new(&(struct play_conf){ .upstreams = upstreams });

	assert_int_equal(play_set(p, 1, 11, policy), 0);
	return p;
}

/* D1, D8: a name that may not be asked leaves no trace upstream, whatever its type and resolver. */
static void data_in_denied_names(void **state)
{
	static const uint16_t types[] = {
		DNS_A, DNS_AAAA, DNS_TXT, DNS_HTTPS, DNS_MX, DNS_NULL, DNS_ANY};
	struct play *p = world("9.9.9.9", "deny: allow h.test; allow 10.0.0.0/8");

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		play_ask(p, 1, "c2VjcmV0.evil.example", types[i]);
		assert_string_equal(play_reply(p), "NXDOMAIN");
		play_ask_at(p, 1, "8.8.8.8", "c2VjcmV0.evil.example", types[i]);
		assert_string_equal(play_reply(p), "NXDOMAIN");
		play_ask_at(
			p, 1, "9.9.9.9", "c2VjcmV0.evil.example", types[i]); /* D4: our upstream */
		assert_string_equal(play_reply(p), "NXDOMAIN");
	}
	assert_int_equal(p->n_sent, 0);
	play_ask(p, 1, "h.test", DNS_A); /* the control */
	assert_int_equal(p->n_sent, 1);
	play_free(p);
}

/* D1: nor do EDNS options and other extras of the client's message. */
static void options_do_not_travel(void **state)
{
	struct play *p = world("9.9.9.9", "deny: allow h.test");
	auto_buf struct buf msg = BUF_MAX(512);
	struct dns_name name;

	dns_name_from(STR("h.test"), &name);
	dns_put_header(&msg, 7, DNS_RD | DNS_AD | 0x0040, 0, 0, 1);
	dns_put_question(&msg, &name, DNS_A);
	buf_u8(&msg, 0);
	buf_be16(&msg, DNS_OPT);
	buf_be16(&msg, 4096);
	buf_be32(&msg, 0);
	buf_be16(&msg, 15);
	buf_be16(&msg, 8); /* client subnet */
	buf_be16(&msg, 11);
	buf_add(&msg, "\0\1\30\0secret!", 11);
	play_ask_raw(p, 1, buf_str(&msg));
	assert_int_equal(p->n_sent, 1);
	assert_int_not_equal(p->sent[0].q.id, 7); /* ids are ours; with this seed it is another */
	assert_int_equal(p->sent[0].q.flags, DNS_RD);
	assert_true(p->sent[0].q.edns);
	assert_int_equal(p->sent[0].q.udp_size, DNS_UDP_SIZE);
	play_answer(p, 0, DNS_NOERROR, "h.test A 60 192.0.2.1");
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 192.0.2.1");
	assert_int_equal(dns_load16(p->reply.p), 7);
	play_free(p);
}

/* D3: bytes that are no query. */
static void garbage(void **state)
{
	struct play *p = world("9.9.9.9", "allow:");

	play_ask_raw(p, 1, STR("GET / HTTP/1.0\r\n\r\n")); /* reads as an answer or nonsense */
	assert_int_equal(p->event.reason, WEIR_R_DNS_INVALID);
	play_ask_raw(p, 1, STR(""));
	assert_string_equal(play_reply(p), "silence");
	play_ask_raw(p, 1, STR("\0\1\1\0\0\2\0\0\0\0\0\0"));
	assert_string_equal(play_reply(p), "FORMERR");
	play_ask_raw(p, 1, STR("\0\1\200\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1")); /* an answer */
	assert_string_equal(play_reply(p), "silence");
	play_ask_raw(p, 1, STR("\0\1\50\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1")); /* an update */
	assert_string_equal(play_reply(p), "NOTIMP");
	play_ask_raw(p, 1, STR("\0\1\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1extra"));
	assert_string_equal(play_reply(p), "FORMERR");
	play_ask_raw(
		p, 1, STR("\0\1\1\0\0\1\0\0\0\0\0\0\300\14\0\1\0\1")); /* a pointer to itself */
	assert_string_equal(play_reply(p), "FORMERR");
	play_ask_raw(p, 1, STR("\0\1\1\0\0\1\0\0\0\0\0\0\1a\0\0\20\0\3")); /* CHAOS */
	assert_string_equal(play_reply(p), "REFUSED");
	play_ask_raw(p, 1, STR("\0\1\1\0\0\1\0\0\0\0\0\0\3a.b\4test\0\0\1\0\1")); /* a dot inside */
	assert_string_equal(play_reply(p), "REFUSED");
	play_ask_raw(
		p, 1, STR("\0\1\1\0\0\1\0\0\0\0\0\0\3a\0b\4test\0\0\1\0\1")); /* a NUL inside */
	assert_string_equal(play_reply(p), "REFUSED");
	play_ask(p, 1, "1.2.3.4", DNS_A);
	assert_string_equal(play_reply(p), "REFUSED");
	assert_int_equal(p->n_sent, 0);
	play_free(p);
}

/* D10 */
static void types_without_meaning(void **state)
{
	static const uint16_t refused[] = {
		0, DNS_NULL, DNS_OPT, 128, DNS_IXFR, DNS_AXFR, DNS_ANY, 249, 250, 65280, 65535};
	static const uint16_t asked[] = { DNS_TXT, DNS_HTTPS, DNS_SVCB, DNS_MX, DNS_SRV, DNS_CAA };
	struct play *p = world("9.9.9.9", "allow:");

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		play_ask(p, 1, "h.test", refused[i]);
		assert_string_equal(play_reply(p), "REFUSED");
		assert_int_equal(p->n_sent, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		play_ask(p, 1, "h.test", asked[i]);
		assert_int_equal(p->n_sent, i + 1);
	}
	play_answer(p, 0, DNS_NOERROR, "h.test TXT 60 hello");
	assert_string_equal(play_reply(p), "NOERROR h.test TXT 60 hello");
	play_free(p);
}

/* D10: a chain is followed, its addresses belong to the asked name; beyond a length it is not. */
static void chains(void **state)
{
	struct play *p = world("9.9.9.9", "deny: allow h.test");
	auto_buf struct buf records = BUF_MAX(4096);

	play_ask(p, 1, "h.test", DNS_A);
	play_answer(p, 0, DNS_NOERROR,
		"evil.example A 60 198.51.100.66, cdn.denied.example A 60 192.0.2.1, "
		"h.test CNAME 30 x.cdn.example, x.cdn.example CNAME 60 cdn.denied.example");
	assert_string_equal(play_reply(p), "NOERROR h.test CNAME 30 x.cdn.example, "
		"x.cdn.example CNAME 60 cdn.denied.example, cdn.denied.example A 60 192.0.2.1");
	assert_non_null(play_pin(p, 11, "192.0.2.1"));
	assert_null(play_pin(p, 11, "198.51.100.66")); /* nobody asked for it */
	play_ask(p, 1, "cdn.denied.example", DNS_A); /* its name stays denied */
	assert_string_equal(play_reply(p), "NXDOMAIN");
	play_free(p);

	p = world("9.9.9.9", "deny: allow h.test");
	play_ask(p, 1, "h.test", DNS_A);
	buf_add_c(&records, "h.test CNAME 60 n0.test");
	for (int i = 0; i < 30; i++)
		buf_fmt(&records, ", n%d.test CNAME 60 n%d.test", i, i + 1);
	play_answer(p, 0, DNS_NOERROR, buf_cstr(&records));
	assert_string_equal(play_reply(p), "SERVFAIL");
	play_ask(p, 1, "h.test", DNS_A);
	play_answer(
		p, 1, DNS_NOERROR, "h.test CNAME 60 a.test, a.test CNAME 60 h.test"); /* a circle */
	assert_string_equal(play_reply(p), "SERVFAIL");
	play_free(p);
}

static void negative_answers(void **state)
{
	struct play *p = world("9.9.9.9", "deny: allow *.test");

	play_ask(p, 1, "no.test", DNS_A);
	play_answer(p, 0, DNS_NXDOMAIN, "test SOA 3600 120");
	assert_string_equal(play_reply(p), "NXDOMAIN test SOA 120");
	play_wait(p, 100000);
	play_ask(p, 1, "no.test", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN test SOA 20");
	play_wait(p, 21000);
	play_ask(p, 1, "no.test", DNS_A);
	assert_int_equal(p->n_sent, 2);
	play_ask(p, 1, "empty.test", DNS_AAAA);
	play_answer(p, 2, DNS_NOERROR, ""); /* no SOA: not kept */
	assert_string_equal(play_reply(p), "NOERROR");
	play_ask(p, 1, "empty.test", DNS_AAAA);
	assert_int_equal(p->n_sent, 4);
	play_free(p);
}

/* D14 */
static void cases_and_dots(void **state)
{
	struct play *p = world("9.9.9.9", "deny: allow www.h.test");
	struct dns_name name;
	struct dns_walk w;
	uint16_t type, qclass;
	char text[DNS_TEXT_MAX];
	size_t n;

	play_ask(p, 1, "wWw.H.TeSt.", DNS_A);
	play_answer(p, 0, DNS_NOERROR, "www.h.test A 60 192.0.2.1");
	dns_walk_from(buf_str(&p->reply), &w);
	dns_walk_question(&w, &name, &type, &qclass);
	dns_name_text(&name, text, &n);
	assert_string_equal(text, "wWw.H.TeSt");
	assert_string_equal(play_reply(p), "NOERROR wWw.H.TeSt A 60 192.0.2.1");
	play_ask(p, 1, "WWW.h.test", DNS_A); /* cached, in this asker's cases */
	assert_string_equal(play_reply(p), "NOERROR WWW.h.test A 60 192.0.2.1");
	assert_int_equal(p->n_sent, 1);
	play_free(p);
}

static void truncation(void **state)
{
	struct play *p = world("9.9.9.9", "deny: allow h.test");
	auto_buf struct buf msg = BUF_MAX(DNS_MSG_MAX), records = BUF_MAX(8192);
	struct dns_client tcp = { .ifindex = 101, .tcp = true, .port = 9, .conn = 5 };

	play_ask(p, 1, "h.test", DNS_TXT);
	play_answer_build(p, 0, DNS_NOERROR, "", &msg);
	msg.p[2] = (char)(msg.p[2] | 0x02); /* TC */
	resolver_answer(p->r, 0, buf_str(&msg), p->now);
	assert_int_equal(p->n_sent, 2);
	assert_true(p->sent[1].tcp);
	assert_false(p->sent[0].open);
	for (int i = 0; i < 40; i++)
		buf_fmt(&records, "%sh.test TXT 60 %060d", i ? ", " : "", i);
	play_answer(p, 1, DNS_NOERROR, buf_cstr(&records));
	assert_string_equal(
		play_reply(p), "TC NOERROR"); /* 40 records exceed what UDP carries here */
	ip_from(STR("169.254.77.1"), &tcp.dst);
	buf_reset(&msg);
	{
		struct dns_name name;

		dns_name_from(STR("h.test"), &name);
		dns_put_query(&msg, 9, &name, DNS_TXT, false, false);
	}
	resolver_query(p->r, &tcp, buf_str(&msg), p->now);
	assert_int_equal(strncmp(play_reply(p), "NOERROR h.test TXT", 18), 0);
	assert_true(p->reply.n > 2000);
	play_free(p);
}

/* D16: who guesses the id, the question or the cases wrong is not heard. */
static void forged_answers(void **state)
{
	struct play *p = world("9.9.9.9", "deny: allow h.test");
	auto_buf struct buf good = BUF_MAX(2048), bad = BUF_MAX(2048);

	play_ask(p, 1, "h.test", DNS_A);
	play_answer_build(p, 0, DNS_NOERROR, "h.test A 60 198.51.100.66", &good);
	buf_add(&bad, good.p, good.n);
	bad.p[1] ^= 1; /* another id */
	resolver_answer(p->r, 0, buf_str(&bad), p->now);
	bad.p[1] ^= 1;
	resolver_answer(p->r, 1, buf_str(&bad), p->now); /* another socket */
	bad.p[13] = 'x'; /* another name */
	resolver_answer(p->r, 0, buf_str(&bad), p->now);
	assert_int_equal(p->n_replies, 0);
	assert_int_equal(resolver_stats(p->r)->mismatched, 3);
	bad.p[13] = good.p[13] ^ 0x20; /* the other case: asked again over TCP */
	resolver_answer(p->r, 0, buf_str(&bad), p->now);
	assert_int_equal(p->n_replies, 0);
	assert_int_equal(p->n_sent, 2);
	assert_true(p->sent[1].tcp);
	resolver_answer(p->r, 0, buf_str(&good), p->now); /* too late for that socket */
	assert_int_equal(p->n_replies, 0);
	play_answer(p, 1, DNS_NOERROR, "h.test A 60 192.0.2.1");
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 192.0.2.1");
	assert_int_equal(p->n_pins, 1);
	play_free(p);
}

static void ids_and_cases_vary(void **state)
{
	struct play *p = world("9.9.9.9", "deny: allow *.abcdefghijklmnop.test");
	unsigned int same_id = 0, same_cases = 0;

	for (size_t i = 0; i < 32; i++) {
		char name[64];

		snprintf(name, sizeof(name), "n%02zu.abcdefghijklmnop.test", i);
		play_ask(p, 1, name, DNS_A);
		if (i) {
			same_id += p->sent[i].q.id == p->sent[i - 1].q.id;
			same_cases += memcmp(p->sent[i].q.name.w + 5, p->sent[i - 1].q.name.w + 5,
					      16) == 0;
		}
		assert_int_equal(p->sent[i].sock, i); /* a socket of its own */
	}
	assert_true(same_id < 3 && same_cases < 3);
	play_free(p);
}

static void one_question_for_many(void **state)
{
	struct play *p = world("9.9.9.9", "deny: allow h.test");
	struct dns_client from = { .ifindex = 101, .port = 77 };

	for (uint32_t slot = 2; slot < 6; slot++)
		play_set(p, slot, 10 + slot, "deny: allow h.test");
	for (uint32_t slot = 1; slot < 6; slot++)
		play_ask(p, slot, "h.test", DNS_A);
	assert_int_equal(p->n_sent, 1);
	play_ask(p, 1, "H.test", DNS_A);
	assert_int_equal(p->n_sent, 1);
	play_answer(p, 0, DNS_NOERROR, "h.test A 60 192.0.2.1");
	assert_int_equal(p->n_replies, 6);
	assert_int_equal(p->n_pins, 5);
	(void)from;
	play_free(p);
}

static void silence_goes_to_the_next(void **state)
{
	struct play *p = world("9.9.9.9 8.8.4.4", "deny: allow *.test");

	play_ask(p, 1, "h.test", DNS_A);
	play_wait(p, 700);
	assert_int_equal(p->n_sent, 2);
	assert_string_equal(ip_text(p->sent[1].server.ip).s, "8.8.4.4");
	assert_true(p->sent[0].open); /* still heard */
	play_answer(p, 0, DNS_NOERROR, "h.test A 60 192.0.2.1");
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 192.0.2.1");
	assert_false(p->sent[0].open || p->sent[1].open);
	assert_int_equal(resolver_pending(p->r), 0);
	/* Nobody at all: five seconds, four tries, then an error. */
	play_ask(p, 1, "x.test", DNS_A);
	play_wait(p, 4500);
	assert_string_equal(play_reply(p), "silence");
	play_wait(p, 1000);
	assert_string_equal(play_reply(p), "SERVFAIL");
	assert_int_equal(play_reply_ede(p), DNS_EDE_UNREACHABLE);
	assert_int_equal(p->n_sent, 6);
	assert_int_equal(resolver_pending(p->r), 0);
	play_free(p);
}

static void a_dead_upstream_is_asked_last(void **state)
{
	struct play *p = world("9.9.9.9 8.8.4.4", "deny: allow *.test");
	char name[32];

	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "a%d.test", i);
		play_ask(p, 1, name, DNS_A);
		resolver_lost(p->r, p->sent[p->n_sent - 1].sock, p->now);
		assert_string_equal(ip_text(p->sent[p->n_sent - 1].server.ip).s, "8.8.4.4");
		play_answer(p, p->n_sent - 1, DNS_NOERROR, "");
	}
	play_ask(p, 1, "b.test", DNS_A);
	assert_string_equal(ip_text(p->sent[p->n_sent - 1].server.ip).s, "8.8.4.4");
	play_answer(p, p->n_sent - 1, DNS_NOERROR, "");
	play_wait(p, 11000);
	play_ask(p, 1, "c.test", DNS_A);
	assert_string_equal(ip_text(p->sent[p->n_sent - 1].server.ip).s, "9.9.9.9");
	play_free(p);
}

static void answered(struct play *p, const char *name, uint64_t after_ms)
{
	size_t before = p->n_sent;

	play_ask(p, 1, name, DNS_A);
	assert_int_equal(p->n_sent, before + 1);
	play_wait(p, after_ms);
	play_answer(p, before, DNS_NOERROR, "");
}

/* How long one dead of two holds up a name: 0.1 s, where answers usually take a few ms, and after
 * three such not at all. */
static void one_of_two_goes_silent(void **state)
{
	struct play *p = world("9.9.9.9 8.8.4.4", "deny: allow *.test");
	size_t before;
	char name[32];

	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "a%d.test", i);
		answered(p, name, 0);
		p->now += 5 * NS_PER_MS;
	}
	for (int i = 0; i < 3; i++) {
		before = p->n_sent;
		snprintf(name, sizeof(name), "b%d.test", i);
		play_ask(p, 1, name, DNS_A);
		play_wait(p, 50);
		assert_int_equal(p->n_sent, before + 1);
		play_wait(p, 100);
		assert_int_equal(p->n_sent, before + 2);
		assert_string_equal(ip_text(p->sent[before + 1].server.ip).s, "8.8.4.4");
		play_answer(p, before + 1, DNS_NOERROR, "");
	}
	answered(p, "c.test", 0);
	assert_string_equal(ip_text(p->sent[p->n_sent - 1].server.ip).s, "8.8.4.4");
	/* When its time has come one question tries it, others pass it by. */
	play_wait(p, 11000);
	before = p->n_sent;
	play_ask(p, 1, "d.test", DNS_A);
	play_ask(p, 1, "e.test", DNS_A);
	assert_string_equal(ip_text(p->sent[before].server.ip).s, "9.9.9.9");
	assert_string_equal(ip_text(p->sent[before + 1].server.ip).s, "8.8.4.4");
	play_answer(p, before + 1, DNS_NOERROR, "");
	play_wait(p, 150);
	assert_string_equal(ip_text(p->sent[before + 2].server.ip).s, "8.8.4.4");
	play_answer(p, before + 2, DNS_NOERROR, "");
	/* Still silent: now it rests for twice as long. */
	play_wait(p, 11000);
	answered(p, "f.test", 0);
	assert_string_equal(ip_text(p->sent[p->n_sent - 1].server.ip).s, "8.8.4.4");
	play_wait(p, 10000);
	answered(p, "g.test", 0); /* it is back, */
	assert_string_equal(ip_text(p->sent[p->n_sent - 1].server.ip).s, "9.9.9.9");
	answered(p, "h.test", 0); /* and first again */
	assert_string_equal(ip_text(p->sent[p->n_sent - 1].server.ip).s, "9.9.9.9");
	play_free(p);
}

/* Names that nobody answers, or only with an error, say nothing about a server that answers others. */
static void slow_names_are_no_dead_server(void **state)
{
	struct play *p = world("9.9.9.9 8.8.4.4", "deny: allow *.test");
	char name[32];

	for (int i = 0; i < 5; i++) {
		size_t before = p->n_sent;

		snprintf(name, sizeof(name), "slow%d.test", i);
		play_ask(p, 1, name, DNS_A);
		snprintf(name, sizeof(name), "bad%d.test", i);
		play_ask(p, 1, name, DNS_A);
		play_answer(p, before + 1, DNS_SERVFAIL, "");
		play_wait(p, 6000);
	}
	answered(p, "good.test", 0);
	assert_string_equal(ip_text(p->sent[p->n_sent - 1].server.ip).s, "9.9.9.9");
	play_free(p);
}

/* All are gone: the first questions take five seconds to fail, later ones about one. */
static void all_go_silent(void **state)
{
	struct play *p = world("9.9.9.9 8.8.4.4", "deny: allow *.test");

	play_ask(p, 1, "a.test", DNS_A);
	play_wait(p, 6000);
	play_ask(p, 1, "b.test", DNS_A);
	play_wait(p, 6000);
	assert_string_equal(play_reply(p), "SERVFAIL");
	play_ask(p, 1, "c.test", DNS_A);
	play_wait(p, 1000);
	assert_string_equal(play_reply(p), "silence");
	play_wait(p, 300);
	assert_string_equal(play_reply(p), "SERVFAIL");
	assert_int_equal(play_reply_ede(p), DNS_EDE_UNREACHABLE);
	play_ask(p, 1, "d.test", DNS_A); /* the first answer ends that */
	play_answer(p, p->n_sent - 1, DNS_NOERROR, "");
	play_ask(p, 1, "e.test", DNS_A);
	play_wait(p, 1500);
	assert_string_equal(play_reply(p), "silence");
	play_free(p);
}

static void servfail_tries_each_once(void **state)
{
	struct play *p = world("9.9.9.9 8.8.4.4", "deny: allow *.test");

	play_ask(p, 1, "h.test", DNS_A);
	play_answer(p, 0, DNS_SERVFAIL, "");
	assert_int_equal(p->n_sent, 2);
	play_answer(p, 1, DNS_REFUSED, "");
	assert_string_equal(play_reply(p), "SERVFAIL");
	assert_int_equal(p->n_sent, 2);
	p->refuse_open = true; /* no descriptors */
	play_ask(p, 1, "i.test", DNS_A);
	assert_string_equal(play_reply(p), "SERVFAIL");
	assert_int_equal(resolver_pending(p->r), 0);
	play_free(p);
}

/* A TXT record of `depth` pointers, each to the one before, then A records that the last one names. */
static const char *answer_of(unsigned int depth, unsigned int records)
{
	struct play *p = world("9.9.9.9", "allow:");
	auto_buf struct buf msg = BUF_MAX(DNS_MSG_MAX);
	size_t rdata, last = DNS_HEADER;
	static char reply[32];

	play_ask_at(p, 1, "198.51.100.53", "h.test", DNS_A);
	play_answer_build(p, 0, DNS_NOERROR, "h.test TXT 60 x", &msg);
	msg.n = DNS_HEADER + 8 + 4;
	buf_add(&msg, "\300\14\0\20\0\1\0\0\0\0\0\0", 12);
	rdata = msg.n;
	for (unsigned int i = 0; i < depth; i++) {
		size_t here = msg.n;

		buf_be16(&msg, (uint16_t)(0xc000 | last));
		last = here;
	}
	dns_store16(msg.p + rdata - 2, (uint16_t)(msg.n - rdata));
	for (unsigned int i = 0; i < records; i++) {
		buf_be16(&msg, (uint16_t)(0xc000 | last));
		buf_add(&msg, "\0\1\0\1\0\0\0\74\0\4\300\0\2\1", 14);
	}
	assert_int_equal(buf_failed(&msg), 0);
	dns_store16(msg.p + 6, (uint16_t)(1 + records));
	resolver_answer(p->r, p->sent[0].sock, buf_str(&msg), p->now);
	snprintf(reply, sizeof(reply), "%.*s", 16, play_reply(p));
	play_free(p);
	return reply;
}

/* A resolver that the sandbox runs itself makes every record as dear as it can; one answer may not
 * hold up the neighbours. Either bound refuses alone what the other one would let through. */
static void dear_answers(void **state)
{
	assert_string_equal(answer_of(63, 8), "NOERROR h.test A");
	assert_string_equal(answer_of(64, 8), "SERVFAIL"); /* the last one's name makes 65 */
	assert_string_equal(answer_of(0, ANSWER_RECORDS_MAX - 1), "NOERROR h.test A");
	assert_string_equal(answer_of(0, ANSWER_RECORDS_MAX), "SERVFAIL");
}

static void time_to_live_runs_down(void **state)
{
	struct play *p = world("9.9.9.9", "deny: allow h.test");

	play_ask(p, 1, "h.test", DNS_A);
	play_answer(p, 0, DNS_NOERROR, "h.test A 60 192.0.2.1, h.test A 90 192.0.2.2");
	play_wait(p, 20500);
	play_ask(p, 1, "h.test", DNS_A);
	assert_string_equal(play_reply(p), "NOERROR h.test A 40 192.0.2.1, h.test A 70 192.0.2.2");
	play_wait(p, 40000);
	play_ask(p, 1, "h.test", DNS_A);
	assert_int_equal(p->n_sent, 2);
	play_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_in_denied_names),
		cmocka_unit_test(options_do_not_travel),
		cmocka_unit_test(garbage),
		cmocka_unit_test(types_without_meaning),
		cmocka_unit_test(chains),
		cmocka_unit_test(negative_answers),
		cmocka_unit_test(cases_and_dots),
		cmocka_unit_test(truncation),
		cmocka_unit_test(forged_answers),
		cmocka_unit_test(ids_and_cases_vary),
		cmocka_unit_test(one_question_for_many),
		cmocka_unit_test(silence_goes_to_the_next),
		cmocka_unit_test(a_dead_upstream_is_asked_last),
		cmocka_unit_test(one_of_two_goes_silent),
		cmocka_unit_test(slow_names_are_no_dead_server),
		cmocka_unit_test(all_go_silent),
		cmocka_unit_test(servfail_tries_each_once),
		cmocka_unit_test(dear_answers),
		cmocka_unit_test(time_to_live_runs_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
