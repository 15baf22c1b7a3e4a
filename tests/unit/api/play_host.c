/*
 * Plays the host role and one edge worker to a real weir-api (linked with a played agent), so that
 * the whole role can be tried without root.
 *
 *	play_host WEIR-API STATE-DIR [KEY=VALUE…]
 *
 * Prints one line "api PID PORT" for each start of the role, which is started again when it dies.
 * Sandboxes live here, so killing the role is a restart as the real host role sees it. Commands on
 * standard input, one per line, answered with "ok" or text and a final ".":
 *
 *	log		requests since the last `log`, one per line: "SPAWN sb-… 1"
 *	fail TYPE KIND	the next request of this type (SPAWN, COMMIT, FREEZE, …) fails: KIND a number
 *	hold TYPE	the next request of this type is not answered until `release`
 *	release
 *	died ID		its first process ended
 *	forget		the machine restarted: no sandbox is left
 *	nets ID [N…]	the kernel has it in these networks
 *	denied SLOT NAME  the edge refused a name
 *	runtimes R P TEXT  from its next start on the role hears of these ("container,vm"), the preferred
 *			one, and what there is to say of machines
 *	taken N		the next N pairs of host ports are somebody else's
 *	seen ID OPEN REQUESTS  the edge reports use of a sandbox's ingress
 *	wake ID		the edge asks for a sandbox; the answer is journalled: "WOKEN ID STATUS"
 *	edge		a new edge worker replaces the old one
 *	keys [ID HEX]…	the keys that endpoints are signed with, now and at each start; the edge's are
 *			journalled: "KEYS - N"; so is what a sandbox is secured with: "SECRET - TEXT"
 *	shutdown	ask the role to end; it is started again
 *	quit
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "base/hex.h"
#include "base/log.h"
#include "bpf/maps.h"
#include "event/chan.h"
#include "wire/ipc_ingress.h"

/* A member of a payload, which lies where it lies. */
#define FIELD(p, type, member)                                                                     \
	({                                                                                         \
		type whole_;                                                                       \
		memcpy(&whole_, (p), sizeof(whole_));                                              \
		whole_.member;                                                                     \
	})

#define BOXES 256

static uv_loop_t *loop;
static struct chan *api, *edge;
static struct ipc_sandbox boxes[BOXES];
static struct buf journal = { .max = 1u << 20 }, config = { .max = 65536 };
static char *program, *state_dir;
static uint16_t fail_type, hold_type;
static int fail_kind;
static unsigned int taken;
static struct ipc_host_info info = { .mem_free = UINT64_C(8) << 30, .slots_max = BOXES,
	.hostname = "played", .runtimes = "container", .preferred = "container",
	.vm = "there is no QEMU: install the package qemu-system-x86" };
static struct {
	uint32_t serial;
	uint16_t type;
	char payload[IPC_MSG_MAX];
	size_t n;
} held;
static uv_process_t process;
static struct ipc_ingress_keys keys;
static int keys_fd = -EBADF;
static bool quitting;
static int listener;
static unsigned int port;

static const struct {
	const char *name;
	uint16_t type;
} names[] = { { "LIST", IPC_HOST_LIST }, { "RESERVE", IPC_HOST_RESERVE }, { "SPAWN", IPC_HOST_SPAWN },
	{ "COMMIT", IPC_HOST_COMMIT }, { "NET", IPC_HOST_NET }, { "FREEZE", IPC_HOST_FREEZE }, { "THAW", IPC_HOST_THAW },
	{ "DESTROY", IPC_HOST_DESTROY }, { "GROW", IPC_HOST_GROW }, { "IMAGES", IPC_HOST_IMAGES },
	{ "INFO", IPC_HOST_INFO }, { "BUILD", IPC_HOST_BUILD }, { "SET", IPC_EDGE_SET },
	{ "RETIRE", IPC_EDGE_RETIRE }, { "DEL", IPC_EDGE_DEL }, { "SYNCED", IPC_EDGE_SYNCED },
	{ "LEARNED", IPC_EDGE_LEARNED }, { "NETS", IPC_HOST_NETS },
	{ "INGRESS", IPC_HOST_INGRESS }, { "STATS", IPC_HOST_STATS }, { "ROUTE", IPC_EDGE_INGRESS },
	{ "KEYS", IPC_EDGE_INGRESS_KEYS }, { "MACHINES", IPC_HOST_MACHINES } };

