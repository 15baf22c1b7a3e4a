/*
 * Connection tracking by netlink: see the header.
 *
 * A dump that the kernel filters by source; of each entry that comes, its own words for what it is
 * (the tuple) go back as a request to delete it, many in one message. A flush by source would be one
 * request, but Linux knows it only from 6.8 on.
 */
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <sys/socket.h>
#include "host/rtnl.h"
#include "host/track.h"

#define TYPE(msg)	    (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | (msg))
#define FILTER_BY_SOURCE    1u /* the kernel's CTA_FILTER_F_CTA_IP_SRC */
#define BATCH_MAX	    16384u
#define ONE_MAX		    512u /* header, tuple and zone: some 100 bytes */

struct forgetting {
	struct ip from;
	struct rtnl out; /* its buffer takes one request; the batch is here */
	uint32_t seq;
	size_t n;
	int count;
	char batch[BATCH_MAX];
};

static uint16_t source_attr(struct ip ip)
{
	return ip.family == 4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC;
}

static struct nlmsghdr *put_header(char *at, uint16_t type, uint16_t flags, struct ip ip)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(at);
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof(*g));

	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	g->nfgen_family = ip.family == 4 ? AF_INET : AF_INET6;
	g->version = NFNETLINK_V0;
	return h;
}

/* The kernel was asked for these alone. Whoever deletes looks again. */
static bool is_from(const struct nlattr *tuple, struct ip ip)
{
	size_t len = ip.family == 4 ? 4 : 16;
	const struct nlattr *a, *b;

	mnl_attr_for_each_nested(a, tuple)
	{
		if (mnl_attr_get_type(a) != CTA_TUPLE_IP)
			continue;
		mnl_attr_for_each_nested(b, a)
		{
			if (mnl_attr_get_type(b) == source_attr(ip))
				return mnl_attr_get_payload_len(b) == len &&
					memcmp(mnl_attr_get_payload(b), ip.a, len) == 0;
		}
	}
	return false;
}

/* Only failures are answered. What is gone by itself meanwhile is none. */
static int answers(struct forgetting *f)
{
	char in[8192];
	int failed = 0;
	ssize_t n;

	while ((n = recv(mnl_socket_get_fd(f->out.nl), in, sizeof(in), MSG_DONTWAIT)) > 0) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)in;
		int left = (int)n;

		for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

			if (!rtnl_is(h, NLMSG_ERROR, sizeof(*e)) || e->error == 0)
				continue;
			f->count--;
			if (e->error != -ENOENT)
				failed = e->error;
		}
	}
	return n < 0 && errno != EAGAIN ? -errno : failed;
}

static int flush(struct forgetting *f)
{
	size_t n = f->n;

	f->n = 0;
	if (n && mnl_socket_sendto(f->out.nl, f->batch, n) < 0)
		return -errno;
	return answers(f);
}

static int forget_one(const struct nlmsghdr *h, void *arg)
{
	struct forgetting *f = arg;
	struct nlmsghdr *d;
	const struct nlattr *a;
	bool ours = false;

	if (!rtnl_is(h, TYPE(IPCTNL_MSG_CT_NEW), sizeof(struct nfgenmsg)))
		return 0;
	d = put_header(f->batch + f->n, TYPE(IPCTNL_MSG_CT_DELETE), 0, f->from);
	d->nlmsg_seq = ++f->seq;
	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		uint16_t type = mnl_attr_get_type(a);

		if ((type != CTA_TUPLE_ORIG && type != CTA_ZONE) ||
			d->nlmsg_len + a->nla_len > ONE_MAX - MNL_ALIGNTO)
			continue;
		if (type == CTA_TUPLE_ORIG)
			ours = is_from(a, f->from);
		mnl_attr_put(d, a->nla_type, mnl_attr_get_payload_len(a), mnl_attr_get_payload(a));
	}
	if (!ours)
		return 0;
	f->count++;
	f->n += MNL_ALIGN(d->nlmsg_len);
	return f->n + ONE_MAX > BATCH_MAX ? flush(f) : 0;
}

int track_forget(struct ip from, struct err *err)
{
	auto_free struct forgetting *f = calloc(1, sizeof(*f));
	auto_rtnl struct rtnl in = RTNL_NONE;
	struct nlattr *tuple, *address, *filter;
	struct nlmsghdr *h;
	int r;

	if (!f)
		return err_sys(err, -ENOMEM, "forget connections");
	f->from = from;
	r = rtnl_open_bus(&in, NETLINK_NETFILTER);
	if (r == 0)
		r = rtnl_open_bus(&f->out, NETLINK_NETFILTER);
	if (r < 0)
		return err_sys(err, r, "netfilter netlink");
	h = put_header(in.buf, TYPE(IPCTNL_MSG_CT_GET), 0, from);
	tuple = mnl_attr_nest_start(h, CTA_TUPLE_ORIG);
	address = mnl_attr_nest_start(h, CTA_TUPLE_IP);
	rtnl_put_ip(h, source_attr(from), from);
	mnl_attr_nest_end(h, address);
	mnl_attr_nest_end(h, tuple);
	filter = mnl_attr_nest_start(h, CTA_FILTER);
	mnl_attr_put_u32(h, CTA_FILTER_ORIG_FLAGS, FILTER_BY_SOURCE);
	mnl_attr_nest_end(h, filter);
	r = rtnl_dump(&in, h, forget_one, f);
	if (r == 0)
		r = flush(f);
	rtnl_done(&f->out);
	return r < 0 ? err_sys(err, r, "forget the connections of %s", ip_text(from).s) : f->count;
}
