/*
 * The api role, played: takes the place of weir-api beside a weird under test, and does what lines
 * of text on its public listener tell it. Each line is answered by one line, "ok …" or "err CODE
 * text"; events of the host role are kept and read by "events".
 *
 *	list | info | images | events | ids
 *	reserve SLOT...
 *	spawn ID IMAGE [SLOT [REVIVE]]		ok slot link ifindex ip4 spawn_us
 *	commit ID SLOT POLICY allow|deny
 *	freeze ID | thaw ID | stats ID
 *	destroy ID [KEEP_DISK]
 *	grow ID MIB
 *	agent LINK				connect to the agent behind this link
 *	raw TYPE BYTES				a message that may break the rules
 *	quit STATUS
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <uv.h>
#include "base/fd.h"
#include "base/log.h"
#include "bpf/maps.h"
#include "event/chan.h"
#include "event/role.h"
#include "policy/policy.h"

struct line { /* one command under way */
	uv_tcp_t *client;
	char what[16];
};

static uv_loop_t *loop;
static struct chan *host;
static struct buf events = BUF_MAX(1 << 20);

static void written(uv_write_t *w, int status)
{
	free(w->data);
	free(w);
}

static void say(uv_tcp_t *client, const char *fmt, ...) _printf_(2, 3);
static void say(uv_tcp_t *client, const char *fmt, ...)
{
	uv_write_t *w = malloc(sizeof(*w));
	char *text;
	uv_buf_t b;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0 || !w)
		abort();
	w->data = text;
	b = uv_buf_init(text, (unsigned int)n);
	uv_write(w, (uv_stream_t *)client, &b, 1, written);
}

static void describe(struct buf *out, const struct ipc_sandbox *s)
{
	buf_fmt(out, "%s,%u,%s,%u,%s,%u,%u,%d ", s->id, s->slot, s->link, s->ifindex, ip_text(s->ip4).s,
		s->policy, s->state, s->exit_status);
}

static void say_list(uv_tcp_t *client, struct chan_msg *m)
{
	auto_buf struct buf out = BUF_MAX(1 << 20), all = BUF_MAX(16 << 20);
	struct str items = str_skip(m->payload, sizeof(struct ipc_list));
	auto_fd int fd = chan_take_fd(m, 0);

	if (fd >= 0 && memfd_read(fd, 16 << 20, &all) == 0)
		items = buf_str(&all);
	for (size_t i = 0; i < items.n / sizeof(struct ipc_sandbox); i++) {
		struct ipc_sandbox s;

		memcpy(&s, items.p + i * sizeof(s), sizeof(s));
		describe(&out, &s);
	}
	say(client, "ok %s\n", buf_cstr(&out));
}

static void on_reply(struct chan_msg *m, void *arg)
{
	struct line *l = arg;
	struct err err;

	if (m->status < 0) {
		chan_err(m, &err);
		say(l->client, "err %d %s %s\n", m->status, err_kind_name(err.kind), err.text);
	} else if (strcmp(l->what, "spawn") == 0) {
		const struct ipc_sandbox *s = (const void *)m->payload.p;

		say(l->client, "ok %u %s %u %s %u\n", s->slot, s->link, s->ifindex, ip_text(s->ip4).s,
			s->spawn_us);
	} else if (strcmp(l->what, "list") == 0) {
		say_list(l->client, m);
	} else if (strcmp(l->what, "info") == 0) {
		const struct ipc_host_info *i = (const void *)m->payload.p;

		say(l->client, "ok %u %u %u %s\n", i->slots_max, i->slots_used, i->has_ipv6, i->runtimes);
	} else if (strcmp(l->what, "stats") == 0) {
		const struct ipc_stats *s = (const void *)m->payload.p;

		say(l->client, "ok %" PRIu64 " %" PRIu64 "\n", s->mem_bytes, s->pids);
	} else {
		say(l->client, "ok %zu\n", m->payload.n);
	}
	free(l);
}

static void call(uv_tcp_t *client, const char *what, uint16_t type, const void *p, size_t n, int fd)
{
	struct line *l = calloc(1, sizeof(*l));
	int r;

	l->client = client;
	snprintf(l->what, sizeof(l->what), "%s", what);
	r = chan_call(host, type, p, n, &fd, fd >= 0, on_reply, l);
	if (r < 0) {
		say(client, "err %d channel\n", r);
		free(l);
	}
}

