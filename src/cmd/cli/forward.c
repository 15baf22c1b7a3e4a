/*
 * weir forward: ports of a sandbox on this machine, over the daemon's tunnels.
 *
 * One process listens; each connection gets a process of its own, which dials its tunnel and
 * copies until both directions have ended. So a connection that is refused, stuck or broken
 * concerns no other, and the copying is a straight line. They all end with the first.
 */
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "base/ip.h"
#include "cmd/cli/cli.h"

#define CONNECTIONS_MAX 128 /* at a time: as many tunnels as a sandbox may have */
#define PIECE		65536

struct forward {
	struct ip at;
	uint32_t local, remote;
	int fd;
};

/* --- what the words say --- */

static int bad_word(const char *word)
{
	cli_say("\"%.60s\" is not [ADDRESS:]LOCAL:REMOTE", word);
	cli_hint("like 8000:80, 0.0.0.0:8000:80, [::1]:8000:80");
	return CLI_USAGE;
}

/* Cut the last part off, behind its colon. */
static struct str last_part(struct str *s)
{
	size_t at = s->n;
	struct str part;

	while (at > 0 && s->p[at - 1] != ':')
		at--;
	part = str_skip(*s, at);
	*s = at ? str_n(s->p, at - 1) : STR_NONE;
	return part;
}

static int read_word(const char *word, struct forward *f)
{
	struct str rest = str_c(word), remote = last_part(&rest), local = last_part(&rest);
	uint64_t n, m;

	if (str_u64(remote, UINT16_MAX, &n) < 0 || n == 0 || str_u64(local, UINT16_MAX, &m) < 0)
		return bad_word(word);
	if (rest.n > 2 && rest.p[0] == '[' && rest.p[rest.n - 1] == ']')
		rest = str_n(rest.p + 1, rest.n - 2);
	else if (str_find(rest, ':') >= 0)
		return bad_word(word);
	if (!rest.p || str_eq_c(rest, "localhost"))
		rest = STR("127.0.0.1");
	if (ip_from(rest, &f->at) < 0)
		return bad_word(word);
	f->remote = (uint32_t)n;
	f->local = (uint32_t)m;
	return CLI_OK;
}

/* --- listening --- */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t address_of(const struct forward *f, union address *ret)
{
	*ret = (union address){ 0 };
	if (f->at.family == 4) {
		ret->v4.sin_family = AF_INET;
		ret->v4.sin_port = htons((uint16_t)f->local);
		memcpy(&ret->v4.sin_addr, f->at.a, 4);
		return sizeof(ret->v4);
	}
	ret->v6.sin6_family = AF_INET6;
	ret->v6.sin6_port = htons((uint16_t)f->local);
	memcpy(&ret->v6.sin6_addr, f->at.a, 16);
	return sizeof(ret->v6);
}