static const char *name_of(uint16_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].type == type)
			return names[i].name;
	return "?";
}

static uint16_t type_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(names[i].name, name))
			return names[i].type;
	return 0;
}

static struct ipc_sandbox *box(const char *id)
{
	for (unsigned int i = 0; i < BOXES; i++)
		if (!strcmp(boxes[i].id, id))
			return &boxes[i];
	return NULL;
}

static void answer(struct chan *c, uint16_t type, uint32_t serial, struct str p)
{
	char id[IPC_ID_LEN] = "";
	struct ipc_sandbox *b;
	struct err err;

	if (p.n >= IPC_ID_LEN && type != IPC_HOST_RESERVE && type != IPC_HOST_NET)
		memcpy(id, p.p, IPC_ID_LEN);
	b = id[0] ? box(id) : NULL;
	if (type == fail_type) {
		fail_type = 0;
		err_set(&err, -EIO, (enum err_kind)fail_kind, "played failure: no capacity");
		chan_reply_err(c, serial, &err);
		return;
	}
	if (type == IPC_HOST_LIST) {
		auto_buf struct buf out = BUF_MAX(IPC_MSG_MAX);
		struct ipc_list head = { 0 };

		for (unsigned int i = 0; i < BOXES; i++)
			head.n += boxes[i].id[0] != 0;
		buf_add(&out, &head, sizeof(head));
		for (unsigned int i = 0; i < BOXES; i++)
			if (boxes[i].id[0])
				buf_add(&out, &boxes[i], sizeof(boxes[i]));
		chan_reply(c, serial, 0, out.p, out.n, NULL, 0);
	} else if (type == IPC_HOST_SPAWN) {
		struct ipc_spawn s;
		unsigned int slot;

		memcpy(&s, p.p, sizeof(s));
		slot = s.slot;

		for (unsigned int i = 1; i < BOXES && !slot; i++)
			if (!boxes[i].id[0])
				slot = i;
		b = &boxes[slot];
		*b = (struct ipc_sandbox){ .slot = slot, .ifindex = 100 + slot, .spawn_us = 1500 };
		memcpy(b->id, s.id, sizeof(b->id));
		b->ip4 = ip_v4(0x0a3c0000u + slot);
		snprintf(b->link, sizeof(b->link), "w%u", slot);
		chan_reply(c, serial, 0, b, sizeof(*b), NULL, 0);
	} else if (type == IPC_HOST_COMMIT && !strncmp(id, "bd-", 3)) {
		struct ipc_build_done done = { .status = 0 };

		memcpy(done.id, id, sizeof(done.id));
		chan_reply(c, serial, 0, NULL, 0, NULL, 0);
		chan_send(c, IPC_EVENT_BUILD, &done, sizeof(done), NULL, 0);
	} else if (type == IPC_HOST_COMMIT && b) {
		b->policy = FIELD(p.p, struct ipc_commit, policy);
		chan_reply(c, serial, 0, NULL, 0, NULL, 0);
	} else if (type == IPC_HOST_NETS && b) {
		struct ipc_nets nets;

		memcpy(&nets, p.p, sizeof(nets));
		b->n_nets = nets.n;
		memcpy(b->nets, nets.nets, sizeof(b->nets));
		memcpy(b->net_versions, nets.versions, sizeof(b->net_versions));
		chan_reply(c, serial, 0, NULL, 0, NULL, 0);
	} else if (type == IPC_HOST_INGRESS && b) {
		struct ipc_ingress q;
		int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), fds[] = { fd, fd };

		memcpy(&q, p.p, sizeof(q));
		if (taken && (q.port[0] || q.port[1])) {
			taken--;
			err_set(&err, -EADDRINUSE, ERR_CONFLICT, "port %u is taken", q.port[0]);
			chan_reply_err(c, serial, &err);
		} else {
			b->ingress = q.on;
			chan_reply(c, serial, 0, NULL, 0, fds, !!q.port[0] + !!q.port[1]);
		}
		close(fd);
	} else if ((type == IPC_HOST_FREEZE || type == IPC_HOST_THAW) && b) {
		b->state = type == IPC_HOST_FREEZE ? IPC_RUN_FROZEN : IPC_RUN_RUNNING;
		chan_reply(c, serial, 0, NULL, 0, NULL, 0);
	} else if (type == IPC_HOST_DESTROY) {
		if (b)
			*b = (struct ipc_sandbox){ 0 };
		chan_reply(c, serial, 0, NULL, 0, NULL, 0);
	} else if (type == IPC_HOST_IMAGES) {
		struct ipc_image im[2] = { { .name = "devbox:1", .digest = "sha256:00" },
			{ .name = "debian:13", .digest = "sha256:01" } };

		chan_reply(c, serial, 0, im, sizeof(im), NULL, 0);
	} else if (type == IPC_HOST_STATS) {
		static struct ipc_stats stats = { .mem_bytes = 96u << 20, .pids = 3 };

		stats.cpu_usec += 30000; /* it uses some of its processors all the time */
		chan_reply(c, serial, 0, &stats, sizeof(stats), NULL, 0);
	} else if (type == IPC_HOST_INFO) {
		chan_reply(c, serial, 0, &info, sizeof(info), NULL, 0);
	} else if (type == IPC_HOST_MACHINES) {
		const struct ipc_machines m = { .starts = { 1, 2, 3, 4, 5 },
			.templates = { { 6, 7, 8 }, { 9, 10, 11 } }, .ready = 12, .ready_mib = 13 };

		chan_reply(c, serial, 0, &m, sizeof(m), NULL, 0);
	} else if (type == IPC_HOST_BUILD) {
		struct ipc_sandbox place = { .slot = BOXES, .ifindex = 99 };
		int fds[2];

		if (pipe2(fds, O_CLOEXEC) < 0)
			abort();
		fd_write_all(fds[1], "step 1\nstep 2\n", 14);
		chan_reply(c, serial, 0, &place, sizeof(place), fds, 1);
		close(fds[0]);
		close(fds[1]);
	} else if (type == IPC_EDGE_LEARNED) {
		struct str lines = STR("93.184.216.34 example.com 60\n");

		chan_reply(c, serial, 0, lines.p, lines.n, NULL, 0);
	} else if ((type == IPC_HOST_COMMIT || type == IPC_HOST_NETS || type == IPC_HOST_INGRESS ||
			   type == IPC_HOST_FREEZE || type == IPC_HOST_THAW) && !b) {
		err_set(&err, -ENOENT, ERR_NOT_FOUND, "no such sandbox");
		chan_reply_err(c, serial, &err);
	} else {
		chan_reply(c, serial, 0, NULL, 0, NULL, 0);
	}
}

