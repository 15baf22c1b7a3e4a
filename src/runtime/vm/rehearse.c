/* Rehearsals: see the header. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include "base/clock.h"
#include "base/fd.h"
#include "base/ulid.h"
#include "bpf/maps.h"
#include "host/netns.h"
#include "runtime/vm/rehearse.h"
#include "wire/frame.h"

#define SAY_MAX	 4096
#define NOBODY	 "machine" /* its host name */
#define SEED	 32
#define ID_BYTES 16

static struct str raw(const struct ip *ip)
{
	return str_n((const char *)ip->a, ip->family ? ip_bits(ip->family) / 8u : 0);
}

static int say_wake(struct buf *out, const struct slotnet_plan *p)
{
	uint8_t seed[SEED], id[ID_BYTES];
	union frame_body m = { .wake = { .hostname = STR(NOBODY),
		.wall_ns = clock_wall_ns(),
		.entropy = str_n((const char *)seed, sizeof(seed)),
		.machine = str_n((const char *)id, sizeof(id)),
		.ip4 = raw(&p->ip4),
		.ip6 = raw(&p->ip6),
		.overlay = raw(&p->overlay) } };

	random_bytes(seed, sizeof(seed)); /* no secret: the WAKE of a user brings another */
	random_bytes(id, sizeof(id));
	return frame_encode(out, FRAME_WAKE, &m);
}

/* Told a word that it does not know, the agent prints a line and ends. */
static int say_exec(struct buf *out)
{
	struct str argv[] = { STR("/proc/1/exe"), STR("rehearse") };
	const union frame_body m = { .exec = { .argv = { argv, ARRAY_SIZE(argv) }, .flags = FRAME_EXEC_KILL } };

	return frame_encode(out, FRAME_EXEC, &m);
}

void rehearsal_free(struct rehearsal *r)
{
	for (size_t i = 0; r && i < REHEARSE_TALKS; i++) {
		buf_done(&r->say[i]);
		fd_close(r->talk[i]);
	}
	free(r);
}

struct rehearsal *rehearsal_new(const struct slotnet_plan *plan)
{
	struct rehearsal *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	for (size_t i = 0; i < REHEARSE_TALKS; i++) {
		r->say[i] = BUF_MAX(SAY_MAX);
		r->talk[i] = -EBADF;
	}
	if (say_wake(&r->say[REHEARSE_WAKE], plan) == 0 && say_exec(&r->say[REHEARSE_EXEC]) == 0)
		return r;
	rehearsal_free(r);
	return NULL;
}

static int socket_to(const char *link)
{
	const struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(WEIR_LINK_GATEWAY) };
	auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, link, (socklen_t)strlen(link)) < 0 ||
		bind(fd, (const struct sockaddr *)&from, sizeof(from)) < 0)
		return -errno;
	return take_fd(fd);
}

int rehearsal_open(struct rehearsal *r, int router_ns, const char *link, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	int n = netns_visit(&v, router_ns);

	for (size_t i = 0; n >= 0 && i < REHEARSE_TALKS; i++)
		n = r->talk[i] = socket_to(link);
	return n < 0 ? err_sys(err, n, "make a socket to a machine") : 0;
}

/* --- in a hand --- */

static int wait_for(int fd, short events, uint64_t end, struct err *err)
{
	uint64_t now = clock_mono_ns();
	struct pollfd p = { .fd = fd, .events = events };

	if (now < end && poll(&p, 1, (int)((end - now) / NS_PER_MS) + 1) > 0)
		return 0;
	return err_set(err, -ETIMEDOUT, ERR_TIMEOUT, "the machine's agent does not answer");
}

/* The kernel sends when it is connected, and has room for all of it. */
static int ask(int fd, struct str say, uint64_t end, struct err *err)
{
	const struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons(WEIR_AGENT_PORT),
		.sin_addr.s_addr = htonl(WEIR_LINK_SANDBOX) };
	int r = connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS ? -errno : 0;

	if (r < 0)
		return err_sys(err, r, "connect to the machine's agent");
	r = wait_for(fd, POLLOUT, end, err);
	if (r == 0 && send(fd, say.p, say.n, MSG_NOSIGNAL) != (ssize_t)say.n)
		r = err_sys(err, errno ? -errno : -EPIPE, "speak to the machine's agent");
	return r;
}

/* All up to the last frame of an operation; no matter what it says, unless it is an error. */
static int listen_to(int fd, uint64_t end, char *chunk, size_t size, struct err *err)
{
	size_t used = 0;

	for (;;) {
		struct str rest = str_n(chunk, used);
		struct frame f;
		ssize_t n;
		int r;

		while ((r = frame_next(&rest, &f)) > 0) {
			if (f.type == FRAME_OK || f.type == FRAME_EXIT)
				return 0;
			if (f.type == FRAME_ERROR)
				return err_set(err, -EIO, ERR_INTERNAL, "the machine's agent refuses");
		}
		memmove(chunk, rest.p, rest.n);
		used = rest.n;
		if (r < 0 || used == size)
			return err_set(err, -EBADMSG, ERR_INTERNAL, "the machine's agent is not understood");
		r = wait_for(fd, POLLIN, end, err);
		if (r < 0)
			return r;
		n = recv(fd, chunk + used, size - used, 0);
		if (n <= 0)
			return err_set(err, -EPIPE, ERR_INTERNAL, "the machine's agent has ended");
		used += (size_t)n;
	}
}

int rehearse(const struct rehearsal *r, uint64_t end, char *chunk, size_t size, struct err *err)
{
	int n = 0;

	for (size_t i = 0; n == 0 && i < REHEARSE_TALKS; i++) {
		n = ask(r->talk[i], buf_str(&r->say[i]), end, err);
		n = n < 0 ? n : listen_to(r->talk[i], end, chunk, size, err);
	}
	return n;
}
