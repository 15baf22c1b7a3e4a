/* Route netlink: see the header. */
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include "base/fd.h"
#include "host/rtnl.h"

int rtnl_open(struct rtnl *n)
{
	return rtnl_open_bus(n, NETLINK_ROUTE);
}

int rtnl_open_bus(struct rtnl *n, int bus)
{
	int one = 1;

	*n = RTNL_NONE;
	n->nl = mnl_socket_open2(bus, SOCK_CLOEXEC);
	if (!n->nl)
		return -errno;
	if (mnl_socket_bind(n->nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		int r = -errno;

		rtnl_done(n);
		return r;
	}
	/* Sentences with errors, and no echo of the request in acknowledgements. */
	mnl_socket_setsockopt(n->nl, NETLINK_EXT_ACK, &one, sizeof(one));
	mnl_socket_setsockopt(n->nl, NETLINK_CAP_ACK, &one, sizeof(one));
	return 0;
}

void rtnl_done(struct rtnl *n)
{
	if (n->nl)
		mnl_socket_close(n->nl);
	n->nl = NULL;
}

struct nlmsghdr *rtnl_new(
	struct rtnl *n, uint16_t type, uint16_t flags, size_t extra, void *ret_header)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(n->buf);

	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	*(void **)ret_header = mnl_nlmsg_put_extra_header(h, extra);
	return h;
}

static void kernel_sentence(const struct nlmsghdr *h, struct err *err, int code)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
	const struct nlattr *attr;
	size_t skip = sizeof(*e);

	if (err)
		err_sys(err, code, "rtnetlink");
	if (!err || !(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(h->nlmsg_flags & NLM_F_CAPPED) && e->msg.nlmsg_len > sizeof(e->msg))
		skip += e->msg.nlmsg_len - sizeof(e->msg);
	if (skip >= mnl_nlmsg_get_payload_len(h))
		return;
	mnl_attr_for_each(attr, h, MNL_ALIGN(skip))
	{
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
			mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
			err_sys(err, code, "rtnetlink: %s", mnl_attr_get_str(attr));
	}
}

/* Receive until the answer to seq is complete. single: one object, then done. */
static int receive(struct rtnl *n, bool single, rtnl_fn fn, void *arg, struct err *err)
{
	/* Dumps fill at most 32 KiB per message; see rtnetlink_rcv. */
	char in[32768];
	int failed = 0;

	for (;;) {
		ssize_t k = mnl_socket_recvfrom(n->nl, in, sizeof(in));
		const struct nlmsghdr *h = (const struct nlmsghdr *)in;
		int left = (int)k;

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_sys(err, -errno, "rtnetlink");
		for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

			if (h->nlmsg_seq != n->seq)
				continue;
			if (h->nlmsg_type == NLMSG_DONE)
				return failed;
			if (h->nlmsg_type == NLMSG_ERROR && !rtnl_is(h, NLMSG_ERROR, sizeof(*e)))
				return err_sys(err, -EBADMSG, "rtnetlink");
			if (h->nlmsg_type == NLMSG_ERROR) {
				if (e->error)
					kernel_sentence(h, err, e->error);
				return e->error ? e->error : failed;
			}
			if (fn && !failed)
				failed = fn(h, arg);
			if (single)
				return failed;
		}
	}
}

static int transmit(struct rtnl *n, struct nlmsghdr *h)
{
	h->nlmsg_seq = ++n->seq;
	return mnl_socket_sendto(n->nl, h, h->nlmsg_len) < 0 ? -errno : 0;
}

int rtnl_do(struct rtnl *n, struct nlmsghdr *h, struct err *err)
{
	int r;

	h->nlmsg_flags |= NLM_F_ACK;
	r = transmit(n, h);
	return r < 0 ? err_sys(err, r, "rtnetlink") : receive(n, false, NULL, NULL, err);
}

int rtnl_dump(struct rtnl *n, struct nlmsghdr *h, rtnl_fn fn, void *arg)
{
	int r;

	h->nlmsg_flags |= NLM_F_DUMP;
	r = transmit(n, h);
	return r < 0 ? r : receive(n, false, fn, arg, NULL);
}

int rtnl_get(struct rtnl *n, struct nlmsghdr *h, rtnl_fn fn, void *arg)
{
	int r = transmit(n, h);

	return r < 0 ? r : receive(n, true, fn, arg, NULL);
}

void rtnl_put_ip(struct nlmsghdr *h, uint16_t attr, struct ip ip)
{
	mnl_attr_put(h, attr, ip.family == 4 ? 4 : 16, ip.a);
}
