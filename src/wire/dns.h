/*
 * DNS messages: bytes <-> structs. RFC 1035, 6891 (EDNS), 8914 (extended errors), 9460 (SVCB).
 *
 * Names are kept as they travel, uncompressed: length, label, length, label, …, zero. That form
 * can hold every legal name, so nothing is escaped or lost; dns_name_text() turns the plain ones
 * into text for policy/name.h, which alone decides whether a name is canonical.
 *
 * Reading is a walk: dns_query_read() takes a client's query apart and refuses what a forwarder
 * has no business with; dns_walk_next() hands out the records of any message one by one.
 * Compression pointers may only point backwards, each one further back than the last, and few
 * follow each other, so reading a name ends, and soon. Writing appends to a struct buf and never compresses except
 * against a given offset.
 */
#pragma once
#include "base/buf.h"
#include "base/ip.h"
#include "base/rd.h"

#define DNS_HEADER	12u
#define DNS_NAME_MAX	255u /* on the wire, with lengths and the final zero */
#define DNS_TEXT_MAX	254u /* as text, with NUL */
#define DNS_MSG_MAX	65535u
#define DNS_PLAIN_MAX	512u /* UDP without EDNS */
#define DNS_UDP_SIZE	1232u /* what we say we take: fits every path without fragments */

enum dns_type {
	DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_SOA = 6, DNS_NULL = 10, DNS_PTR = 12, DNS_MX = 15,
	DNS_TXT = 16, DNS_RP = 17, DNS_AFSDB = 18, DNS_AAAA = 28, DNS_LOC = 29, DNS_SRV = 33,
	DNS_NAPTR = 35, DNS_DNAME = 39, DNS_OPT = 41, DNS_DS = 43, DNS_SSHFP = 44, DNS_RRSIG = 46,
	DNS_NSEC = 47, DNS_DNSKEY = 48, DNS_NSEC3 = 50, DNS_NSEC3PARAM = 51, DNS_TLSA = 52,
	DNS_SMIMEA = 53, DNS_CDS = 59, DNS_CDNSKEY = 60, DNS_OPENPGPKEY = 61, DNS_SVCB = 64,
	DNS_HTTPS = 65, DNS_SPF = 99, DNS_IXFR = 251, DNS_AXFR = 252, DNS_ANY = 255, DNS_URI = 256,
	DNS_CAA = 257,
};
#define DNS_IN 1u

enum dns_rcode {
	DNS_NOERROR = 0, DNS_FORMERR = 1, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_NOTIMP = 4,
	DNS_REFUSED = 5, DNS_BADVERS = 16,
};
enum dns_flag { /* in the header's second word */
	DNS_QR = 0x8000, DNS_OPCODE = 0x7800, DNS_AA = 0x0400, DNS_TC = 0x0200, DNS_RD = 0x0100,
	DNS_RA = 0x0080, DNS_AD = 0x0020, DNS_CD = 0x0010, DNS_RCODE = 0x000f,
};
enum dns_ede { /* RFC 8914 */
	DNS_EDE_NONE = -1, DNS_EDE_OTHER = 0, DNS_EDE_BLOCKED = 15, DNS_EDE_FILTERED = 17,
	DNS_EDE_PROHIBITED = 18, DNS_EDE_NOT_SUPPORTED = 21, DNS_EDE_UNREACHABLE = 22,
	DNS_EDE_INVALID = 24,
};
enum dns_svc_key {
	DNS_SVC_MANDATORY = 0,
	DNS_SVC_IPV4HINT = 4,
	DNS_SVC_ECH = 5,
	DNS_SVC_IPV6HINT = 6
};

struct dns_name {
	uint8_t n; /* bytes in w, the final zero included; 1 is the root */
	uint8_t w[DNS_NAME_MAX];
};

