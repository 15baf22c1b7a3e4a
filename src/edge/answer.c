/* Answers: see the header. */
#include "base/clock.h"
#include "edge/answer.h"
#include "policy/floor.h"

static bool is_proof(uint16_t type)
{
	return type == DNS_NSEC || type == DNS_NSEC3;
}

struct build {
	struct str msg;
	struct buf *out;
	struct answer *a; /* counters and offsets; body comes last */
	struct answer_addr addrs[ANSWER_ADDRS_MAX];
	uint16_t ttls[ANSWER_RECORDS_MAX];
};

/* Copy one record with its owner at owner_at (0: written out). 0 when there is no more room for
 * records, 1 when copied. */
static int add_rr(struct build *b, const struct dns_rr *rr, uint16_t owner_at, uint32_t ttl_max)
{
	uint32_t ttl = rr->ttl & 0x80000000u ? 0 : MIN(rr->ttl, ttl_max);
	size_t at = b->out->n;
	int r;

	if (b->a->n_ttls == ARRAY_SIZE(b->ttls))
		return 0;
	r = dns_put_rr(b->out, &rr->owner, owner_at, rr->type, ttl);
	if (r == 0)
		r = dns_put_rdata(b->out, b->msg, rr);
	if (r < 0)
		return r;
	if (owner_at)
		b->ttls[b->a->n_ttls++] = (uint16_t)(at + 6);
	else
		b->ttls[b->a->n_ttls++] = (uint16_t)(at + rr->owner.n + 4);
	b->a->ttl = MIN(b->a->ttl, ttl);
	return 1;
}

static int add_address(struct build *b, const struct dns_rr *rr, uint16_t owner_at)
{
	uint8_t family = rr->type == DNS_A ? 4 : 6;
	struct answer_addr *addr = &b->addrs[b->a->n_addrs];
	size_t at = b->out->n;
	int r;

	if (rr->rdata.n != ip_bits(family) / 8)
		return -EBADMSG;
	if (b->a->n_addrs == ANSWER_ADDRS_MAX)
		return 0;
	addr->ip = ip_raw(family, rr->rdata.p);
	if (addr->ip.family != family)
		return 0; /* an IPv4 address in IPv6 clothes has no business in an AAAA record */
	for (uint16_t i = 0; i < b->a->n_addrs; i++)
		if (ip_eq(b->addrs[i].ip, addr->ip))
			return 0;
	r = add_rr(b, rr, owner_at, ANSWER_TTL_MAX);
	if (r <= 0)
		return r;
	addr->is_private = policy_is_private(addr->ip);
	addr->at = (uint16_t)at;
	addr->n = (uint16_t)(b->out->n - at);
	b->a->n_addrs++;
	return 1;
}

/* Copy the records of one type that `owner` has, and their signatures. Returns how many. */
static int add_set(struct build *b, const struct dns_name *owner, uint16_t owner_at, uint16_t type,
	bool dnssec_ok)
{
	struct dns_name name;
	struct dns_walk w;
	struct dns_rr rr;
	uint16_t t, c;
	int r, n = 0;

	dns_walk_from(b->msg, &w);
	dns_walk_question(&w, &name, &t, &c);
	while ((r = dns_walk_next(&w, &rr)) > 0 && rr.section == 1) {
		bool signature = dnssec_ok && rr.type == DNS_RRSIG && rr.rdata.n > 18 &&
			dns_load16(rr.rdata.p) == type;

		if (rr.rclass != DNS_IN || (rr.type != type && !signature) ||
			!dns_name_eq(&rr.owner, owner))
			continue;
		if (type == DNS_A || type == DNS_AAAA)
			r = signature ? add_rr(b, &rr, owner_at, ANSWER_TTL_MAX) :
					add_address(b, &rr, owner_at);
		else
			r = add_rr(b, &rr, owner_at, ANSWER_TTL_MAX);
		if (r < 0)
			return r;
		n += r;
		/* The body may have gained a signature between addresses: harmless, nothing
		 * points behind the chain. */
		if (type == DNS_CNAME && r > 0 && !signature && !dnssec_ok)
			break;
	}
	if (r < 0)
		return r;
	b->a->n_answers = (uint16_t)(b->a->n_answers + n);
	return n;
}

/* The CNAME of `owner`: 1 and its target, 0 if there is none. */
static int find_cname(struct build *b, const struct dns_name *owner, struct dns_name *target)
{
	struct dns_name name;
	struct dns_walk w;
	struct dns_rr rr;
	uint16_t t, c;
	int r;

	dns_walk_from(b->msg, &w);
	dns_walk_question(&w, &name, &t, &c);
	while ((r = dns_walk_next(&w, &rr)) > 0 && rr.section == 1) {
		struct rd rd = rd_from(b->msg);

		if (rr.type != DNS_CNAME || rr.rclass != DNS_IN || !dns_name_eq(&rr.owner, owner))
			continue;
		rd_skip(&rd, (size_t)(rr.rdata.p - b->msg.p));
		r = dns_name_read(&rd, target);
		return r < 0 ? r : 1;
	}
	return r < 0 ? r : 0;
}

