/*
 * What the flood tests run inside sandboxes: senders that are fast enough to hurt, and meters that
 * tell a neighbour how much it hurts. One line of name=value comes out.
 *
 *	flood udp ADDR PORT COUNT		COUNT datagrams to one place, exactly
 *	flood udp-flows ADDR COUNT		COUNT datagrams, each a flow of its own
 *	flood tcp-flows ADDR COUNT		COUNT connects, each a flow of its own, given up at once
 *	flood tcp-hold ADDR PORT COUNT SECONDS	COUNT connections, made and kept (or refused)
 *	flood dns ADDR RATE SECONDS NAME	RATE queries a second; a '*' in NAME is a random label
 *	flood echo PORT HELD			a server for the meters, UDP and TCP, until killed; every
 *						HELD-th datagram is answered late (0: none)
 *	meter dns ADDR NAME N GAP_MS		N queries, one at a time
 *	meter udp ADDR PORT N GAP_MS		N echoes over one flow
 *	meter tcp ADDR PORT N GAP_MS		N new connections, a byte there and back on each
 *
 * Flows of their own: the port counts from 1024 up, then the last octet of the address goes on.
 * A lost answer is counted and takes TIMEOUT_MS in the figures, so loss cannot look like speed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH	   64
#define TIMEOUT_MS 2000
#define LATE_MS	   300 /* no answer for so long: there will be none */
#define LOST_MAX   8
#define SAMPLES	   100000
#define FIRST_PORT 1024

static const char payload[32] = "flood";

static void die(const char *what)
{
	printf("failed=%s errno=%s\n", what, strerrorname_np(errno));
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void until(uint64_t us)
{
	struct timespec t = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static struct sockaddr_in place(const char *addr, unsigned int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	if (inet_pton(AF_INET, addr, &a.sin_addr) != 1)
		die(addr);
	return a;
}

static struct sockaddr_in nth_flow(struct sockaddr_in first, unsigned long n)
{
	unsigned long ports = 65536 - FIRST_PORT;

	first.sin_port = htons((uint16_t)(FIRST_PORT + n % ports));
	first.sin_addr.s_addr = htonl(ntohl(first.sin_addr.s_addr) + (uint32_t)(n / ports));
	return first;
}

static int udp_socket(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0)
		die("socket");
	return fd;
}

/* Send all of a batch, however often the socket is full. */
static void send_all(int fd, struct mmsghdr *m, unsigned int n)
{
	while (n) {
		int r = sendmmsg(fd, m, n, 0);

		if (r < 0 && errno != EINTR && errno != ENOBUFS)
			die("sendmmsg");
		if (r > 0) {
			m += r;
			n -= (unsigned int)r;
		}
	}
}

static int flood_udp(struct sockaddr_in to, unsigned long count, int flows)
{
	struct sockaddr_in where[BATCH];
	struct mmsghdr m[BATCH] = { 0 };
	struct iovec v = { (void *)payload, sizeof(payload) };
	uint64_t start = now_us();
	int fd = udp_socket();

	for (unsigned long sent = 0; sent < count;) {
		unsigned int n = 0;

		for (; n < BATCH && sent < count; n++, sent++) {
			where[n] = flows ? nth_flow(to, sent) : to;
			m[n].msg_hdr = (struct msghdr){ .msg_name = &where[n],
				.msg_namelen = sizeof(where[n]), .msg_iov = &v, .msg_iovlen = 1 };
		}
		send_all(fd, m, n);
	}
	printf("sent=%lu ms=%lu\n", count, (unsigned long)(now_us() - start) / 1000);
	return 0;
}

static int flood_tcp(struct sockaddr_in to, unsigned long count)
{
	unsigned long begun = 0, refused = 0;
	uint64_t start = now_us();

	for (unsigned long i = 0; i < count; i++) {
		struct sockaddr_in a = nth_flow(to, i);
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

		if (fd < 0)
			die("socket");
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 || errno == EINPROGRESS)
			begun++;
		else
			refused++;
		close(fd);
	}
	printf("sent=%lu refused=%lu ms=%lu\n", begun, refused,
		(unsigned long)(now_us() - start) / 1000);
	return 0;
}

static int hold_tcp(struct sockaddr_in to, unsigned int count, unsigned int seconds)
{
	struct rlimit files;
	unsigned int open = 0;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	for (unsigned int i = 0; i < count; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (fd < 0)
			die("socket");
		if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
			close(fd);
		else
			open++;
	}
	printf("open=%u\n", open);
	fflush(stdout);
	until(now_us() + seconds * 1000000ull);
	return 0;
}

