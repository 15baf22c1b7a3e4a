/* DNS messages: names, queries, records, and what is written. */
#include "wire/dns.h"
#include "../unit.h"

static struct rd at(struct str msg, size_t pos)
{
	struct rd rd = rd_from(msg);

	rd_skip(&rd, pos);
	return rd;
}

static void names(void **state)
{
	struct str msg =
		STR("\3www\7Example\3com\0" /* 0 */ "\1a\300\4" /* 17 */ "\300\21" /* 21 */);
	struct dns_name a, b;
	char text[DNS_TEXT_MAX];
	struct rd rd = at(msg, 0);
	size_t n;

	assert_int_equal(dns_name_read(&rd, &a), 0);
	assert_int_equal(rd_pos(&rd), 17);
	assert_int_equal(dns_name_text(&a, text, &n), 0);
	assert_string_equal(text, "www.Example.com");
	assert_int_equal(n, 15);
	assert_int_equal(dns_name_from(STR("WWW.example.com."), &b), 0);
	assert_true(dns_name_eq(&a, &b));
	rd = at(msg, 21); /* through two pointers */
	assert_int_equal(dns_name_read(&rd, &a), 0);
	assert_int_equal(rd_pos(&rd), 23);
	dns_name_text(&a, text, &n);
	assert_string_equal(text, "a.Example.com");
	assert_false(dns_name_eq(&a, &b));
}

static void names_that_never_end(void **state)
{
	static const struct {
		const char *p;
		size_t n, pos;
	} bad[] = {
		{ "\300\0", 2, 0 },		/* itself */
		{ "\1a\300\0", 4, 0 },		/* its own start */
		{ "\300\2\300\0", 4, 2 },	/* a circle */
		{ "\300\5\0\0\0\0", 6, 0 },	/* forwards */
		{ "\3ab", 3, 0 },		/* cut short */
		{ "\1a", 2, 0 },		/* no end */
		{ "\300", 1, 0 },		/* half a pointer */
		{ "\100a", 2, 0 },		/* reserved label types */
		{ "\200a", 2, 0 },
	};
	struct dns_name name;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct rd rd = at(str_n(bad[i].p, bad[i].n), bad[i].pos);

		assert_int_equal(dns_name_read(&rd, &name), -EBADMSG);
		assert_true(rd_failed(&rd));
	}
}

/* Whoever answers may write pointers to pointers to pointers, thousands for every record. */
static void pointers_to_pointers(void **state)
{
	uint8_t msg[1 + 2 * 65];
	struct dns_name name;
	struct rd rd;

	msg[0] = 0;
	for (size_t i = 0; i < 65; i++) {
		msg[1 + 2 * i] = 0xc0;
		msg[2 + 2 * i] = (uint8_t)(i ? 2 * i - 1 : 0);
	}
	rd = at(str_n(msg, sizeof(msg)), 1 + 2 * 63);
	assert_int_equal(dns_name_read(&rd, &name), 0); /* 64 of them */
	rd = at(str_n(msg, sizeof(msg)), 1 + 2 * 64);
	assert_int_equal(dns_name_read(&rd, &name), -EBADMSG);
}

static void name_lengths(void **state)
{
	char text[300];
	struct dns_name name;
	struct rd rd;

	memset(text, 'a', sizeof(text));
	for (size_t i = 63; i < sizeof(text); i += 64)
		text[i] = '.';
	assert_int_equal(dns_name_from(str_n(text, 253), &name), 0);
	assert_int_equal(name.n, 255);
	rd = rd_from(str_n(name.w, name.n));
	assert_int_equal(dns_name_read(&rd, &name), 0);
	assert_int_equal(dns_name_from(str_n(text, 254), &name), -EINVAL);
	assert_int_equal(dns_name_from(STR("a..b"), &name), -EINVAL);
	assert_int_equal(dns_name_from(STR(".a"), &name), -EINVAL);
	assert_int_equal(dns_name_from(STR(""), &name), 0);
	assert_int_equal(name.n, 1);
	/* 255 is the end on the wire too: four labels of 63, then one of 1. */
	memset(text, 'a', sizeof(text));
	text[0] = text[64] = text[128] = text[192] = 63;
	text[256] = 1;
	text[258] = 0;
	rd = rd_from(str_n(text, 259));
	assert_int_equal(dns_name_read(&rd, &name), -EBADMSG);
}

static void names_without_text(void **state)
{
	static const char *const odd[] = { "\3a.b", "\3a b", "\3a\\b", "\3a\177b", "\3a\377b" };
	char text[DNS_TEXT_MAX];
	struct dns_name name;
	struct rd rd;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		rd = rd_from(str_n(odd[i], 5));
		assert_int_equal(dns_name_read(&rd, &name), 0);
		assert_int_equal(dns_name_text(&name, text, &n), -EINVAL);
	}
	rd = rd_from(STR("\3a\0b\0"));
	assert_int_equal(dns_name_read(&rd, &name), 0);
	assert_int_equal(dns_name_text(&name, text, &n), -EINVAL);
}

