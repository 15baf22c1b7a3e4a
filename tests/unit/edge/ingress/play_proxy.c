/*
 * play_proxy [key=value...]: the reverse proxy alone, with the api role and the sandboxes' network
 * played. No root.
 *
 * A sandbox's address is one of 127.0.0.0/8 and is dialled as it is; its agent is whatever listens
 * at that address on the port agent_port. Settings are fields of struct ingress_conf, and
 * agent_port. On standard output, a line each:
 *
 *	listen PORT		the gateway; once, at the start
 *	wake SLOT		ops->wake
 *	seen SLOT open=… …	ops->seen
 *	serve SLOT PORT		ops->serve: the descriptor is answered "HTTP/1.1 200", the port as body
 *	ok | error TEXT		the answer to each command
 *
 * and on standard input the commands, a line each (see `commands` at the end).
 */
#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include "base/fd.h"
#include "edge/ingress/ingress.h"

static struct ingress *in;
static struct ingress_conf conf;
static uint32_t agent_port;
static uv_loop_t loop;

__attribute__((format(printf, 1, 2))) static void line(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

/* --- the world --- */

static bool do_seen(void *arg, const struct ipc_ingress_seen *s)
{
	line("seen %u open=%u requests=%" PRIu64 " refused=%" PRIu64 " failed=%" PRIu64 " in=%" PRIu64
	     " out=%" PRIu64, s->slot, s->open, s->requests, s->refused, s->failed, s->bytes_in,
		s->bytes_out);
	return true;
}

static int do_wake(void *arg, const struct ipc_ingress_wake *wake)
{
	line("wake %u", wake->slot);
	return 0;
}

static int do_serve(void *arg, const struct ipc_ingress_conn *conn, int fd)
{
	char text[200];
	int n = snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%u",
		conn->port > 9999 ? 5 : 4, conn->port);

	line("serve %u %u", conn->slot, conn->port);
	return fd_write_all(fd, text, (size_t)n);
}

static int do_dial(void *arg, const struct ipc_edge_ingress *to, uint16_t port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
		.sin_port = htons(port ? port : (uint16_t)agent_port),
		.sin_addr.s_addr = htonl(ip_v4_u32(to->ip4)) };
	auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 && errno != EINPROGRESS)
		return -errno;
	return take_fd(fd);
}

static int listen_any(uint16_t *ret_port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(addr);
	auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 4096) < 0 ||
		getsockname(fd, (struct sockaddr *)&addr, &n) < 0)
		return -errno;
	*ret_port = ntohs(addr.sin_port);
	return take_fd(fd);
}

/* --- commands --- */

static uint32_t number(struct str s)
{
	uint64_t n = 0;

	if (str_u64(s, UINT32_MAX, &n) < 0) {
		fprintf(stderr, "play_proxy: not a number: " STR_FMT "\n", STR_ARG(s));
		exit(2);
	}
	return (uint32_t)n;
}

static int unhex(struct str s, uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned int v;

		if (s.n != 2 * n || sscanf(s.p + 2 * i, "%2x", &v) != 1)
			return -EINVAL;
		p[i] = (uint8_t)v;
	}
	return 0;
}

/* set ID SLOT IP FLAGS STATE ACCESS SECRET|- [DIGEST:PORT:EXPIRES]...; listeners are made as the
 * flags ask for them, and their ports are said: "ok PORT..." */
static int do_set(struct str rest, struct err *err)
{
	struct ipc_edge_ingress set = { .ifindex = 1 };
	struct str secret;
	char ports[32] = "";
	unsigned int n_fds = 0;
	int fds[2], r;

	str_copy(set.id, sizeof(set.id), str_cut(&rest, ' '));
	set.slot = number(str_cut(&rest, ' '));
	ip_from(str_cut(&rest, ' '), &set.ip4);
	set.flags = number(str_cut(&rest, ' '));
	set.state = number(str_cut(&rest, ' '));
	set.access = number(str_cut(&rest, ' '));
	secret = str_cut(&rest, ' ');
	if (!str_eq_c(secret, "-"))
		str_copy(set.secret, sizeof(set.secret), secret);
	while (rest.n) {
		struct str word = str_cut(&rest, ' ');
		struct ipc_ingress_token *t = &set.tokens[set.n_tokens++];

		if (unhex(str_cut(&word, ':'), t->digest, 32) < 0)
			return err_set(err, -EINVAL, ERR_INVALID, "digest");
		t->port = number(str_cut(&word, ':'));
		t->expires = number(word);
	}
	for (uint32_t flag = IPC_INGRESS_PROXY_FD; flag <= IPC_INGRESS_DIRECT_FD; flag <<= 1)
		if (set.flags & flag) {
			size_t at = strlen(ports);
			uint16_t port;

			fds[n_fds++] = listen_any(&port);
			snprintf(ports + at, sizeof(ports) - at, " %u", port);
		}
	r = ingress_set(in, &set, fds, n_fds, err);
	if (r == 0)
		line("ok%s", ports);
	return r;
}

static int do_woken(struct str rest, struct err *err)
{
	uint32_t slot = number(str_cut(&rest, ' '));
	struct err why;

	if (rest.n)
		err_set(&why, -EIO, ERR_CAPACITY, STR_FMT, STR_ARG(rest));
	ingress_woken(in, slot, rest.n ? &why : NULL);
	line("ok");
	return 0;
}