/* Back from the address that was asked: in the lab there are many. */
static void echo_datagram(int fd, unsigned int held)
{
	static unsigned int answers;
	struct sockaddr_in from;
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(struct in_pktinfo))];
	} c;
	char m[2048];
	struct iovec v = { m, sizeof(m) };
	struct msghdr h = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &v,
		.msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
	ssize_t n = recvmsg(fd, &h, MSG_DONTWAIT);
	struct in_pktinfo *to = (struct in_pktinfo *)CMSG_DATA(&c.h);

	if (n < 0)
		return;
	to->ipi_spec_dst = to->ipi_addr;
	to->ipi_ifindex = 0;
	v.iov_len = (size_t)n;
	if (held && ++answers % held == 0)
		until(now_us() + TIMEOUT_MS * 1000 / 2);
	sendmsg(fd, &h, 0);
}

/* Of its own, because the lab's is a busy program while a flood arrives. */
static int echo(unsigned int port, unsigned int held)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct pollfd p[2] = { { .fd = udp_socket(), .events = POLLIN },
		{ .fd = socket(AF_INET, SOCK_STREAM, 0), .events = POLLIN } };
	int one = 1;
	char m;

	setsockopt(p[1].fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(p[0].fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one));
	if (bind(p[0].fd, (struct sockaddr *)&any, sizeof(any)) < 0 ||
		bind(p[1].fd, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(p[1].fd, 128) < 0)
		die("bind");
	printf("ready\n");
	fflush(stdout);
	while (poll(p, 2, -1) > 0) {
		if (p[0].revents)
			echo_datagram(p[0].fd, held);
		if (p[1].revents) { /* one byte each, by clients that send it at once */
			int fd = accept(p[1].fd, NULL, NULL);

			if (fd >= 0 && recv(fd, &m, 1, 0) == 1)
				send(fd, &m, 1, MSG_NOSIGNAL);
			close(fd);
		}
	}
	return 1;
}

/* --- DNS --- */

static size_t put_query(unsigned char *m, const char *name, uint16_t id)
{
	size_t n = 12;

	memset(m, 0, 12);
	m[0] = (unsigned char)(id >> 8);
	m[1] = (unsigned char)id;
	m[2] = 1; /* recursion is wanted */
	m[5] = 1; /* one question */
	while (*name) {
		size_t len = strcspn(name, ".");

		if (len == 1 && *name == '*') {
			m[n++] = 12;
			for (int i = 0; i < 12; i++)
				m[n++] = (unsigned char)('a' + random() % 26);
		} else {
			m[n++] = (unsigned char)len;
			memcpy(m + n, name, len);
			n += len;
		}
		name += len + (name[len] == '.');
	}
	memcpy(m + n, "\0\0\1\0\1", 5);
	return n + 5;
}

static void take_answers(int fd, unsigned long by_code[16])
{
	unsigned char m[2048];
	ssize_t n;

	while ((n = recv(fd, m, sizeof(m), MSG_DONTWAIT)) >= 0 || errno == ECONNREFUSED)
		if (n >= 12)
			by_code[m[3] & 15]++;
}

static int flood_dns(struct sockaddr_in to, unsigned long rate, unsigned int seconds,
	const char *name)
{
	uint64_t start = now_us(), end = start + seconds * 1000000ull;
	unsigned long sent = 0, codes[16] = { 0 };
	unsigned char m[BATCH][512];
	struct mmsghdr h[BATCH] = { 0 };
	struct iovec v[BATCH];
	int fd = udp_socket();
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect");
	for (uint64_t now = start; now < end; now = now_us()) {
		unsigned long due = (unsigned long)((now - start) * rate / 1000000);
		unsigned int n = 0;

		for (; n < BATCH && sent + n < due; n++) {
			v[n] = (struct iovec){ m[n], put_query(m[n], name, (uint16_t)(sent + n)) };
			h[n].msg_hdr = (struct msghdr){ .msg_iov = &v[n], .msg_iovlen = 1 };
		}
		if (n)
			send_all(fd, h, n);
		else
			until(now + 500);
		sent += n;
		take_answers(fd, codes);
	}
	while (poll(&p, 1, LATE_MS) == 1)
		take_answers(fd, codes);
	printf("sent=%lu noerror=%lu servfail=%lu nxdomain=%lu refused=%lu ms=%lu\n", sent, codes[0],
		codes[2], codes[3], codes[5], (unsigned long)(now_us() - start) / 1000);
	return 0;
}

