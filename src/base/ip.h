/*
 * Addresses and prefixes of both families in one type.
 *
 * An IPv4-mapped IPv6 address (::ffff:a.b.c.d) reads as the IPv4 address: there
 * is one spelling of an address inside Weir, so no check can be passed by the
 * other one. Only the strict textual forms are accepted: four decimal parts
 * without leading zeros, RFC 4291 for IPv6, no zone.
 */
#pragma once
#include "base/str.h"

struct ip {
	uint8_t family; /* 4 or 6; 0 = none */
	uint8_t a[16];	/* network order; IPv4 uses the first four, the rest is zero */
};

struct prefix {
	struct ip ip;	/* host bits are zero */
	uint8_t len;	/* 0..32 or 0..128 */
};

struct ip_text {
	char s[52]; /* address, or address/len */
};

int ip_from(struct str s, struct ip *ret);
struct ip ip_v4(uint32_t host_order);
struct ip ip_raw(uint8_t family, const void *bytes); /* 4 or 16 bytes; unmaps ::ffff:0:0/96 */
struct sockaddr;
struct ip ip_sockaddr(const struct sockaddr *sa); /* of another family: none */
uint32_t ip_v4_u32(struct ip ip);		     /* host order */
bool ip_eq(struct ip a, struct ip b);
int ip_cmp(struct ip a, struct ip b);
struct ip_text ip_text(struct ip ip);
/* The ip plus n, for address plans; the family's width bounds it. */
struct ip ip_plus(struct ip ip, uint32_t n);

/* "10.0.0.0/8", or a bare address (full length). With strict, host bits must be zero;
 * without, they are cleared. -EINVAL otherwise. */
int prefix_from(struct str s, bool strict, struct prefix *ret);
struct prefix prefix_of(struct ip ip, uint8_t len); /* clears host bits */
bool prefix_has(struct prefix p, struct ip ip);
/* Is b wholly inside a? */
bool prefix_covers(struct prefix a, struct prefix b);
int prefix_cmp(struct prefix a, struct prefix b);
struct ip_text prefix_text(struct prefix p);
static inline uint8_t ip_bits(uint8_t family)
{
	return family == 4 ? 32 : 128;
}