/* flags, state, access, number of tokens and of routes in one: 0xRTTASFF; all ones: sizes do not
 * fit. */
static unsigned int route_word(const struct chan_msg *m)
{
	struct ipc_edge_ingress set = { .slot = 0 };
	size_t head = offsetof(struct ipc_edge_ingress, tokens);
	unsigned int fds;

	memcpy(&set, m->payload.p, MIN(m->payload.n, sizeof(set)));
	if (set.secret[0])
		buf_fmt(&journal, "SECRET - %s\n", set.secret);
	fds = !!(set.flags & IPC_INGRESS_PROXY_FD) + !!(set.flags & IPC_INGRESS_DIRECT_FD);
	if (m->payload.n != head + set.n_tokens * sizeof(set.tokens[0]) +
			set.n_routes * sizeof(set.routes[0]) || m->n_fds != fds)
		return UINT32_MAX;
	return set.flags | set.state << 8 | set.access << 12 | set.n_tokens << 16 |
		set.n_routes << 24;
}

/* The network's number in place of an id; each rule on a line of its own before. Returns the default. */
static unsigned int net_told(const char *p, char id[static IPC_ID_LEN])
{
	struct ipc_net net;

	memcpy(&net, p, sizeof(net));
	snprintf(id, IPC_ID_LEN, "%u%s", net.number, net.gone ? "-gone" : "");
	for (uint32_t i = 0; i < net.n; i++) {
		const struct ipc_call *c = &net.rules[i];

		buf_fmt(&journal, "RULE %d>%d %u/%u/%u-%u\n", (int)c->from, (int)c->to, c->action,
			c->protos, c->n_ports ? c->ports[0][0] : 0u, c->n_ports ? c->ports[0][1] : 0u);
	}
	return net.fallback;
}

