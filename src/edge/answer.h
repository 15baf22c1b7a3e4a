/*
 * What a resolver said, made safe to repeat: parsed whole, rebuilt from its parts, and kept in a
 * form that is cheap to hand out again.
 *
 * Only what belongs to the question survives: the CNAME chain that starts at the asked name (at
 * most ANSWER_CHAIN_MAX long), the records of the asked type at its end, and for negative answers
 * the SOA. With the DNSSEC bit also the signatures and proofs of these. Everything else in a
 * message is an offer nobody asked for and is dropped: other names' addresses, the additional
 * section, EDNS options, and the address hints and ECH keys of HTTPS records.
 *
 * The kept form is the body of a response from the end of the question on. Its pointers aim at the
 * question or at CNAME targets, which stand in front of every address, so an address may be left
 * out for one sandbox without moving anything that is pointed at. Offsets of all TTLs and
 * addresses stand beside the bytes.
 *
 * Immutable once made, counted: the cache holds one reference, a reply in the making another.
 */
#pragma once
#include "base/ip.h"
#include "bpf/maps.h"
#include "wire/dns.h"

#define ANSWER_CHAIN_MAX 12u	/* CNAMEs in a row; unbound stops at 11 */
#define ANSWER_ADDRS_MAX 64u	/* of one answer; what a rotating pool adds beyond is left out */
/* The chain is followed by walking the message anew for each link; a sandbox may be the one who
 * answers, so the walks are short. A message with more records is malformed to us. */
#define ANSWER_RECORDS_MAX 1024u
#define ANSWER_TTL_MAX	 86400u /* seconds */
#define ANSWER_NEGATIVE_TTL_MAX 900u

struct answer_addr {
	struct ip ip;
	bool is_private; /* policy_is_private(): asked once, not per reply */
	uint16_t at, n;	 /* its record in the body */
};

struct answer {
	uint32_t refs;
	uint8_t rcode; /* NOERROR or NXDOMAIN */
	bool authentic; /* the resolver set AD */
	uint16_t n_answers, n_authority;
	uint16_t n_addrs, n_ttls;
	uint16_t body_n;
	uint16_t base;	/* where in the message the body begins */
	uint32_t ttl;	/* the least of its records, seconds; 0: not to be kept */
	uint64_t made;	/* when it arrived */
	struct answer_addr *addrs;
	uint16_t *ttls; /* offsets in the body */
	uint8_t *body;
};

/* -EBADMSG: not an answer to this question, or malformed; -ELOOP: chain too long; -EAGAIN: an
 * rcode that another resolver may do better than (SERVFAIL, REFUSED, …). scratch: for building. */
int answer_from(struct str msg, const struct dns_name *name, uint16_t type, bool dnssec_ok,
	uint64_t now, struct buf *scratch, struct answer **ret);
struct answer *answer_ref(struct answer *a);
struct answer *answer_unref(struct answer *a); /* NULL */

/* The response for one query. keep: one bit per address. limit: bytes the asker takes; above it the
 * response is empty with TC. ede as in dns_put_opt. */
int answer_write(const struct answer *a, const struct dns_query *q, uint64_t now, uint64_t keep,
	size_t limit, int ede, struct str ede_text, struct buf *out);
/* A response with one record of the asked name and type. */
int answer_write_one(const struct dns_query *q, uint32_t ttl, struct str rdata, struct buf *out);
/* A response without records: refusals, failures, empty answers. */
int answer_write_empty(const struct dns_query *q, uint8_t rcode, bool truncated, int ede,
	struct str ede_text, struct buf *out);