/* Authority: the SOA of a negative answer, and proofs for those who check them. */
static int add_authority(struct build *b, bool negative, bool dnssec_ok)
{
	struct dns_name name;
	struct dns_walk w;
	struct dns_rr rr;
	uint16_t t, c;
	bool soa = false;
	int r;

	dns_walk_from(b->msg, &w);
	dns_walk_question(&w, &name, &t, &c);
	while ((r = dns_walk_next(&w, &rr)) > 0 && rr.section < 3) {
		uint16_t covered = rr.type == DNS_RRSIG && rr.rdata.n > 18 ?
			dns_load16(rr.rdata.p) : rr.type;
		uint32_t ttl_max = ANSWER_TTL_MAX;

		if (rr.section != 2 || rr.rclass != DNS_IN)
			continue;
		if (!(negative && covered == DNS_SOA) && !(dnssec_ok && is_proof(covered)))
			continue;
		if (rr.type == DNS_RRSIG && !dnssec_ok)
			continue;
		if (rr.type == DNS_SOA) {
			if (soa || rr.rdata.n < 22)
				continue;
			soa = true;
			ttl_max = MIN(ANSWER_NEGATIVE_TTL_MAX,
				(uint32_t)dns_load16(rr.rdata.p + rr.rdata.n - 4) << 16 |
					dns_load16(rr.rdata.p + rr.rdata.n - 2));
		}
		r = add_rr(b, &rr, 0, ttl_max);
		if (r < 0)
			return r;
		b->a->n_authority = (uint16_t)(b->a->n_authority + r);
	}
	if (negative && !soa)
		b->a->ttl = 0; /* RFC 2308: without an SOA nobody said for how long */
	return MIN(r, 0);
}

static int build(struct build *b, const struct dns_name *question, uint16_t type, bool dnssec_ok)
{
	struct dns_name owner = *question, target;
	uint16_t owner_at = DNS_HEADER;
	unsigned int chain = 0;
	int r = 0, found;

	while (type != DNS_CNAME && (r = find_cname(b, &owner, &target)) > 0) {
		/* A CNAME's target stands at the end of its record, written out. */
		size_t at = b->out->n + b->a->base + 12;

		if (++chain > ANSWER_CHAIN_MAX)
			return -ELOOP;
		if (!owner_at)
			at += owner.n - 2u;
		r = add_set(b, &owner, owner_at, DNS_CNAME, dnssec_ok);
		if (r < 0)
			return r;
		owner = target;
		/* A signature may stand first; then the name is written out again instead. */
		owner_at = !dnssec_ok && at < 0x4000 ? (uint16_t)at : 0;
	}
	if (r < 0)
		return r;
	found = add_set(b, &owner, owner_at, type, dnssec_ok);
	if (found < 0)
		return found;
	return add_authority(b, found == 0, dnssec_ok);
}

int answer_from(struct str msg, const struct dns_name *name, uint16_t type, bool dnssec_ok,
	uint64_t now, struct buf *scratch, struct answer **ret)
{
	struct answer a = { .refs = 1, .ttl = ANSWER_TTL_MAX, .made = now };
	struct build b = { .msg = msg, .out = scratch, .a = &a };
	struct dns_name asked;
	uint16_t asked_type, asked_class;
	struct dns_walk w;
	struct answer *whole;
	int r;

	if (dns_walk_from(msg, &w) < 0 || !(w.flags & DNS_QR) || w.flags & DNS_OPCODE)
		return -EBADMSG;
	if (dns_walk_question(&w, &asked, &asked_type, &asked_class) < 0 || asked_type != type ||
		asked_class != DNS_IN || !dns_name_eq(&asked, name))
		return -EBADMSG;
	if ((uint32_t)w.left[1] + w.left[2] > ANSWER_RECORDS_MAX)
		return -EBADMSG;
	a.rcode = w.flags & DNS_RCODE;
	a.authentic = w.flags & DNS_AD;
	if (a.rcode != DNS_NOERROR && a.rcode != DNS_NXDOMAIN)
		return -EAGAIN;
	a.base = (uint16_t)(DNS_HEADER + name->n + 4);
	buf_reset(scratch);
	r = build(&b, name, type, dnssec_ok);
	if (r < 0)
		return r;
	if (scratch->n > DNS_MSG_MAX - a.base - 300u) /* our OPT must fit behind it */
		return -EBADMSG;
	a.body_n = (uint16_t)scratch->n;
	whole = malloc(sizeof(a) + a.n_addrs * sizeof(*a.addrs) + a.n_ttls * sizeof(*a.ttls) +
		a.body_n);
	if (!whole)
		return -ENOMEM;
	*whole = a;
	whole->addrs = (struct answer_addr *)(whole + 1);
	whole->ttls = (uint16_t *)(whole->addrs + a.n_addrs);
	whole->body = (uint8_t *)(whole->ttls + a.n_ttls);
	memcpy(whole->addrs, b.addrs, a.n_addrs * sizeof(*a.addrs));
	memcpy(whole->ttls, b.ttls, a.n_ttls * sizeof(*a.ttls));
	if (a.body_n)
		memcpy(whole->body, scratch->p, a.body_n);
	*ret = whole;
	return 0;
}

