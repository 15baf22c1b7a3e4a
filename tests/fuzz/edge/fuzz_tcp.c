/*
 * A sandbox's connection to port 53 and a resolver's answers over TCP: bytes with lengths in front,
 * cut where the first byte says. Queries reach the resolver as they were framed, in order, and
 * never more than the pipeline holds; answers of a resolver are handed over whole, and a socket
 * that nobody uses any more closes.
 */
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "../fuzz.h"

#define getsockopt(fd, l, o, p, n) (memset(p, 0, *(n)), play_cmsg(p, n))
#define setsockopt(fd, l, o, p, n) ((void)(p), 0)
static int play_cmsg(void *p, socklen_t *n);
#include "edge/net_tcp.c"
#undef getsockopt
#undef setsockopt
#define on_io		up_on_io
#define on_closed	up_on_closed
#define owner_put	up_owner_put
#include "edge/net_upstream.c"
#undef on_io

static uv_loop_t loop;
static struct net_tcp *tcp;
static struct net_upstream *up;
static struct buf seen;	  /* queries, as the resolver heard them */
static struct dns_client waiting[64];
static unsigned int n_waiting, answers;
static uint8_t form;
static uint64_t sock;

/* The link's number, as the kernel keeps it of the handshake. */
static int play_cmsg(void *p, socklen_t *n)
{
	struct in_pktinfo info = { .ipi_ifindex = 7 };
	struct cmsghdr *c = p;

	*c = (struct cmsghdr){ .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO,
		.cmsg_len = CMSG_LEN(sizeof(info)) };
	memcpy(CMSG_DATA(c), &info, sizeof(info));
	*n = CMSG_SPACE(sizeof(info));
	return 0;
}

bool resolver_connection(struct resolver *r, uint32_t ifindex, uint32_t most)
{
	return ifindex == 7 && most;
}

void resolver_connection_done(struct resolver *r, uint32_t ifindex) {}

void resolver_query(struct resolver *r, const struct dns_client *from, struct str msg, uint64_t now)
{
	CHECK(msg.n >= DNS_HEADER && msg.n <= UDP_QUERY_MAX && from->ifindex == 7);
	buf_be16(&seen, (uint16_t)msg.n);
	buf_add_str(&seen, msg);
	if (form & 2)
		net_tcp_reply(tcp, from, str_n(msg.p, DNS_HEADER));
	else if (n_waiting < ARRAY_SIZE(waiting))
		waiting[n_waiting++] = *from;
	CHECK(n_waiting <= TCP_PIPELINE_MAX);
}

void resolver_answer(struct resolver *r, uint64_t number, struct str msg, uint64_t now)
{
	CHECK(number == sock && msg.n <= 65535);
	if (++answers == 1u + (form >> 4))
		net_upstream_close(up, number);
}

void resolver_lost(struct resolver *r, uint64_t number, uint64_t now)
{
	CHECK(number == sock);
	sock = 0;
}

static void spin(void)
{
	for (int i = 0; i < 3; i++)
		uv_run(&loop, UV_RUN_NOWAIT);
}

static void feed(int fd, struct str bytes)
{
	char gone[65536];

	while (bytes.n) {
		size_t n = MIN(bytes.n, form & 1 ? (size_t)form : (size_t)3000);
		ssize_t k = send(fd, bytes.p, n, MSG_NOSIGNAL);

		if (k < 0 && errno != EAGAIN)
			break;
		bytes = str_skip(bytes, (size_t)MAX(k, (ssize_t)0));
		spin();
		while (n_waiting) {
			struct dns_client to = waiting[--n_waiting];

			net_tcp_reply(tcp, &to, STR("an answer from far away"));
		}
		while (recv(fd, gone, sizeof(gone), MSG_DONTWAIT) > 0)
			;
	}
	shutdown(fd, SHUT_WR);
	spin();
}

/* The queries that a reader of the whole stream would find. */
static void check_queries(struct str in)
{
	struct str out = buf_str(&seen);

	while (in.n >= 2) {
		size_t n = dns_load16(in.p);

		if (n < DNS_HEADER || n > UDP_QUERY_MAX || in.n < 2 + n)
			break;
		CHECK(out.n >= 2 + n && memcmp(out.p, in.p, 2 + n) == 0);
		out = str_skip(out, 2 + n);
		in = str_skip(in, 2 + n);
	}
	CHECK(!out.n);
}

static int want(void *arg, struct ip addr, bool t, uint32_t count, uint64_t number)
{
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct server server = { .ip = { .family = 4, .a = { 127, 0, 0, 1 } }, .port = 53,
		.host = true };
	static bool ready;
	struct str bytes = str_n(data, size);
	int p[2];

	if (size < 2 || size > 100000)
		return 0;
	if (!ready)
		ready = uv_loop_init(&loop) == 0;
	form = data[0];
	bytes = str_skip(bytes, 1);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p) == 0);
	n_waiting = answers = 0;
	if (form & 4) {
		CHECK(net_upstream_new(&loop, NULL, want, NULL, &up) == 0);
		CHECK(net_upstream_open(up, &server, true, &sock) == 0);
		CHECK(net_upstream_given(up, p[0], sock) == 0);
		feed(p[1], bytes);
		net_upstream_free(up);
	} else {
		seen = BUF_MAX(1u << 20);
		CHECK(net_tcp_new(&loop, NULL, &tcp) == 0);
		conn_new(tcp, p[0]);
		CHECK(tcp->n_conns == 1);
		feed(p[1], bytes);
		check_queries(bytes);
		net_tcp_free(tcp);
		buf_done(&seen);
	}
	close(p[1]);
	uv_run(&loop, UV_RUN_DEFAULT);
	CHECK(!uv_loop_alive(&loop));
	return 0;
}
