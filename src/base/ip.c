/* Addresses and prefixes: see the header. */
#include <arpa/inet.h>
#include "base/ip.h"

static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

struct ip ip_raw(uint8_t family, const void *bytes)
{
	struct ip ip = { .family = family };

	if (family == 6 && memcmp(bytes, mapped, sizeof(mapped)) == 0)
		return ip_raw(4, (const uint8_t *)bytes + sizeof(mapped));
	memcpy(ip.a, bytes, family == 4 ? 4 : 16);
	return ip;
}

struct ip ip_sockaddr(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ip_raw(4, &((const struct sockaddr_in *)sa)->sin_addr);
	if (sa->sa_family == AF_INET6)
		return ip_raw(6, &((const struct sockaddr_in6 *)sa)->sin6_addr);
	return (struct ip){ 0 };
}

struct ip ip_v4(uint32_t v)
{
	uint32_t be = htonl(v);

	return ip_raw(4, &be);
}

uint32_t ip_v4_u32(struct ip ip)
{
	return (uint32_t)ip.a[0] << 24 | (uint32_t)ip.a[1] << 16 | (uint32_t)ip.a[2] << 8 | ip.a[3];
}

int ip_from(struct str s, struct ip *ret)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t raw[16];

	if (str_copy(text, sizeof(text), s) < 0)
		return -EINVAL;
	if (inet_pton(AF_INET, text, raw) == 1) /* refuses leading zeros, octal and hex */
		*ret = ip_raw(4, raw);
	else if (inet_pton(AF_INET6, text, raw) == 1)
		*ret = ip_raw(6, raw);
	else
		return -EINVAL;
	return 0;
}

bool ip_eq(struct ip a, struct ip b)
{
	return ip_cmp(a, b) == 0;
}

int ip_cmp(struct ip a, struct ip b)
{
	return a.family != b.family ? a.family - b.family : memcmp(a.a, b.a, sizeof(a.a));
}

struct ip_text ip_text(struct ip ip)
{
	struct ip_text t = { "none" };

	if (ip.family)
		inet_ntop(ip.family == 4 ? AF_INET : AF_INET6, ip.a, t.s, sizeof(t.s));
	return t;
}

struct ip ip_plus(struct ip ip, uint32_t n)
{
	uint32_t carry = n;

	for (int i = ip_bits(ip.family) / 8 - 1; i >= 0 && carry; i--) {
		carry += ip.a[i];
		ip.a[i] = (uint8_t)carry;
		carry >>= 8;
	}
	return ip;
}

struct prefix prefix_of(struct ip ip, uint8_t len)
{
	len = MIN(len, ip_bits(ip.family));
	for (unsigned int bit = len; bit < 128; bit++)
		ip.a[bit / 8] &= (uint8_t)~(0x80u >> bit % 8);
	return (struct prefix){ ip, len };
}

int prefix_from(struct str s, bool strict, struct prefix *ret)
{
	struct str addr = str_cut(&s, '/');
	struct prefix p;
	struct ip ip;
	uint64_t len;

	if (ip_from(addr, &ip) < 0)
		return -EINVAL;
	len = ip_bits(ip.family);
	if (s.p) {
		if (str_u64(s, 128, &len) < 0)
			return -EINVAL;
		/* ::ffff:10.0.0.0/104 is 10.0.0.0/8 */
		if (ip.family == 4 && str_find(addr, ':') >= 0) {
			if (len < 96)
				return -EINVAL;
			len -= 96;
		}
		if (len > ip_bits(ip.family))
			return -EINVAL;
	}
	p = prefix_of(ip, (uint8_t)len);
	if (strict && !ip_eq(p.ip, ip))
		return -EINVAL;
	*ret = p;
	return 0;
}

bool prefix_has(struct prefix p, struct ip ip)
{
	return p.ip.family == ip.family && ip_eq(prefix_of(ip, p.len).ip, p.ip);
}

bool prefix_covers(struct prefix a, struct prefix b)
{
	return a.len <= b.len && prefix_has(a, b.ip);
}

int prefix_cmp(struct prefix a, struct prefix b)
{
	int c = ip_cmp(a.ip, b.ip);

	return c ? c : a.len - b.len;
}

struct ip_text prefix_text(struct prefix p)
{
	struct ip_text t = ip_text(p.ip);
	size_t n = strlen(t.s);

	snprintf(t.s + n, sizeof(t.s) - n, "/%u", p.len);
	return t;
}
