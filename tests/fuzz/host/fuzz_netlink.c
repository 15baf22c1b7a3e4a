/*
 * The kernel's answers to rtnetlink requests, played: any bytes, message by message, each made an
 * answer to what was asked. Nothing is read past a message, and what is reported is well-formed.
 */
#include <linux/rtnetlink.h>
#include "../fuzz.h"
#include "base/rd.h"
#include "host/link.h"

static struct rd rd;
static uint32_t seq;

/* In place of libmnl's. */
ssize_t mnl_socket_sendto(const struct mnl_socket *nl, const void *p, size_t n)
{
	seq = ((const struct nlmsghdr *)p)->nlmsg_seq;
	return (ssize_t)n;
}

ssize_t mnl_socket_recvfrom(const struct mnl_socket *nl, void *p, size_t max)
{
	static const uint16_t types[] = { RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, NLMSG_ERROR,
		NLMSG_DONE, NLMSG_NOOP };
	uint8_t what = rd_u8(&rd), flags = rd_u8(&rd);
	struct str body = rd_str(&rd, MIN((size_t)rd_be16(&rd), MIN(rd_left(&rd), max - 64)));
	struct nlmsghdr h = { .nlmsg_type = types[what % 6], .nlmsg_seq = seq,
		.nlmsg_flags = (uint16_t)(flags & NLM_F_MULTI) |
			(flags & 128 ? NLM_F_ACK_TLVS | (flags & 64 ? NLM_F_CAPPED : 0) : 0),
		.nlmsg_len = (uint32_t)(sizeof(h) + body.n) };

	if (!body.n && rd_left(&rd) == 0)
		h = (struct nlmsghdr){ .nlmsg_type = NLMSG_DONE, .nlmsg_seq = seq,
			.nlmsg_len = sizeof(h) };
	memcpy(p, &h, sizeof(h));
	if (body.n)
		memcpy((char *)p + sizeof(h), body.p, body.n);
	return (ssize_t)h.nlmsg_len;
}

static int on_link(const struct link_info *l, void *arg)
{
	CHECK(memchr(l->name, '\0', sizeof(l->name)));
	return 0;
}

static int on_addr(const struct link_addr_info *a, void *arg)
{
	CHECK((a->ip.family == 4 && a->len <= 32) || (a->ip.family == 6 && a->len <= 128));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rtnl n = { .nl = NULL };
	uint32_t found[4];
	struct err err;

	if (size < 1)
		return 0;
	rd = rd_from(str_skip(str_n(data, size), 1));
	switch (data[0] % 6) {
	case 0:
		link_each(&n, on_link, NULL);
		break;
	case 1:
		link_addr_each(&n, on_addr, NULL);
		break;
	case 2:
		CHECK(link_defaults(&n, 4, found, 4) <= 4);
		break;
	case 3:
		CHECK(link_defaults(&n, 6, found, 4) <= 4);
		break;
	case 4:
		link_index(&n, "w1");
		break;
	case 5:
		if (link_up(&n, 3, &err) < 0)
			CHECK(err.code < 0 && memchr(err.text, '\0', sizeof(err.text)));
		break;
	}
	return 0;
}