static int do_del(struct str rest, struct err *err)
{
	ingress_del(in, number(rest));
	line("ok");
	return 0;
}

/* keys ID HEX... */
static int do_keys(struct str rest, struct err *err)
{
	struct ipc_ingress_keys keys = { 0 };
	int r;

	while (rest.n) {
		struct ipc_ingress_key *k = &keys.key[keys.n++];
		struct str hex;

		k->id = str_cut(&rest, ' ').p[0];
		hex = str_cut(&rest, ' ');
		k->len = (uint32_t)(hex.n / 2);
		unhex(hex, k->secret, k->len);
	}
	r = ingress_keys(in, &keys, err);
	if (r == 0)
		line("ok");
	return r;
}

/* cert CERT-FILE KEY-FILE */
static int do_cert(struct str rest, struct err *err)
{
	auto_buf struct buf cert = BUF_MAX(65536), key = BUF_MAX(65536);
	char path[2][256];
	int r;

	str_copy(path[0], sizeof(path[0]), str_cut(&rest, ' '));
	str_copy(path[1], sizeof(path[1]), rest);
	file_read(AT_FDCWD, path[0], &cert);
	file_read(AT_FDCWD, path[1], &key);
	r = ingress_cert(in, buf_str(&cert), buf_str(&key), err);
	if (r == 0)
		line("ok");
	return r;
}

static int do_sync(struct str rest, struct err *err)
{
	if (str_eq_c(rest, "begin"))
		ingress_unsync(in);
	else
		ingress_synced(in);
	line("ok");
	return 0;
}

static int do_counters(struct str rest, struct err *err)
{
	struct ingress_counters n;

	ingress_counters(in, &n);
	line("ok accepted=%" PRIu64 " full=%" PRIu64 " per_address=%" PRIu64 " requests=%" PRIu64
	     " malformed=%" PRIu64 " refused=%" PRIu64 " failed=%" PRIu64 " dialled=%" PRIu64
	     " reused=%" PRIu64 " handshakes=%" PRIu64 " clients=%u upstreams=%u tunnels=%u held=%u",
		n.accepted, n.full, n.per_address, n.requests, n.malformed, n.refused, n.failed,
		n.dialled, n.reused, n.handshakes, n.clients, n.upstreams, n.tunnels, n.held);
	return 0;
}

static const struct command {
	const char *name;
	int (*run)(struct str rest, struct err *err);
} commands[] = { { "set", do_set }, { "woken", do_woken }, { "del", do_del }, { "keys", do_keys },
	{ "cert", do_cert }, { "sync", do_sync }, { "counters", do_counters } };

static void obey(struct str text)
{
	struct str name = str_cut(&text, ' ');
	struct err err = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (str_eq_c(name, commands[i].name)) {
			if (commands[i].run(text, &err) < 0)
				line("error %s", err.text);
			return;
		}
	line("error unknown command");
}

static void on_input(uv_poll_t *poll, int status, int events)
{
	static char have[65536];
	static size_t n;
	ssize_t got = read(STDIN_FILENO, have + n, sizeof(have) - n);
	char *end;

	if (got <= 0) {
		ingress_free(in);
		uv_close((uv_handle_t *)poll, NULL);
		return;
	}
	n += (size_t)got;
	while ((end = memchr(have, '\n', n))) {
		size_t length = (size_t)(end - have);

		obey(str_n(have, length));
		n -= length + 1;
		memmove(have, end + 1, n);
	}
}

static const struct setting {
	const char *name;
	uint32_t *at;
} settings[] = { { "connections_max", &conf.connections_max }, { "per_address", &conf.per_address },
	{ "per_sandbox", &conf.per_sandbox }, { "upstream_max", &conf.upstream_max },
	{ "head_max", &conf.head_max }, { "head_ms", &conf.head_ms }, { "idle_ms", &conf.idle_ms },
	{ "connect_ms", &conf.connect_ms }, { "answer_ms", &conf.answer_ms },
	{ "silence_ms", &conf.silence_ms }, { "half_ms", &conf.half_ms }, { "hold_ms", &conf.hold_ms },
	{ "hold_max", &conf.hold_max }, { "agent_port", &agent_port } };

static void set(struct str assignment)
{
	struct str name = str_cut(&assignment, '=');

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (str_eq_c(name, settings[i].name)) {
			*settings[i].at = number(assignment);
			return;
		}
	fprintf(stderr, "play_proxy: unknown setting\n");
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct ingress_ops ops = { do_seen, do_wake, do_serve, do_dial };
	uv_poll_t input;
	uint16_t port;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	ingress_conf_defaults(&conf);
	for (int i = 1; i < argc; i++)
		set(str_c(argv[i]));
	conf.agent = agent_port;
	fd = listen_any(&port);
	if (uv_loop_init(&loop) < 0 || fd < 0 || ingress_new(&loop, &conf, &ops, NULL, &in) < 0 ||
		ingress_listen(in, fd) < 0) {
		fprintf(stderr, "play_proxy: cannot start\n");
		return 1;
	}
	line("listen %u", port);
	uv_poll_init(&loop, &input, STDIN_FILENO);
	uv_poll_start(&input, UV_READABLE, on_input);
	uv_run(&loop, UV_RUN_DEFAULT);
	/* Everything was let go: nothing is left for a leak checker to find. */
	return uv_loop_close(&loop) < 0;
}