static void on_msg(struct chan *c, struct chan_msg *m, void *arg)
{
	char id[IPC_ID_LEN] = "-";
	unsigned int n = 0;

	if (m->payload.n >= IPC_ID_LEN && m->type != IPC_HOST_RESERVE && m->type != IPC_HOST_NET &&
		m->type != IPC_EDGE_INGRESS_KEYS)
		memcpy(id, m->payload.p, IPC_ID_LEN);
	if (m->type == IPC_EDGE_INGRESS_KEYS)
		n = FIELD(m->payload.p, struct ipc_ingress_keys, n);
	else if (m->type == IPC_HOST_NET)
		n = net_told(m->payload.p, id);
	else if (m->type == IPC_HOST_COMMIT)
		n = FIELD(m->payload.p, struct ipc_commit, policy);
	else if (m->type == IPC_EDGE_SET)
		n = FIELD(m->payload.p, struct ipc_edge_set, policy);
	else if (m->type == IPC_EDGE_RETIRE || m->type == IPC_EDGE_DEL)
		n = FIELD(m->payload.p, struct ipc_edge_retire, policy);
	else if (m->type == IPC_HOST_SPAWN)
		n = FIELD(m->payload.p, struct ipc_spawn, revive);
	else if (m->type == IPC_HOST_NETS)
		n = FIELD(m->payload.p, struct ipc_nets, n);
	else if (m->type == IPC_HOST_INGRESS)
		n = FIELD(m->payload.p, struct ipc_ingress, on) ?
			FIELD(m->payload.p, struct ipc_ingress, port[0]) + 1u : 0;
	else if (m->type == IPC_EDGE_INGRESS)
		n = route_word(m);
	else if (m->type == IPC_HOST_DESTROY)
		n = FIELD(m->payload.p, struct ipc_destroy, keep_disk);
	buf_fmt(&journal, "%s %.31s %u\n", name_of(m->type), id, n);
	if (m->type == hold_type && hold_type) {
		held.serial = m->serial;
		held.type = m->type;
		held.n = m->payload.n;
		memcpy(held.payload, m->payload.p, m->payload.n);
		hold_type = 0;
		return;
	}
	answer(c, m->type, m->serial, m->payload);
}

static void start(void);

static void on_close(struct chan *c, int err, void *arg)
{
	if (c == api)
		api = NULL;
	else
		edge = NULL;
	chan_free(c);
}

static void closed(uv_handle_t *h)
{
	if (!quitting)
		start();
}

static void on_exit_of(uv_process_t *p, int64_t status, int sig)
{
	fprintf(stderr, "weir-api ended: status %d signal %d\n", (int)status, sig);
	chan_free(take_ptr(api));
	chan_free(take_ptr(edge));
	uv_close((uv_handle_t *)p, closed);
}

static void give(const char *name, int fd)
{
	struct ipc_boot_fd m = { 0 };

	snprintf(m.name, sizeof(m.name), "%s", name);
	chan_send(api, IPC_BOOT_FD, &m, sizeof(m), &fd, 1);
}

static int new_edge(void)
{
	int p[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0)
		abort();
	chan_free(take_ptr(edge));
	if (chan_open(loop, p[0], "edge", on_msg, on_close, NULL, &edge) < 0)
		abort();
	return p[1];
}

