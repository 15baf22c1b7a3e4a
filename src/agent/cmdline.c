/*
 * What the host says to a virtual machine on the kernel's command line:
 *
 *	weir.ip4=10.60.0.5 weir.ip6=fd00::5 weir.overlay=10.42.0.5 weir.overlays=10.42.0.0/16
 *	weir.mtu=1500 weir.host=brave-otter
 *
 * Each may be missing: a machine that is booted before anybody asked for it learns the rest when it
 * wakes. Words without our prefix are the kernel's own.
 */
#include "agent/machine.h"

#define MTU_MIN 1280u /* what IPv6 demands */
#define MTU_MAX 65535u

static int read_address(struct str value, uint8_t family, struct ip *ret)
{
	struct ip ip;

	if (ip_from(value, &ip) < 0 || ip.family != family)
		return -EINVAL;
	*ret = ip;
	return 0;
}

/* As the host role gives them: letters, digits and dashes, so that a line of /etc/hosts is one. */
static int read_host(struct str value, char *ret, size_t size)
{
	for (size_t i = 0; i < value.n; i++) {
		char c = value.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			    c == '-' || c == '.'))
			return -EINVAL;
	}
	return value.n ? str_copy(ret, size, value) : -EINVAL;
}

static int read_mtu(struct str value, uint32_t *ret)
{
	uint64_t n;

	if (str_u64(value, MTU_MAX, &n) < 0 || n < MTU_MIN)
		return -EINVAL;
	*ret = (uint32_t)n;
	return 0;
}

static int read_overlays(struct str value, struct prefix *ret)
{
	return prefix_from(value, true, ret) < 0 || ret->ip.family != 4 ? -EINVAL : 0;
}

enum word { WORD_IP4, WORD_IP6, WORD_OVERLAY, WORD_OVERLAYS, WORD_MTU, WORD_HOST, WORDS };

static const struct {
	struct str key;
	const char *kind;
} words[WORDS] = {
	[WORD_IP4] = { STR("ip4"), "an IPv4 address" },
	[WORD_IP6] = { STR("ip6"), "an IPv6 address" },
	[WORD_OVERLAY] = { STR("overlay"), "an IPv4 address" },
	[WORD_OVERLAYS] = { STR("overlays"), "an IPv4 prefix" },
	[WORD_MTU] = { STR("mtu"), "a number from 1280 to 65535" },
	[WORD_HOST] = { STR("host"), "a host name of at most 63 characters" },
};

static int read_word(enum word w, struct str value, struct cmdline *ret)
{
	switch (w) {
	case WORD_IP4:
		return read_address(value, 4, &ret->link.ip4);
	case WORD_IP6:
		return read_address(value, 6, &ret->link.ip6);
	case WORD_OVERLAY:
		return read_address(value, 4, &ret->link.overlay);
	case WORD_OVERLAYS:
		return read_overlays(value, &ret->link.overlays);
	case WORD_MTU:
		return read_mtu(value, &ret->mtu);
	case WORD_HOST:
		return read_host(value, ret->host, sizeof(ret->host));
	case WORDS:
		break;
	}
	return -EINVAL;
}

int cmdline_read(struct str text, struct cmdline *ret, struct err *err)
{
	const struct str ours = STR("weir.");
	struct cmdline line = { 0 };
	bool said[WORDS] = { false };

	while (text.n) {
		struct str value = str_cut(&text, ' '), key;
		size_t w = 0;

		while (value.n && value.p[value.n - 1] == '\n')
			value.n--;
		if (!str_starts(value, ours))
			continue;
		value = str_skip(value, ours.n);
		key = str_cut(&value, '=');
		while (w < WORDS && !str_eq(key, words[w].key))
			w++;
		if (w == WORDS)
			return err_set(err, -EINVAL, ERR_INVALID, "weir." STR_FMT " is no word of ours",
				STR_ARG(key));
		if (said[w])
			return err_set(err, -EINVAL, ERR_INVALID, "weir." STR_FMT " is said twice",
				STR_ARG(key));
		if (read_word((enum word)w, value, &line) < 0)
			return err_set(err, -EINVAL, ERR_INVALID,
				"weir." STR_FMT "=" STR_FMT ": expected %s", STR_ARG(key), STR_ARG(value),
				words[w].kind);
		said[w] = true;
	}
	*ret = line;
	return 0;
}