struct answer *answer_ref(struct answer *a)
{
	a->refs++;
	return a;
}

struct answer *answer_unref(struct answer *a)
{
	if (a && --a->refs == 0)
		free(a);
	return NULL;
}

static uint16_t response_flags(const struct dns_query *q)
{
	return (uint16_t)(DNS_QR | DNS_RA | (q->flags & (DNS_RD | DNS_CD)));
}

int answer_write(const struct answer *a, const struct dns_query *q, uint64_t now, uint64_t keep,
	size_t limit, int ede, struct str ede_text, struct buf *out)
{
	uint64_t age = now > a->made ? (now - a->made) / NS_PER_SEC : 0;
	uint16_t flags = response_flags(q) | a->rcode, answers = a->n_answers;
	bool whole = true;
	uint8_t *body;

	for (uint16_t i = 0; i < a->n_addrs; i++)
		if (!(keep >> i & 1)) {
			answers--;
			whole = false;
		}
	if (a->authentic && whole && (q->dnssec_ok || q->flags & DNS_AD))
		flags |= DNS_AD;
	buf_reset(out);
	dns_put_header(out, q->id, flags, answers, a->n_authority, q->edns ? 1 : 0);
	dns_put_question(out, &q->name, q->type);
	if (buf_room(out, a->body_n) < 0)
		return buf_failed(out);
	body = (uint8_t *)out->p + out->n;
	memcpy(body, a->body, a->body_n);
	for (uint16_t i = 0; i < a->n_ttls; i++) {
		uint8_t *at = body + a->ttls[i];
		uint32_t ttl = (uint32_t)dns_load16(at) << 16 | dns_load16(at + 2);

		dns_store32(at, ttl > age ? (uint32_t)(ttl - age) : 0);
	}
	out->n += a->body_n;
	for (uint16_t i = a->n_addrs; i-- > 0;) { /* from the back: offsets in front stay true */
		const struct answer_addr *gone = &a->addrs[i];
		uint8_t *end = (uint8_t *)out->p + out->n;

		if (keep >> i & 1)
			continue;
		memmove(body + gone->at, body + gone->at + gone->n,
			(size_t)(end - (body + gone->at + gone->n)));
		out->n -= gone->n;
	}
	if (q->edns)
		dns_put_opt(out, 0, q->dnssec_ok, ede, ede_text);
	if (!buf_failed(out) && out->n > limit)
		return answer_write_empty(q, a->rcode, true, DNS_EDE_NONE, STR_NONE, out);
	return buf_failed(out);
}

int answer_write_one(const struct dns_query *q, uint32_t ttl, struct str rdata, struct buf *out)
{
	buf_reset(out);
	dns_put_header(out, q->id, response_flags(q), 1, 0, q->edns ? 1 : 0);
	dns_put_question(out, &q->name, q->type);
	dns_put_rr(out, &q->name, DNS_HEADER, q->type, ttl);
	buf_be16(out, (uint16_t)rdata.n);
	buf_add_str(out, rdata);
	if (q->edns)
		dns_put_opt(out, 0, q->dnssec_ok, DNS_EDE_NONE, STR_NONE);
	return buf_failed(out);
}

int answer_write_empty(const struct dns_query *q, uint8_t rcode, bool truncated, int ede,
	struct str ede_text, struct buf *out)
{
	uint16_t flags = response_flags(q) | (rcode & DNS_RCODE) | (truncated ? DNS_TC : 0);

	if (rcode == DNS_NOTIMP)
		flags |= q->flags & DNS_OPCODE;
	buf_reset(out);
	dns_put_header(out, q->id, flags, 0, 0, q->edns ? 1 : 0);
	if (q->question_ok) {
		dns_put_name(out, &q->name);
		buf_be16(out, q->type);
		buf_be16(out, q->qclass);
	} else if (!buf_failed(out)) {
		dns_store16(out->p + 4, 0);
	}
	if (q->edns)
		dns_put_opt(out, (uint8_t)(rcode >> 4), q->dnssec_ok, ede, ede_text);
	return buf_failed(out);
}
