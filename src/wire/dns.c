/* DNS messages: see the header. Readers first, then writers. */
#include "wire/dns.h"

#define LABEL_MAX  63u
#define POINTER	   0xc0u
#define OPT_DO	   0x8000u
#define JUMPS_MAX  64u /* pointers in one name: more than any label count honest senders nest */
#define SOA_NUMBERS 20u /* bytes behind the two names */

/* --- names --- */

int dns_name_read(struct rd *rd, struct dns_name *ret)
{
	const uint8_t *msg = rd->start;
	size_t limit = rd_pos(rd); /* pointers must aim below this, ever lower */
	struct rd at = *rd;
	bool jumped = false;
	unsigned int jumps = 0;
	size_t n = 0;

	for (;;) {
		uint8_t len = rd_u8(&at);

		if (rd_failed(&at))
			break;
		if ((len & POINTER) == POINTER) {
			size_t target = (size_t)(len & ~POINTER) << 8 | rd_u8(&at);

			if (rd_failed(&at) || target >= limit || ++jumps > JUMPS_MAX)
				break;
			if (!jumped)
				*rd = at;
			jumped = true;
			limit = target;
			at.p = msg + target;
			continue;
		}
		if (len > LABEL_MAX || n + len + 1 > DNS_NAME_MAX)
			break;
		ret->w[n++] = len;
		if (len == 0) {
			ret->n = (uint8_t)n;
			if (!jumped)
				*rd = at;
			return 0;
		}
		const uint8_t *label = rd_take(&at, len);

		if (!label)
			break;
		memcpy(ret->w + n, label, len);
		n += len;
		if (n >= DNS_NAME_MAX) /* no room for the final zero */
			break;
	}
	rd->bad = true;
	return -EBADMSG;
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

bool dns_name_eq(const struct dns_name *a, const struct dns_name *b)
{
	if (a->n != b->n)
		return false;
	if (memcmp(a->w, b->w, a->n) == 0)
		return true;
	for (size_t i = 0; i < a->n; i++) /* lengths are below 'A': folding leaves them alone */
		if (lower(a->w[i]) != lower(b->w[i]))
			return false;
	return true;
}

int dns_name_text(const struct dns_name *name, char text[DNS_TEXT_MAX], size_t *ret_n)
{
	size_t at = 0, n = 0;

	while (at < name->n && name->w[at]) {
		uint8_t len = name->w[at++];

		if (n)
			text[n++] = '.';
		for (uint8_t i = 0; i < len; i++) {
			uint8_t c = name->w[at++];

			if (c <= ' ' || c >= 0x7f || c == '.' || c == '\\')
				return -EINVAL;
			text[n++] = (char)c;
		}
	}
	text[n] = '\0';
	*ret_n = n;
	return 0;
}

int dns_name_from(struct str text, struct dns_name *ret)
{
	size_t n = 0;

	if (text.n && text.p[text.n - 1] == '.')
		text.n--;
	while (text.n) {
		struct str label = str_cut(&text, '.');

		if (label.n == 0 || label.n > LABEL_MAX || n + 1 + label.n + 1 > DNS_NAME_MAX)
			return -EINVAL;
		ret->w[n++] = (uint8_t)label.n;
		memcpy(ret->w + n, label.p, label.n);
		n += label.n;
		if (text.p && text.n == 0)
			return -EINVAL; /* "a.." */
	}
	ret->w[n++] = 0;
	ret->n = (uint8_t)n;
	return 0;
}

/* --- reading --- */

static int query_fail(struct dns_query *q, uint8_t rcode)
{
	q->rcode = rcode;
	return -EBADMSG;
}

int dns_query_read(struct str msg, struct dns_query *q)
{
	struct rd rd = rd_from(msg);
	uint16_t questions, answers, authority, additional;

	q->header_ok = q->question_ok = q->edns = q->dnssec_ok = false;
	q->rcode = DNS_NOERROR;
	q->udp_size = DNS_PLAIN_MAX;
	q->id = rd_be16(&rd);
	q->flags = rd_be16(&rd);
	questions = rd_be16(&rd);
	answers = rd_be16(&rd);
	authority = rd_be16(&rd);
	additional = rd_be16(&rd);
	if (rd_failed(&rd) || q->flags & DNS_QR) /* never answer an answer */
		return query_fail(q, DNS_FORMERR);
	q->header_ok = true;
	if (q->flags & DNS_OPCODE)
		return query_fail(q, DNS_NOTIMP);
	if (questions != 1 || answers || authority || additional > 1 || q->flags & DNS_TC)
		return query_fail(q, DNS_FORMERR);
	dns_name_read(&rd, &q->name);
	q->type = rd_be16(&rd);
	q->qclass = rd_be16(&rd);
	if (rd_failed(&rd))
		return query_fail(q, DNS_FORMERR);
	q->question_ok = true;
	if (additional) {
		uint8_t root = rd_u8(&rd);
		uint16_t type = rd_be16(&rd), size = rd_be16(&rd), high = rd_be16(&rd);
		uint16_t flags = rd_be16(&rd), length = rd_be16(&rd);

		rd_skip(&rd, length); /* options: none is kept, none travels on */
		if (rd_failed(&rd) || root != 0 || type != DNS_OPT)
			return query_fail(q, DNS_FORMERR);
		q->edns = true;
		q->dnssec_ok = flags & OPT_DO;
		q->udp_size = MAX(size, DNS_PLAIN_MAX);
		if ((high & 0xff) != 0) /* the version */
			return query_fail(q, DNS_BADVERS);
	}
	if (rd_left(&rd))
		return query_fail(q, DNS_FORMERR);
	return 0;
}

int dns_walk_from(struct str msg, struct dns_walk *w)
{
	w->rd = rd_from(msg);
	w->id = rd_be16(&w->rd);
	w->flags = rd_be16(&w->rd);
	for (size_t i = 0; i < ARRAY_SIZE(w->left); i++)
		w->left[i] = rd_be16(&w->rd);
	w->section = 0;
	return rd_failed(&w->rd) ? -EBADMSG : 0;
}

int dns_walk_question(struct dns_walk *w, struct dns_name *name, uint16_t *type, uint16_t *qclass)
{
	if (w->left[0] != 1)
		return -EBADMSG;
	w->left[0] = 0;
	w->section = 1;
	if (dns_name_read(&w->rd, name) < 0)
		return -EBADMSG;
	*type = rd_be16(&w->rd);
	*qclass = rd_be16(&w->rd);
	return rd_failed(&w->rd) ? -EBADMSG : 0;
}

int dns_walk_next(struct dns_walk *w, struct dns_rr *rr)
{
	while (w->section < ARRAY_SIZE(w->left) && w->left[w->section] == 0)
		w->section++;
	if (w->section >= ARRAY_SIZE(w->left))
		return 0;
	if (w->section == 0)
		return -EBADMSG; /* the question comes first */
	w->left[w->section]--;
	rr->section = w->section;
	if (dns_name_read(&w->rd, &rr->owner) < 0)
		return -EBADMSG;
	rr->type = rd_be16(&w->rd);
	rr->rclass = rd_be16(&w->rd);
	rr->ttl = rd_be32(&w->rd);
	rr->rdata = rd_str(&w->rd, rd_be16(&w->rd));
	return rd_failed(&w->rd) ? -EBADMSG : 1;
}

/* --- writing --- */

int dns_put_header(struct buf *out, uint16_t id, uint16_t flags, uint16_t answers,
	uint16_t authority, uint16_t additional)
{
	buf_be16(out, id);
	buf_be16(out, flags);
	buf_be16(out, 1);
	buf_be16(out, answers);
	buf_be16(out, authority);
	return buf_be16(out, additional);
}

int dns_put_name(struct buf *out, const struct dns_name *name)
{
	return buf_add(out, name->w, name->n);
}

int dns_put_question(struct buf *out, const struct dns_name *name, uint16_t type)
{
	dns_put_name(out, name);
	buf_be16(out, type);
	return buf_be16(out, DNS_IN);
}

int dns_put_rr(struct buf *out, const struct dns_name *owner, uint16_t owner_at, uint16_t type,
	uint32_t ttl)
{
	if (owner_at && owner_at < POINTER << 8)
		buf_be16(out, (uint16_t)(POINTER << 8 | owner_at));
	else
		dns_put_name(out, owner);
	buf_be16(out, type);
	buf_be16(out, DNS_IN);
	return buf_be32(out, ttl);
}

/* Where names stand inside the rdata of a type: fixed bytes before the first, how many names.
 * What follows them is copied; only SOA and RRSIG have such. */
struct rdata_form {
	uint8_t before, names;
	bool strings; /* three character strings come between (NAPTR) */
};

static struct rdata_form rdata_form(uint16_t type)
{
	switch (type) {
	case DNS_NS:
	case DNS_CNAME:
	case DNS_PTR:
	case DNS_DNAME:
		return (struct rdata_form){ .names = 1 };
	case DNS_SOA:
	case DNS_RP:
		return (struct rdata_form){ .names = 2 };
	case DNS_MX:
	case DNS_AFSDB:
		return (struct rdata_form){ .before = 2, .names = 1 };
	case DNS_SRV:
		return (struct rdata_form){ .before = 6, .names = 1 };
	case DNS_NAPTR:
		return (struct rdata_form){ .before = 4, .names = 1, .strings = true };
	case DNS_RRSIG:
		return (struct rdata_form){ .before = 18, .names = 1 };
	default:
		return (struct rdata_form){ 0 };
	}
}

static bool svc_key_goes(uint16_t key)
{
	return key == DNS_SVC_ECH || key == DNS_SVC_IPV4HINT || key == DNS_SVC_IPV6HINT;
}

/* The mandatory list without the keys that go; without any left the parameter goes too. */
static int put_svc_mandatory(struct buf *out, struct rd keys)
{
	size_t at = out->n;

	buf_be16(out, DNS_SVC_MANDATORY);
	buf_be16(out, 0);
	while (rd_left(&keys)) {
		uint16_t key = rd_be16(&keys);

		if (!svc_key_goes(key))
			buf_be16(out, key);
	}
	if (rd_failed(&keys))
		return -EBADMSG;
	if (buf_failed(out))
		return buf_failed(out);
	if (out->n == at + 4)
		out->n = at;
	else
		dns_store16(out->p + at + 2, (uint16_t)(out->n - at - 4));
	return 0;
}

static int put_svcb(struct buf *out, struct rd *rd, size_t end)
{
	struct dns_name target;
	int last = -1;

	buf_be16(out, rd_be16(rd)); /* priority */
	if (dns_name_read(rd, &target) < 0)
		return -EBADMSG;
	dns_put_name(out, &target);
	while (!rd_failed(rd) && rd_pos(rd) < end) {
		uint16_t key = rd_be16(rd);
		struct str value = rd_str(rd, rd_be16(rd));

		if (rd_failed(rd) || rd_pos(rd) > end || key <= last) /* keys ascend */
			return -EBADMSG;
		last = key;
		if (key == DNS_SVC_MANDATORY) {
			int r = put_svc_mandatory(out, rd_from(value));

			if (r < 0)
				return r;
		} else if (!svc_key_goes(key)) {
			buf_be16(out, key);
			buf_be16(out, (uint16_t)value.n);
			buf_add_str(out, value);
		}
	}
	return 0;
}

int dns_put_rdata(struct buf *out, struct str msg, const struct dns_rr *rr)
{
	struct rdata_form form = rdata_form(rr->type);
	struct rd rd = rd_from(msg);
	size_t at = out->n, end;
	struct dns_name name;
	int r;

	rd_skip(&rd, (size_t)(rr->rdata.p - msg.p));
	end = rd_pos(&rd) + rr->rdata.n;
	buf_be16(out, 0);
	if (rr->type == DNS_SVCB || rr->type == DNS_HTTPS) {
		r = put_svcb(out, &rd, end);
		if (r < 0)
			return r;
	} else {
		buf_add_str(out, rd_str(&rd, MIN((size_t)form.before, rr->rdata.n)));
		for (int i = 0; form.strings && i < 3; i++) {
			uint8_t n = rd_u8(&rd);

			buf_u8(out, n);
			buf_add_str(out, rd_str(&rd, n));
		}
		for (uint8_t i = 0; i < form.names; i++) {
			if (dns_name_read(&rd, &name) < 0)
				return -EBADMSG;
			dns_put_name(out, &name);
		}
		if (rd_failed(&rd) || rd_pos(&rd) > end)
			return -EBADMSG;
		if (form.names && rr->type != DNS_RRSIG &&
			end - rd_pos(&rd) != (rr->type == DNS_SOA ? SOA_NUMBERS : 0))
			return -EBADMSG;
		buf_add_str(out, rd_str(&rd, end - rd_pos(&rd)));
	}
	if (rd_failed(&rd) || rd_pos(&rd) > end)
		return -EBADMSG;
	if (buf_failed(out))
		return buf_failed(out);
	if (out->n - at - 2 > UINT16_MAX)
		return -EBADMSG;
	dns_store16(out->p + at, (uint16_t)(out->n - at - 2));
	return 0;
}

int dns_put_opt(struct buf *out, uint8_t rcode_high, bool dnssec_ok, int ede, struct str text)
{
	buf_u8(out, 0); /* the root */
	buf_be16(out, DNS_OPT);
	buf_be16(out, DNS_UDP_SIZE);
	buf_u8(out, rcode_high);
	buf_u8(out, 0); /* version */
	buf_be16(out, dnssec_ok ? OPT_DO : 0);
	if (ede == DNS_EDE_NONE)
		return buf_be16(out, 0);
	text.n = MIN(text.n, (size_t)255);
	buf_be16(out, (uint16_t)(6 + text.n));
	buf_be16(out, 15); /* option: extended error */
	buf_be16(out, (uint16_t)(2 + text.n));
	buf_be16(out, (uint16_t)ede);
	return buf_add_str(out, text);
}

int dns_put_query(struct buf *out, uint16_t id, const struct dns_name *name, uint16_t type,
	bool dnssec_ok, bool checking_disabled)
{
	dns_put_header(out, id, DNS_RD | (checking_disabled ? DNS_CD : 0), 0, 0, 1);
	dns_put_question(out, name, type);
	return dns_put_opt(out, 0, dnssec_ok, DNS_EDE_NONE, STR_NONE);
}

const char *dns_type_name(uint16_t type)
{
	static const struct {
		uint16_t type;
		const char *name;
	} names[] = {
		{ DNS_A, "A" }, { DNS_NS, "NS" }, { DNS_CNAME, "CNAME" }, { DNS_SOA, "SOA" },
		{ DNS_NULL, "NULL" }, { DNS_PTR, "PTR" }, { DNS_MX, "MX" }, { DNS_TXT, "TXT" },
		{ DNS_AAAA, "AAAA" }, { DNS_SRV, "SRV" }, { DNS_NAPTR, "NAPTR" },
		{ DNS_DNAME, "DNAME" }, { DNS_DS, "DS" }, { DNS_RRSIG, "RRSIG" },
		{ DNS_DNSKEY, "DNSKEY" }, { DNS_TLSA, "TLSA" }, { DNS_SVCB, "SVCB" },
		{ DNS_HTTPS, "HTTPS" }, { DNS_IXFR, "IXFR" }, { DNS_AXFR, "AXFR" },
		{ DNS_ANY, "ANY" }, { DNS_CAA, "CAA" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].type == type)
			return names[i].name;
	return NULL;
}