struct dns_query {
	uint16_t id, flags;
	struct dns_name name; /* in the asker's own mix of cases */
	uint16_t type, qclass;
	bool edns, dnssec_ok;
	uint16_t udp_size; /* what the asker takes over UDP: at least DNS_PLAIN_MAX */
	uint8_t rcode;	   /* when reading failed: what to say, if header_ok */
	bool header_ok;	   /* there is an id to answer to, and it is not itself an answer */
	bool question_ok;  /* name, type and qclass are valid */
};

struct dns_rr {
	struct dns_name owner;
	uint16_t type, rclass;
	uint32_t ttl;
	uint8_t section;  /* 1 answer, 2 authority, 3 additional */
	struct str rdata; /* borrows from the message */
};

struct dns_walk {
	struct rd rd;
	uint16_t id, flags;
	uint16_t left[4]; /* records that remain, by section; [0] questions */
	uint8_t section;
};

/* A name at the cursor, compression followed. rd must span the message from its first byte. */
int dns_name_read(struct rd *rd, struct dns_name *ret);
/* Equal but for ASCII case. */
bool dns_name_eq(const struct dns_name *a, const struct dns_name *b);
/* "www.Example.com", NUL-terminated; the root is "". -EINVAL if a label holds a dot, a control
 * byte, a space or anything beyond ASCII: such a name has no unambiguous text. */
int dns_name_text(const struct dns_name *name, char text[DNS_TEXT_MAX], size_t *ret_n);
/* From text as above; a final dot is allowed. */
int dns_name_from(struct str text, struct dns_name *ret);

/* A client's query: one question, no answers, at most one OPT beside it and nothing after.
 * -EBADMSG with ret->rcode; ret->header_ok says whether an answer is due at all. */
int dns_query_read(struct str msg, struct dns_query *ret);

/* The records of a message. -EBADMSG if there is no header. The question of a response is read by
 * dns_walk_question() before the first dns_walk_next(). */
int dns_walk_from(struct str msg, struct dns_walk *ret);
int dns_walk_question(struct dns_walk *w, struct dns_name *name, uint16_t *type, uint16_t *qclass);
/* 1: a record; 0: the end; -EBADMSG. */
int dns_walk_next(struct dns_walk *w, struct dns_rr *ret);

/* --- writing --- */
int dns_put_header(struct buf *out, uint16_t id, uint16_t flags, uint16_t answers,
	uint16_t authority, uint16_t additional); /* one question */
int dns_put_name(struct buf *out, const struct dns_name *name);
int dns_put_question(struct buf *out, const struct dns_name *name, uint16_t type);
/* Owner, type, class IN, TTL; then rdata with its length. owner_at: offset of an earlier spelling
 * of the owner in the message (a pointer is written), or 0 to write it out. */
int dns_put_rr(struct buf *out, const struct dns_name *owner, uint16_t owner_at, uint16_t type,
	uint32_t ttl);
/* rdata of a record of `msg`: names inside it are written out in full. -EBADMSG if they do not
 * parse, and for SVCB forms if the parameters do not. SVCB and HTTPS lose the parameters that carry
 * addresses or hide the name (ech, ipv4hint, ipv6hint). */
int dns_put_rdata(struct buf *out, struct str msg, const struct dns_rr *rr);
/* The OPT record; ede DNS_EDE_NONE: without an extended error. */
int dns_put_opt(struct buf *out, uint8_t rcode_high, bool dnssec_ok, int ede, struct str ede_text);
/* A whole query as we send it upstream: recursion desired, one OPT without options. */
int dns_put_query(struct buf *out, uint16_t id, const struct dns_name *name, uint16_t type,
	bool dnssec_ok, bool checking_disabled);

const char *dns_type_name(uint16_t type); /* "AAAA", or NULL */
static inline uint16_t dns_load16(const void *p)
{
	const uint8_t *b = p;

	return (uint16_t)(b[0] << 8 | b[1]);
}
static inline void dns_store16(void *p, uint16_t v)
{
	uint8_t *b = p;

	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}
static inline void dns_store32(void *p, uint32_t v)
{
	dns_store16(p, (uint16_t)(v >> 16));
	dns_store16((uint8_t *)p + 2, (uint16_t)v);
}