/* --- commands --- */

static uint32_t num(const char *w)
{
	uint64_t v = 0;

	if (w)
		str_u64(str_c(w), UINT32_MAX, &v);
	return (uint32_t)v;
}

static void do_commit(uv_tcp_t *c, char **w)
{
	struct ipc_commit q = { .slot = num(w[2]), .policy = num(w[3]), .share = 1 };
	auto_policy struct policy *p =
		policy_new(POLICY_NATIVE, strcmp(w[4], "allow") == 0 ? WEIR_ALLOW : WEIR_DENY);
	auto_buf struct buf blob = BUF_MAX(POLICY_BLOB_MAX);
	auto_fd int fd = -EBADF;

	snprintf(q.id, sizeof(q.id), "%s", w[1]);
	policy_encode(p, &blob);
	fd = memfd_sealed("policy", buf_str(&blob));
	call(c, "commit", IPC_HOST_COMMIT, &q, sizeof(q), fd);
}

static void do_spawn(uv_tcp_t *c, char **w)
{
	struct ipc_spawn q = { .slot = num(w[3]), .mem_mib = 128, .disk_mib = 64, .pids = 64,
		.revive = w[3] ? num(w[4]) : 0 };

	snprintf(q.id, sizeof(q.id), "%s", w[1]);
	snprintf(q.hostname, sizeof(q.hostname), "played");
	snprintf(q.image, sizeof(q.image), "%s", w[2]);
	call(c, "spawn", IPC_HOST_SPAWN, &q, sizeof(q), -1);
}

static void do_agent(uv_tcp_t *c, char **w)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(WEIR_AGENT_PORT),
		.sin_addr.s_addr = htonl(WEIR_LINK_SANDBOX) };
	struct timeval limit = { .tv_sec = 1 };
	auto_fd int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, w[1], (socklen_t)strlen(w[1])) < 0 ||
		connect(s, (struct sockaddr *)&to, sizeof(to)) < 0)
		say(c, "err %d agent\n", -errno);
	else
		say(c, "ok\n");
}

static void do_ids(uv_tcp_t *c)
{
	auto_buf struct buf status = BUF_MAX(65536), out = BUF_MAX(4096);
	struct str all;

	file_read(AT_FDCWD, "/proc/self/status", &status);
	all = buf_str(&status);
	while (all.n) {
		struct str line = str_cut(&all, '\n'), key = str_cut(&line, ':');

		if (str_starts(key, STR("Cap")) || str_eq_c(key, "NoNewPrivs") || str_eq_c(key, "Uid") ||
			str_eq_c(key, "Groups"))
			buf_fmt(&out, STR_FMT "=" STR_FMT ";", STR_ARG(key), STR_ARG(str_trim(line)));
	}
	say(c, "ok %s\n", buf_cstr(&out));
}