static void queries(void **state)
{
	auto_buf struct buf out = BUF_MAX(512);
	struct dns_name name;
	struct dns_query q;

	dns_name_from(STR("h.test"), &name);
	assert_int_equal(dns_put_query(&out, 77, &name, DNS_AAAA, true, true), 0);
	assert_int_equal(dns_query_read(buf_str(&out), &q), 0);
	assert_int_equal(q.id, 77);
	assert_int_equal(q.type, DNS_AAAA);
	assert_int_equal(q.qclass, DNS_IN);
	assert_true(q.edns && q.dnssec_ok && q.flags & DNS_CD);
	assert_int_equal(q.udp_size, DNS_UDP_SIZE);
	assert_true(dns_name_eq(&q.name, &name));
	for (size_t n = 0; n < out.n; n++) /* every shorter one is refused */
		assert_int_equal(dns_query_read(str_n(out.p, n), &q), -EBADMSG);
	out.p[out.n - 6] = 1; /* EDNS version 1 */
	out.p[out.n - 5] = 1;
	assert_int_equal(dns_query_read(buf_str(&out), &q), -EBADMSG);
	assert_int_equal(q.rcode, DNS_BADVERS);
	assert_true(q.header_ok && q.question_ok && q.edns);
}

/* One record whose rdata is `in`, copied to a fresh message; what comes out. */
static struct str rdata_through(
	uint16_t type, struct str in, struct buf *msg, struct buf *out, int *ret)
{
	struct dns_name name, asked;
	uint16_t t, c;
	struct dns_walk w;
	struct dns_rr rr;

	buf_reset(msg);
	buf_reset(out);
	dns_name_from(STR("h.test"), &name);
	dns_put_header(msg, 1, DNS_QR, 1, 0, 0);
	dns_put_question(msg, &name, type);
	dns_put_rr(msg, &name, DNS_HEADER, type, 60);
	buf_be16(msg, (uint16_t)in.n);
	buf_add_str(msg, in);
	assert_int_equal(dns_walk_from(buf_str(msg), &w), 0);
	assert_int_equal(dns_walk_question(&w, &asked, &t, &c), 0);
	assert_int_equal(dns_walk_next(&w, &rr), 1);
	assert_true(dns_name_eq(&rr.owner, &name));
	*ret = dns_put_rdata(out, buf_str(msg), &rr);
	assert_int_equal(dns_walk_next(&w, &rr), 0);
	return out->n >= 2 ? str_n(out->p + 2, out->n - 2) : STR_NONE;
}

static void rdata_is_written_out(void **state)
{
	auto_buf struct buf msg = BUF_MAX(2048), out = BUF_MAX(2048);
	int r;
	struct str s = rdata_through(DNS_MX, STR("\0\12\4mail\300\14"), &msg, &out, &r);

	assert_int_equal(r, 0);
	assert_true(str_eq(s, STR("\0\12\4mail\1h\4test\0")));
	s = rdata_through(DNS_TXT, STR("\2hi"), &msg, &out, &r);
	assert_true(r == 0 && str_eq(s, STR("\2hi")));
	rdata_through(DNS_CNAME, STR("\300\14x"), &msg, &out, &r); /* bytes after the name */
	assert_int_equal(r, -EBADMSG);
	rdata_through(DNS_CNAME, STR("\4mail"), &msg, &out, &r);
	assert_int_equal(r, -EBADMSG);
	rdata_through(DNS_SOA, STR("\300\14"), &msg, &out, &r);
	assert_int_equal(r, -EBADMSG);
	rdata_through(DNS_SRV, STR("\0\1\0"), &msg, &out, &r);
	assert_int_equal(r, -EBADMSG);
}

/* Hints and ECH leave, and so does their mention in the mandatory list. */
static void service_bindings(void **state)
{
	auto_buf struct buf msg = BUF_MAX(2048), out = BUF_MAX(2048);
	int r;
	struct str s = rdata_through(DNS_HTTPS,
		STR("\0\1\0"
		    "\0\0\0\6\0\1\0\4\0\5"		/* mandatory alpn, ipv4hint, ech */
		    "\0\1\0\3\2h2"			/* alpn h2 */
		    "\0\4\0\4\12\1\1\1"			/* ipv4hint */
		    "\0\5\0\2xx"			/* ech */
		    "\0\6\0\20aaaaaaaaaaaaaaaa"),	/* ipv6hint */
		&msg, &out, &r);

	assert_int_equal(r, 0);
	assert_true(str_eq(s, STR("\0\1\0\0\0\0\2\0\1\0\1\0\3\2h2")));
	s = rdata_through(DNS_HTTPS, STR("\0\1\0\0\0\0\2\0\5\0\5\0\1x"), &msg, &out, &r);
	assert_true(r == 0 && str_eq(s, STR("\0\1\0")));
	rdata_through(DNS_HTTPS, STR("\0\1\0\0\5\0\1x\0\4\0\0"), &msg, &out, &r); /* descending */
	assert_int_equal(r, -EBADMSG);
	rdata_through(DNS_HTTPS, STR("\0\1\0\0\1\0\11x"), &msg, &out, &r); /* too long */
	assert_int_equal(r, -EBADMSG);
	rdata_through(DNS_SVCB, STR("\0\1\0\0\0\0\3\0\1\0"), &msg, &out, &r); /* half a key */
	assert_int_equal(r, -EBADMSG);
}

static void extended_errors(void **state)
{
	auto_buf struct buf out = BUF_MAX(512);

	assert_int_equal(dns_put_opt(&out, 1, true, DNS_EDE_BLOCKED, STR("no")), 0);
	assert_true(str_eq(buf_str(&out), STR("\0\0\51\4\320\1\0\200\0\0\10\0\17\0\4\0\17no")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(names_that_never_end),
		cmocka_unit_test(pointers_to_pointers),
		cmocka_unit_test(name_lengths),
		cmocka_unit_test(names_without_text),
		cmocka_unit_test(queries),
		cmocka_unit_test(rdata_is_written_out),
		cmocka_unit_test(service_bindings),
		cmocka_unit_test(extended_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
