/*
 * Any bytes as a DNS message. Properties: reading ends; a query we accept reads back the same after
 * we have written it; a record's rdata, once written out, is a fixed point of writing it out; a
 * name with a text comes back from that text.
 */
#include "wire/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void check_name(const struct dns_name *name)
{
	char text[DNS_TEXT_MAX];
	struct dns_name back;
	struct rd rd = rd_from(str_n(name->w, name->n));
	size_t n;

	check(dns_name_read(&rd, &back) == 0 && rd_left(&rd) == 0 && dns_name_eq(name, &back));
	if (dns_name_text(name, text, &n) < 0)
		return;
	check(n < DNS_TEXT_MAX && strlen(text) == n);
	check(dns_name_from(str_n(text, n), &back) == 0 && back.n == name->n &&
		memcmp(back.w, name->w, name->n) == 0);
}

static void check_query(struct str msg)
{
	struct buf out = BUF_MAX(1024);
	struct dns_query q, back;

	if (dns_query_read(msg, &q) < 0) {
		check(!q.header_ok || q.rcode != DNS_NOERROR);
		return;
	}
	check_name(&q.name);
	check(dns_put_query(&out, q.id, &q.name, q.type, q.dnssec_ok, q.flags & DNS_CD) == 0);
	check(dns_query_read(buf_str(&out), &back) == 0);
	check(back.id == q.id && back.type == q.type && back.dnssec_ok == q.dnssec_ok &&
		dns_name_eq(&back.name, &q.name));
	buf_done(&out);
}

/* A message of this record alone, its rdata written out. */
static int alone(struct str msg, const struct dns_rr *rr, struct buf *out)
{
	buf_reset(out);
	dns_put_header(out, 1, DNS_QR, 1, 0, 0);
	dns_put_question(out, &rr->owner, rr->type);
	dns_put_rr(out, &rr->owner, DNS_HEADER, rr->type, rr->ttl);
	return dns_put_rdata(out, msg, rr);
}

static void check_record(struct str msg, const struct dns_rr *rr)
{
	struct buf once = BUF_MAX(1u << 18), twice = BUF_MAX(1u << 18);
	struct dns_name name;
	uint16_t type, qclass;
	struct dns_walk w;
	struct dns_rr back;

	check_name(&rr->owner);
	if (alone(msg, rr, &once) == 0) {
		check(dns_walk_from(buf_str(&once), &w) == 0);
		check(dns_walk_question(&w, &name, &type, &qclass) == 0);
		check(dns_walk_next(&w, &back) == 1 && back.type == rr->type &&
			back.ttl == rr->ttl);
		check(dns_name_eq(&back.owner, &rr->owner));
		check(dns_walk_next(&w, &back) == 0);
		dns_walk_from(buf_str(&once), &w);
		dns_walk_question(&w, &name, &type, &qclass);
		dns_walk_next(&w, &back);
		check(alone(buf_str(&once), &back, &twice) == 0);
		check(str_eq(buf_str(&once), buf_str(&twice)));
	}
	buf_done(&once);
	buf_done(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str msg = str_n(data, size);
	struct dns_name name;
	uint16_t type, qclass;
	struct dns_walk w;
	struct dns_rr rr;

	check_query(msg);
	if (dns_walk_from(msg, &w) < 0 || dns_walk_question(&w, &name, &type, &qclass) < 0)
		return 0;
	check_name(&name);
	for (int i = 0; i < 1000 && dns_walk_next(&w, &rr) > 0; i++)
		check_record(msg, &rr);
	return 0;
}