static void start(void)
{
	struct ipc_boot_done done = { .version = IPC_VERSION, .boot_id = 1 };
	char *argv[] = { program, NULL };
	uv_stdio_container_t io[4] = { [1] = { .flags = UV_INHERIT_FD, .data.fd = 2 },
		[2] = { .flags = UV_INHERIT_FD, .data.fd = 2 }, [3] = { .flags = UV_INHERIT_FD } };
	uv_process_options_t o = { .file = program, .args = argv, .stdio = io, .stdio_count = 4,
		.exit_cb = on_exit_of };
	int p[2], dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), e, conf;

	if (dir < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0)
		abort();
	io[3].data.fd = p[1];
	if (uv_spawn(loop, &process, &o) < 0)
		abort();
	close(p[1]);
	if (chan_open(loop, p[0], "api", on_msg, on_close, NULL, &api) < 0)
		abort();
	e = new_edge();
	conf = memfd_sealed("config", buf_str(&config));
	give("config", conf);
	give("state", dir);
	give("listen.api.0", listener);
	give("peer.edge.0", e);
	if (keys_fd >= 0)
		give("gateway.keys", keys_fd);
	chan_send(api, IPC_BOOT_DONE, &done, sizeof(done), NULL, 0);
	close(dir);
	close(e);
	close(conf);
	printf("api %d %u\n", process.pid, port);
	fflush(stdout);
}

/* --- commands --- */

static void edge_denied(char *args)
{
	struct ipc_event_dns d = { .reason = WEIR_R_NAME, .rule = WEIR_RULE_NONE };
	char *name = strchr(args, ' ');

	d.slot = (uint32_t)strtoul(args, NULL, 10);
	d.policy = boxes[d.slot % BOXES].policy;
	if (name)
		snprintf(d.name, sizeof(d.name), "%s", name + 1);
	chan_send(edge, IPC_EVENT_DNS, &d, sizeof(d), NULL, 0);
}

static void on_woken(struct chan_msg *m, void *arg)
{
	struct ipc_sandbox *b = arg;

	buf_fmt(&journal, "WOKEN %.31s %d\n", b->id, m->status);
}

/* "ID OPEN REQUESTS", or an ID alone */
static void edge_says(uint16_t type, char *args)
{
	char *rest = args, *id = strsep(&rest, " "), *open = strsep(&rest, " ");
	struct ipc_sandbox *b = box(id);
	struct ipc_ingress_seen s = { .slot = b ? b->slot : 0 };
	struct ipc_ingress_wake w = { .slot = s.slot };

	snprintf(s.id, sizeof(s.id), "%s", id);
	snprintf(w.id, sizeof(w.id), "%s", id);
	if (type == IPC_EVENT_INGRESS_WAKE) {
		chan_call(edge, type, &w, sizeof(w), NULL, 0, on_woken, b);
		return;
	}
	s.open = open ? (uint32_t)strtoul(open, NULL, 10) : 0;
	s.requests = rest ? strtoul(rest, NULL, 10) : 0;
	chan_send(edge, type, &s, sizeof(s), NULL, 0);
}

/* "k 0011… j 2233…" */
static void take_keys(char *rest)
{
	char *id;

	keys = (struct ipc_ingress_keys){ 0 };
	while (rest && (id = strsep(&rest, " ")) && *id) {
		struct ipc_ingress_key *k = &keys.key[keys.n++];
		char *hex = strsep(&rest, " ");

		k->id = *id;
		k->len = (uint32_t)strlen(hex) / 2;
		hex_read(str_c(hex), k->secret, k->len);
	}
	fd_close(keys_fd);
	keys_fd = memfd_sealed("keys", str_n(&keys, sizeof(keys)));
	give("gateway.keys", keys_fd);
}