static void obey(uv_tcp_t *c, char *text)
{
	char *w[80] = { NULL }, *save = NULL;
	unsigned int n = 0;
	struct ipc_id id = { .id = "" };

	for (char *t = strtok_r(text, " \r\n", &save); t && n < 79; t = strtok_r(NULL, " \r\n", &save))
		w[n++] = t;
	if (!n)
		return;
	if (n > 1)
		snprintf(id.id, sizeof(id.id), "%s", w[1]);
	if (strcmp(w[0], "list") == 0) {
		call(c, w[0], IPC_HOST_LIST, NULL, 0, -1);
	} else if (strcmp(w[0], "info") == 0) {
		call(c, w[0], IPC_HOST_INFO, NULL, 0, -1);
	} else if (strcmp(w[0], "images") == 0) {
		call(c, w[0], IPC_HOST_IMAGES, NULL, 0, -1);
	} else if (strcmp(w[0], "ids") == 0) {
		do_ids(c);
	} else if (strcmp(w[0], "events") == 0) {
		say(c, "ok %s\n", events.n ? buf_cstr(&events) : "");
		buf_reset(&events);
	} else if (strcmp(w[0], "reserve") == 0) {
		struct ipc_reserve q = { .n = n - 1 };

		for (unsigned int i = 1; i < n; i++)
			q.slots[i - 1] = num(w[i]);
		call(c, w[0], IPC_HOST_RESERVE, &q, sizeof(q), -1);
	} else if (strcmp(w[0], "spawn") == 0 && n > 2) {
		do_spawn(c, w);
	} else if (strcmp(w[0], "commit") == 0 && n > 4) {
		do_commit(c, w);
	} else if (strcmp(w[0], "freeze") == 0) {
		call(c, w[0], IPC_HOST_FREEZE, &id, sizeof(id), -1);
	} else if (strcmp(w[0], "thaw") == 0) {
		call(c, w[0], IPC_HOST_THAW, &id, sizeof(id), -1);
	} else if (strcmp(w[0], "stats") == 0) {
		call(c, w[0], IPC_HOST_STATS, &id, sizeof(id), -1);
	} else if (strcmp(w[0], "destroy") == 0 && n > 1) {
		struct ipc_destroy q = { .keep_disk = num(w[2]) };

		memcpy(q.id, id.id, sizeof(q.id));
		call(c, w[0], IPC_HOST_DESTROY, &q, sizeof(q), -1);
	} else if (strcmp(w[0], "grow") == 0) {
		struct ipc_grow q = { .disk_mib = num(w[2]) };

		memcpy(q.id, id.id, sizeof(q.id));
		call(c, w[0], IPC_HOST_GROW, &q, sizeof(q), -1);
	} else if (strcmp(w[0], "agent") == 0 && n > 1) {
		do_agent(c, w);
	} else if (strcmp(w[0], "raw") == 0 && n > 2) {
		static const char zeros[IPC_MSG_MAX];

		call(c, w[0], (uint16_t)num(w[1]), zeros, num(w[2]), -1);
	} else if (strcmp(w[0], "quit") == 0) {
		exit((int)num(w[1]));
	} else {
		say(c, "err 0 what?\n");
	}
}

/* --- the listener --- */

static void alloc(uv_handle_t *h, size_t size, uv_buf_t *b)
{
	static char in[65536]; /* lines come whole: one write, one reader */

	*b = uv_buf_init(in, sizeof(in) - 1);
}

static void closed(uv_handle_t *h)
{
	free(h);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	char *save = NULL;

	if (n <= 0) {
		if (n < 0)
			uv_close((uv_handle_t *)s, closed);
		return;
	}
	b->base[n] = '\0';
	for (char *line = strtok_r(b->base, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		obey((uv_tcp_t *)s, line);
}

static void on_connection(uv_stream_t *server, int status)
{
	uv_tcp_t *c = malloc(sizeof(*c));

	uv_tcp_init(loop, c);
	if (uv_accept(server, (uv_stream_t *)c) == 0)
		uv_read_start((uv_stream_t *)c, alloc, on_read);
}

/* --- the host role --- */

static void on_msg(struct chan *c, struct chan_msg *m, void *arg)
{
	if (m->type == IPC_SHUTDOWN)
		exit(0);
	if (m->type == IPC_EVENT_EXITED) {
		const struct ipc_exited *e = (const void *)m->payload.p;

		buf_fmt(&events, "exited,%s,%d,%u ", e->id, e->status, e->oom);
	} else if (m->type == IPC_EVENT_EDGE) {
		buf_fmt(&events, "edge,%u ", ((const struct ipc_edge_up *)m->payload.p)->worker);
	}
}

static void on_close(struct chan *c, int err, void *arg)
{
	exit(1);
}

int main(void)
{
	uv_tcp_t server;
	struct role *role;
	struct err err;
	int fd;

	log_open("play", LOG_INFO);
	if (role_boot(&role, &err) < 0) {
		log_event(LOG_ERROR, "play.boot", "%s", err.text);
		return 1;
	}
	loop = uv_default_loop();
	fd = role_fd(role, "listen.api.0");
	if (fd < 0 || uv_tcp_init(loop, &server) || uv_tcp_open(&server, fd) ||
		uv_listen((uv_stream_t *)&server, 64, on_connection) ||
		chan_open(loop, ROLE_CHAN_FD, "host", on_msg, on_close, NULL, &host) < 0)
		return 1;
	buf_fmt(&events, "peers,%d%d ", role_fd(role, "peer.edge.0") >= 0, role_fd(role, "peer.edge.1") >= 0);
	role_boot_done(role);
	return uv_run(loop, UV_RUN_DEFAULT);
}