static int listen_at(struct forward *f)
{
	union address addr;
	socklen_t n = address_of(f, &addr);
	auto_fd int fd = socket(addr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		(f->at.family == 6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
		bind(fd, &addr.any, n) < 0 || listen(fd, SOMAXCONN) < 0 ||
		getsockname(fd, &addr.any, &n) < 0) {
		cli_say("cannot listen on %s port %u: %s", ip_text(f->at).s, f->local, strerror(errno));
		if (errno == EADDRINUSE)
			cli_hint("another program has it; LOCAL 0 takes a free port");
		return CLI_FAILED;
	}
	f->local = ntohs(f->at.family == 4 ? addr.v4.sin_port : addr.v6.sin6_port);
	f->fd = take_fd(fd);
	return CLI_OK;
}

static int announce(struct cli *c, const struct forward *f)
{
	auto_buf struct buf out = BUF_MAX(4096);
	bool v6 = f->at.family == 6;

	if (c->opt.json) {
		auto_json json_t *data = json_pack("{s:s, s:i, s:i}", "address", ip_text(f->at).s, "local",
			(int)f->local, "remote", (int)f->remote);

		return print_json(c, data);
	}
	buf_fmt(&out, "%s%s%s:%u -> %u\n", v6 ? "[" : "", ip_text(f->at).s, v6 ? "]" : "", f->local,
		f->remote);
	print_flush(&out, STDOUT_FILENO);
	return CLI_OK;
}

/* --- one connection, in its own process --- */

struct half { /* one direction */
	char piece[PIECE];
	size_t at, n;
	bool ended, told; /* its source said its last; its sink was told */
};

static ssize_t local_read(int fd, char *p, size_t n)
{
	ssize_t r = recv(fd, p, n, MSG_DONTWAIT);

	return r < 0 ? -errno : r;
}

static ssize_t local_write(int fd, const char *p, size_t n)
{
	ssize_t r = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	return r < 0 ? -errno : r;
}

/* Move what can be moved without waiting. *wants: POLLIN of the source, POLLOUT of the sink. */
static int move(struct half *h, struct dial *d, int fd, bool up, short *source, short *sink)
{
	for (;;) {
		ssize_t r;

		if (h->n) {
			r = up ? dial_write(d, h->piece + h->at, h->n) :
				 local_write(fd, h->piece + h->at, h->n);
			if (r < 0) {
				*sink |= POLLOUT;
				return r == -EAGAIN ? 0 : (int)r;
			}
			h->at += (size_t)r;
			h->n -= (size_t)r;
			continue;
		}
		if (h->ended && !h->told) {
			h->told = true;
			return up ? dial_shut(d) : shutdown(fd, SHUT_WR) < 0 ? -errno : 0;
		}
		if (h->ended)
			return 0;
		r = up ? local_read(fd, h->piece, PIECE) : dial_read(d, h->piece, PIECE);
		if (r == -EAGAIN) {
			*source |= POLLIN;
			return 0;
		}
		if (r < 0)
			return (int)r;
		h->at = 0;
		h->n = (size_t)r;
		h->ended = r == 0;
	}
}

/* A direction that breaks breaks both: the other end sees a reset, not an end. */
static void abort_local(int fd)
{
	struct linger now = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

/* Both are polled even where nothing is wanted of them, to hear of a reset. One that has ended both
 * ways says so again and again, though, and is left alone then. */
static int copy(struct dial *d, int fd)
{
	static struct half up, down;
	bool over[2] = { false };

	for (;;) {
		struct pollfd p[2] = { { .fd = fd }, { .fd = d->fd } };
		int r = move(&up, d, fd, true, &p[0].events, &p[1].events);

		if (r == 0)
			r = move(&down, d, fd, false, &p[1].events, &p[0].events);
		if (r < 0 || (up.told && down.told))
			return r;
		for (int i = 0; i < 2; i++)
			if (over[i] && !p[i].events)
				p[i].fd = -1;
		if (poll(p, 2, -1) < 0)
			return -errno;
		for (int i = 0; i < 2; i++) {
			if (p[i].revents & (POLLERR | POLLNVAL))
				return -ECONNRESET;
			over[i] |= p[i].revents & POLLHUP;
		}
	}
}

static int carry(struct cli *c, const struct forward *f, const char *id, int fd)
{
	auto_dial struct dial d = { .fd = -EBADF };
	char rest[32];
	int r;

	snprintf(rest, sizeof(rest), "/tunnel/%u", f->remote);
	r = dial_open(c, box_path(id, rest).s, "tcp-tunnel", &d);
	if (r) {
		cli_hint("this was a connection to port %u, forwarded from %u", f->remote, f->local);
		abort_local(fd);
		return r;
	}
	if (copy(&d, fd) < 0)
		abort_local(fd);
	return CLI_OK;
}

/* --- all of them --- */

static void on_child(int sig)
{
}

static void spawn(struct cli *c, const struct forward *f, const char *id, unsigned int *n)
{
	auto_fd int fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC);
	pid_t parent = getpid(), pid;

	if (fd < 0)
		return;
	pid = fork();
	if (pid < 0) {
		cli_say("no process for another connection: %s", strerror(errno));
		abort_local(fd);
		return;
	}
	if (pid > 0) {
		(*n)++;
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(CLI_FAILED);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, sig == SIGPIPE ? SIG_IGN : SIG_DFL);
	sigprocmask(SIG_SETMASK, &(sigset_t){ 0 }, NULL);
	_exit(carry(c, f, id, fd));
}

/* Signals come only while it waits, so none is missed. */
static int serve(struct cli *c, const struct forward *f, unsigned int n_forwards, const char *id)
{
	struct pollfd p[FORWARDS_MAX] = { 0 };
	unsigned int n = 0;
	sigset_t ours, before;

	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGHUP);
	sigaddset(&ours, SIGCHLD);
	cli_catch_signals();
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = on_child }, NULL);
	sigprocmask(SIG_BLOCK, &ours, &before);
	while (!cli_interrupted) {
		for (unsigned int i = 0; i < n_forwards; i++)
			p[i] = (struct pollfd){ .fd = n < CONNECTIONS_MAX ? f[i].fd : -1, .events = POLLIN };
		if (ppoll(p, n_forwards, NULL, &before) > 0)
			for (unsigned int i = 0; i < n_forwards && n < CONNECTIONS_MAX; i++)
				if (p[i].revents)
					spawn(c, &f[i], id, &n);
		while (n && waitpid(-1, NULL, WNOHANG) > 0)
			n--;
	}
	return CLI_OK; /* Ctrl-C is how forwarding ends */
}

int cmd_forward(struct cli *c)
{
	struct forward f[FORWARDS_MAX];
	unsigned int n = (unsigned int)c->argc - 1;
	auto_json json_t *box = NULL;
	char id[CLI_ID_LEN];
	int r = CLI_OK;

	for (unsigned int i = 0; !r && i < n; i++)
		r = read_word(c->argv[1 + i], &f[i]);
	if (!r)
		r = box_find(c, c->argv[0], id);
	if (!r)
		r = api_json(c, "GET", box_path(id, "").s, STR_NONE, &box);
	for (unsigned int i = 0; !r && i < n; i++)
		r = listen_at(&f[i]);
	for (unsigned int i = 0; !r && i < n; i++)
		r = announce(c, &f[i]);
	/* A process must not use the handle that the first one has a connection in. */
	curl_easy_cleanup(c->curl);
	c->curl = NULL;
	return r ? r : serve(c, f, n, id);
}