static void command(char *line)
{
	char *args = strchr(line, ' ');

	if (args)
		*args++ = '\0';
	if (!strcmp(line, "log")) {
		printf("%s.\n", buf_cstr(&journal));
		buf_reset(&journal);
	} else {
		if (!strcmp(line, "fail") && args) {
			char *kind = strchr(args, ' ');

			*kind++ = '\0';
			fail_kind = (int)strtol(kind, NULL, 10);
			fail_type = type_of(args);
		} else if (!strcmp(line, "hold") && args) {
			hold_type = type_of(args);
		} else if (!strcmp(line, "release")) {
			answer(held.type >= IPC_EDGE_SET ? edge : api, held.type, held.serial,
				str_n(held.payload, held.n));
		} else if (!strcmp(line, "died") && args) {
			struct ipc_exited e = { .status = 9 };

			snprintf(e.id, sizeof(e.id), "%s", args);
			if (box(args))
				box(args)->state = IPC_RUN_DEAD;
			chan_send(api, IPC_EVENT_EXITED, &e, sizeof(e), NULL, 0);
		} else if (!strcmp(line, "nets") && args) {
			char *rest = args, *id = strsep(&rest, " "), *n;
			struct ipc_sandbox *b = box(id);

			for (b->n_nets = 0; (n = strsep(&rest, " "));)
				b->nets[b->n_nets++] = (uint32_t)strtoul(n, NULL, 10);
		} else if (!strcmp(line, "forget")) {
			memset(boxes, 0, sizeof(boxes));
		} else if (!strcmp(line, "denied") && args) {
			edge_denied(args);
		} else if (!strcmp(line, "runtimes") && args) {
			char *list = strsep(&args, " "), *comma = strchr(list, ',');

			if (comma)
				*comma = ' ';
			snprintf(info.runtimes, sizeof(info.runtimes), "%s", list);
			snprintf(info.preferred, sizeof(info.preferred), "%s", strsep(&args, " "));
			snprintf(info.vm, sizeof(info.vm), "%s", args);
		} else if (!strcmp(line, "taken") && args) {
			taken = (unsigned int)strtoul(args, NULL, 10);
		} else if (!strcmp(line, "keys")) {
			take_keys(args);
		} else if (!strcmp(line, "seen") && args) {
			edge_says(IPC_EVENT_INGRESS_SEEN, args);
		} else if (!strcmp(line, "wake") && args) {
			edge_says(IPC_EVENT_INGRESS_WAKE, args);
		} else if (!strcmp(line, "edge")) {
			struct ipc_edge_up up = { 0 };
			int fd = new_edge();

			chan_send(api, IPC_EVENT_EDGE, &up, sizeof(up), &fd, 1);
			close(fd);
		} else if (!strcmp(line, "shutdown")) {
			chan_send(api, IPC_SHUTDOWN, NULL, 0, NULL, 0);
		} else if (!strcmp(line, "quit")) {
			quitting = true;
			kill(process.pid, SIGKILL);
		}
		printf("ok\n");
	}
	fflush(stdout);
}

static void on_stdin(uv_poll_t *poll, int status, int what)
{
	static char line[4096];
	static size_t n;
	ssize_t k = read(0, line + n, sizeof(line) - 1 - n);
	char *end;

	if (k <= 0) {
		quitting = true;
		kill(process.pid, SIGKILL);
		uv_poll_stop(poll);
		uv_stop(loop);
		return;
	}
	n += (size_t)k;
	line[n] = '\0';
	while ((end = memchr(line, '\n', n))) {
		*end = '\0';
		command(line);
		n -= (size_t)(end + 1 - line);
		memmove(line, end + 1, n);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	uv_poll_t in;

	if (argc < 3)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	log_open("play", LOG_WARN);
	loop = uv_default_loop();
	program = argv[1];
	state_dir = argv[2];
	for (int i = 3; i < argc; i++)
		buf_fmt(&config, "%s\n", argv[i]);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&sin, sizeof(sin)) < 0 ||
		listen(listener, 128) < 0 || getsockname(listener, (struct sockaddr *)&sin, &len) < 0)
		return 1;
	port = ntohs(sin.sin_port);
	uv_poll_init(loop, &in, 0);
	uv_poll_start(&in, UV_READABLE, on_stdin);
	start();
	uv_run(loop, UV_RUN_DEFAULT);
	return 0;
}