/* --- meters --- */

static unsigned int samples[SAMPLES];

static int by_value(const void *a, const void *b)
{
	unsigned int x = *(const unsigned int *)a, y = *(const unsigned int *)b;

	return (x > y) - (x < y);
}

static int tell(unsigned int n, unsigned int lost)
{
	qsort(samples, n, sizeof(samples[0]), by_value);
	printf("n=%u lost=%u p50_us=%u p99_us=%u max_us=%u\n", n, lost, samples[n / 2],
		samples[n - 1 - n / 100], samples[n - 1]);
	return 0;
}

static int answered(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, TIMEOUT_MS) == 1 && !(p.revents & POLLERR);
}

static int ask_dns(const struct sockaddr_in *to, const char *name)
{
	unsigned char m[2048];
	size_t n = put_query(m, name, (uint16_t)random());
	int fd = udp_socket(), ok;

	ok = connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0 &&
		send(fd, m, n, 0) == (ssize_t)n && answered(fd) && recv(fd, m, sizeof(m), 0) >= 12 &&
		(m[3] & 15) == 0;
	close(fd);
	return ok;
}

static int ask_tcp(const struct sockaddr_in *to)
{
	struct linger reset = { 1, 0 };
	char byte = 'x';
	int fd = socket(AF_INET, SOCK_STREAM, 0), ok;

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	ok = connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0 && send(fd, &byte, 1, 0) == 1 &&
		answered(fd) && recv(fd, &byte, 1, 0) == 1;
	close(fd);
	return ok;
}

static int ask_udp(int fd)
{
	char m[sizeof(payload)];

	return send(fd, payload, sizeof(payload), 0) > 0 && answered(fd) &&
		recv(fd, m, sizeof(m), 0) == sizeof(m);
}

static int meter(const char *what, char **argv)
{
	struct sockaddr_in to = place(argv[0], strcmp(what, "dns") ? (unsigned int)atoi(argv[1]) : 53);
	unsigned int n = (unsigned int)atoi(argv[2]), gap = (unsigned int)atoi(argv[3]) * 1000, lost = 0;
	int fd = udp_socket();

	if (n > SAMPLES || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("meter");
	for (unsigned int i = 0; i < n; i++) {
		uint64_t start = now_us();
		int ok = !strcmp(what, "dns") ? ask_dns(&to, argv[1]) :
			!strcmp(what, "tcp")  ? ask_tcp(&to) :
						ask_udp(fd);

		samples[i] = (unsigned int)(now_us() - start);
		if (!ok) {
			samples[i] = TIMEOUT_MS * 1000;
			if (++lost > LOST_MAX) /* it hears nothing: no figures */
				die("lost");
		}
		until(start + gap);
	}
	return tell(n, lost);
}

int main(int argc, char **argv)
{
	srandom((unsigned int)now_us());
	if (argc == 7 && !strcmp(argv[1], "meter"))
		return meter(argv[2], argv + 3);
	if (argc == 5 && !strcmp(argv[1], "flood") && !strcmp(argv[2], "echo"))
		return echo((unsigned int)atoi(argv[3]), (unsigned int)atoi(argv[4]));
	if (argc < 5 || strcmp(argv[1], "flood"))
		return 2;
	if (!strcmp(argv[2], "udp-flows"))
		return flood_udp(place(argv[3], 0), strtoul(argv[4], NULL, 10), 1);
	if (!strcmp(argv[2], "tcp-flows"))
		return flood_tcp(place(argv[3], 0), strtoul(argv[4], NULL, 10));
	if (!strcmp(argv[2], "udp") && argc == 6)
		return flood_udp(place(argv[3], (unsigned int)atoi(argv[4])),
			strtoul(argv[5], NULL, 10), 0);
	if (!strcmp(argv[2], "tcp-hold") && argc == 7)
		return hold_tcp(place(argv[3], (unsigned int)atoi(argv[4])),
			(unsigned int)atoi(argv[5]), (unsigned int)atoi(argv[6]));
	if (!strcmp(argv[2], "dns") && argc == 7)
		return flood_dns(place(argv[3], 53), strtoul(argv[4], NULL, 10),
			(unsigned int)atoi(argv[5]), argv[6]);
	return 2;
}
