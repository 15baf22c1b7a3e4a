/*
 * Messages through an upgraded connection: the service behind a proxy, and who talks to it.
 *
 *	tunnel serve ADDRESS PORT		grants every upgrade, then gives back what it gets
 *	tunnel ask PORT HOST N SECONDS		N connections, on each one message under way
 *
 * `ask` prints "MESSAGES SECONDS", counted from when all connections were granted. A message is a
 * masked WebSocket frame of 64 bytes; it comes back as it was, since nobody between reads frames.
 * The handshake is the example of RFC 6455 1.3, which some proxies look at.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 70u /* head, mask and 64 bytes */
#define EVENTS	64
#define FDS_MAX 20000

static const char granted[] = "HTTP/1.1 101 Switching Protocols\r\n"
	"Upgrade: websocket\r\nConnection: Upgrade\r\n"
	"Sec-WebSocket-Accept: s3pPLBmiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char message[MESSAGE] = "\x82\xc0mask";
static char had[FDS_MAX][4]; /* the last bytes of a head that is not whole */
static unsigned int open_[FDS_MAX]; /* tunnel: granted; for `ask` how much of the message is back */
static char bytes[65536];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static struct sockaddr_in address(const char *host, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)strtoul(port, NULL, 10)) };

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
		die(host);
	return a;
}

static void watch(int loop, int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };
	int one = 1;

	if (fd < 0 || fd >= FDS_MAX || epoll_ctl(loop, EPOLL_CTL_ADD, fd, &e) < 0)
		die("watch");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	memset(had[fd], 0, sizeof(had[fd]));
	open_[fd] = 0;
}

/* Is the head's end among what came, or across it and what came before? */
static int head_ends(int fd, const char *p, size_t n)
{
	char joined[8];
	size_t tail = n < 4 ? n : 4;

	if (memmem(p, n, "\r\n\r\n", 4))
		return 1;
	memcpy(joined, had[fd], 4);
	memcpy(joined + 4, p, tail);
	memcpy(had[fd], joined + tail, 4);
	return memmem(joined, 4 + tail, "\r\n\r\n", 4) != NULL;
}

static void echo(int fd)
{
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

	if (n <= 0) {
		close(fd);
	} else if (open_[fd]) {
		if (send(fd, bytes, (size_t)n, 0) != n)
			close(fd);
	} else if (head_ends(fd, bytes, (size_t)n)) {
		open_[fd] = 1;
		if (send(fd, granted, sizeof(granted) - 1, 0) < 0)
			close(fd);
	}
}

static _Noreturn void serve(const char *host, const char *port)
{
	struct sockaddr_in here = address(host, port);
	int fd = socket(AF_INET, SOCK_STREAM, 0), loop = epoll_create1(0), one = 1;
	struct epoll_event ready[EVENTS];

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0 || listen(fd, 4096) < 0)
		die("listen");
	watch(loop, fd);
	for (;;) {
		int n = epoll_wait(loop, ready, EVENTS, -1);

		for (int i = 0; i < n; i++)
			if (ready[i].data.fd == fd)
				watch(loop, accept(fd, NULL, NULL));
			else
				echo(ready[i].data.fd);
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void ask_one(int fd)
{
	if (send(fd, message, MESSAGE, 0) != MESSAGE)
		die("send");
}

/* Connected, and granted. */
static int upgraded(const char *port, const char *host)
{
	struct sockaddr_in to = address("127.0.0.1", port);
	int fd = socket(AF_INET, SOCK_STREAM, 0), n;
	size_t got = 0;

	n = snprintf(bytes, sizeof(bytes), "GET /tunnel HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\n"
		     "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
		     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", host);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 || send(fd, bytes, (size_t)n, 0) != n)
		die("connect");
	while (got < 4 || memcmp(bytes + got - 4, "\r\n\r\n", 4) != 0) {
		if (got == sizeof(bytes) || recv(fd, bytes + got, 1, 0) != 1)
			die("the head of the answer");
		got++;
	}
	if (strncmp(bytes, "HTTP/1.1 101 ", 13) != 0) {
		fprintf(stderr, "tunnel: %.*s\n", (int)got, bytes);
		exit(1);
	}
	return fd;
}

static int ask(const char *port, const char *host, unsigned int n, double seconds)
{
	int loop = epoll_create1(0);
	struct epoll_event ready[EVENTS];
	unsigned long done = 0;
	int *fds = calloc(n, sizeof(*fds));
	double start, end;

	if (!fds)
		die("memory");
	for (unsigned int i = 0; i < n; i++)
		watch(loop, fds[i] = upgraded(port, host));
	start = end = now();
	for (unsigned int i = 0; i < n; i++)
		ask_one(fds[i]);
	while (end - start < seconds) {
		int k = epoll_wait(loop, ready, EVENTS, 1000);

		for (int i = 0; i < k; i++) {
			int fd = ready[i].data.fd;
			ssize_t got = recv(fd, bytes, MESSAGE - open_[fd], 0);

			if (got <= 0)
				die("recv");
			open_[fd] += (unsigned int)got;
			if (open_[fd] < MESSAGE)
				continue;
			open_[fd] = 0;
			done++;
			ask_one(fd);
		}
		end = now();
	}
	printf("%lu %.3f\n", done, end - start);
	free(fds);
	return 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 4 && strcmp(argv[1], "serve") == 0)
		serve(argv[2], argv[3]);
	if (argc == 6 && strcmp(argv[1], "ask") == 0)
		return ask(argv[2], argv[3], (unsigned int)strtoul(argv[4], NULL, 10),
			strtod(argv[5], NULL));
	fprintf(stderr, "usage: tunnel serve ADDRESS PORT | tunnel ask PORT HOST N SECONDS\n");
	return 2;
}
