/* Builds of images: see the header. */
#include <sys/queue.h>
#include "api/box.h"
#include "api/builds.h"
#include "api/peers.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "policy/createos.h"

#define LINE_MAX_BYTES 16384u
#define DENIALS_TOLD   32u /* in one log: what follows says nothing new */
#define REASON	       "error: " /* begins the line of a log that says why */

struct build {
	LIST_ENTRY(build) next;
	struct api *api;
	struct build_spec spec; /* on_end NULL: nobody listens */
	struct ipc_build ask;
	struct ipc_sandbox place; /* slot 0: none yet */
	uint32_t policy_id;
	struct policy *policy;
	uv_pipe_t pipe;
	struct buf line;
	char why[300]; /* the log's reason, or its last line */
	bool piped, log_ended, told, reason;
	bool *gone; /* build_start() has not returned: it ended already */
	unsigned int denials;
	int32_t status;
	char chunk[16384];
};
struct builds {
	LIST_HEAD(, build) list;
};

/* --- what it may reach --- */

/* "http://host:port/…" -> "host:port"; a registry without a port has that of its scheme. */
static int origin(struct str url, const char *port, struct buf *out)
{
	struct str rest = url;

	if (str_starts(rest, STR("http://")))
		rest = str_skip(rest, 7);
	else if (str_starts(rest, STR("https://")))
		rest = str_skip(rest, 8);
	rest = str_cut(&rest, '/');
	buf_add_str(out, rest);
	if (rest.n && rest.p[rest.n - 1] != ']' && str_find(rest, ':') < 0)
		buf_fmt(out, ":%s", port);
	return buf_failed(out);
}

static int make_policy(const struct api *a, struct str from, struct policy **ret, struct err *err)
{
	struct str rules[CREATEOS_RULES_MAX], rest = str_c(a->config.build_allow);
	auto_buf struct buf registry = BUF_MAX(512), proxy = BUF_MAX(512);
	size_t n = 0;
	int r;

	while (rest.n) {
		struct str one = str_trim(str_cut(&rest, ','));

		if (n == ARRAY_SIZE(rules) - 2)
			return err_set(err, -E2BIG, ERR_INVALID, "build.allow: at most %zu entries",
				ARRAY_SIZE(rules) - 2);
		rules[n++] = one;
	}
	if (from.n && origin(from, str_starts(from, STR("http://")) ? "80" : "443", &registry) == 0)
		rules[n++] = buf_str(&registry);
	if (a->config.build_proxy[0] &&
		origin(str_c(a->config.build_proxy), "80", &proxy) == 0)
		rules[n++] = buf_str(&proxy);
	if (!n) { /* an empty list of this form would allow everything */
		*ret = policy_new(POLICY_NATIVE, WEIR_DENY);
		return *ret ? 0 : err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	r = createos_policy(rules, n, &a->floor, ret, err);
	return r < 0 ? err_wrap(err, r, "build.allow") : 0;
}

int builds_check(const struct api *a, struct err *err)
{
	auto_policy struct policy *p = NULL;

	return make_policy(a, STR_NONE, &p, err);
}

/* --- the end --- */

static void closed(uv_handle_t *handle)
{
	struct build *b = container_of((uv_pipe_t *)handle, struct build, pipe);

	policy_free(b->policy);
	buf_done(&b->line);
	free(b);
}

static void ignore(const struct err *err, void *arg)
{
}

static void build_free(struct build *b)
{
	struct ipc_edge_retire gone = { .slot = b->place.slot, .policy = b->policy_id };

	LIST_REMOVE(b, next);
	if (b->place.slot)
		edges_call(b->api, IPC_EDGE_DEL, &gone, sizeof(gone), -1, ignore, NULL);
	if (b->piped)
		uv_close((uv_handle_t *)&b->pipe, closed);
	else
		closed((uv_handle_t *)&b->pipe);
}

static void over(struct build *b, const struct err *err)
{
	struct build_spec spec = b->spec;

	if (b->gone)
		*b->gone = true;
	build_free(b);
	if (spec.on_end)
		spec.on_end(err, spec.arg);
}

static void take_line(struct build *b)
{
	struct str line = buf_str(&b->line);
	bool reason = str_starts(line, STR(REASON)), more = true;

	if (line.n && (reason || !b->reason)) {
		b->reason = reason;
		line = reason ? str_skip(line, strlen(REASON)) : line;
		str_copy(b->why, sizeof(b->why), str_n(line.p, MIN(line.n, sizeof(b->why) - 1)));
		line = buf_str(&b->line);
	}
	if (b->spec.on_line)
		more = b->spec.on_line(line, b->spec.arg);
	buf_reset(&b->line);
	if (!more)
		uv_read_stop((uv_stream_t *)&b->pipe);
}

static void finish(struct build *b)
{
	struct err err;

	if (!b->told || (b->piped && !b->log_ended))
		return;
	if (b->line.n)
		take_line(b);
	log_event(b->status ? LOG_WARN : LOG_INFO, "image.build", "name=%s status=%d", b->ask.name,
		b->status);
	b->api->images_at = 0; /* the list is stale */
	if (b->status)
		err_set(&err, -EIO, ERR_UPSTREAM, "%s",
			b->why[0] ? b->why : "the build ended without a word");
	over(b, b->status ? &err : NULL);
}

void builds_done(struct api *a, const struct ipc_build_done *d)
{
	struct build *b, *hit = NULL;

	a->images_at = 0;
	if (!a->builds || !ipc_text_ok(d->id, sizeof(d->id)))
		return;
	LIST_FOREACH (b, &a->builds->list, next)
		if (strcmp(b->ask.id, d->id) == 0 && !b->told)
			hit = b;
	if (!hit)
		return;
	hit->told = true;
	hit->status = d->status;
	finish(hit);
}

/* --- the log --- */

static void give_chunk(uv_handle_t *handle, size_t hint, uv_buf_t *ret)
{
	struct build *b = container_of((uv_pipe_t *)handle, struct build, pipe);

	*ret = uv_buf_init(b->chunk, sizeof(b->chunk));
}

static void on_log(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct build *b = container_of((uv_pipe_t *)stream, struct build, pipe);

	for (ssize_t i = 0; i < n; i++) {
		if (buf->base[i] != '\n')
			buf_add(&b->line, &buf->base[i], 1);
		if (buf->base[i] == '\n' || b->line.n == LINE_MAX_BYTES)
			take_line(b);
	}
	if (n < 0) {
		uv_read_stop(stream);
		b->log_ended = true;
		finish(b);
	}
}

void build_more(struct build *b)
{
	if (b->piped && !b->log_ended)
		uv_read_start((uv_stream_t *)&b->pipe, give_chunk, on_log);
}

void build_forget(struct build *b)
{
	b->spec.on_begin = NULL;
	b->spec.on_line = NULL;
	b->spec.on_end = NULL;
	build_more(b);
}

static void tell(struct build *b, const char *fmt, ...) _printf_(2, 3);
static void tell(struct build *b, const char *fmt, ...)
{
	char line[400];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n > 0 && b->spec.on_line &&
		!b->spec.on_line(str_n(line, MIN((size_t)n, sizeof(line) - 1)), b->spec.arg))
		uv_read_stop((uv_stream_t *)&b->pipe);
}

void builds_denied(struct api *a, uint32_t slot, const char *name, struct ip addr, uint16_t port)
{
	struct build *b, *hit = NULL;

	if (!a->builds || !slot)
		return;
	LIST_FOREACH (b, &a->builds->list, next)
		if (b->place.slot == slot && b->piped && !b->told)
			hit = b;
	if (!hit || hit->denials++ >= DENIALS_TOLD)
		return;
	log_event(LOG_WARN, "image.refused", "name=%s to=%s port=%u", hit->ask.name,
		name ? log_q(str_c(name)) : ip_text(addr).s, port);
	if (name)
		tell(hit, "refused: the name %s is not in build.allow", name);
	else
		tell(hit, "refused: %s port %u is not in build.allow", ip_text(addr).s, port);
}

/* --- the beginning --- */

static int policy_fd(const struct build *b)
{
	auto_buf struct buf blob = BUF_MAX(POLICY_BLOB_MAX);
	int r = policy_encode(b->policy, &blob);

	return r < 0 ? r : memfd_sealed("policy", buf_str(&blob));
}

static void edge_set(const struct build *b, struct ipc_edge_set *ret)
{
	*ret = (struct ipc_edge_set){ .slot = b->place.slot, .ifindex = b->place.ifindex,
		.policy = b->policy_id, .has_ipv6 = b->place.ip6.family != 0, .ip4 = b->place.ip4,
		.ip6 = b->place.ip6 };
	snprintf(ret->id, sizeof(ret->id), "%s", b->ask.id);
	snprintf(ret->hostname, sizeof(ret->hostname), "build");
}

static void on_told_late(struct chan_msg *m, void *arg)
{
}

void builds_tell(struct edge *e)
{
	struct build *b;

	if (!e->api->builds)
		return;
	LIST_FOREACH (b, &e->api->builds->list, next) {
		struct ipc_edge_set set;
		auto_fd int fd = b->policy_id && !b->told ? policy_fd(b) : -EBADF;

		edge_set(b, &set);
		if (fd >= 0 && chan_call(e->chan, IPC_EDGE_SET, &set, sizeof(set), &fd, 1,
				       on_told_late, NULL) < 0)
			log_event(LOG_WARN, "api.edge_set", "build=%s", b->ask.name);
	}
}

/* A failure here, or before: the host role lets the slot go by itself when no COMMIT comes. */
static void on_committed(struct chan_msg *m, const struct err *err, void *arg)
{
	struct build *b = arg;

	if (err) {
		over(b, err);
		return;
	}
	if (b->spec.on_begin)
		b->spec.on_begin(b->spec.arg);
	if (!b->api->config.build_allow[0])
		tell(b, "build.allow is empty: %s", b->ask.from[0] ?
			"nothing but the registry itself can be reached" : "nothing can be reached");
	if (uv_read_start((uv_stream_t *)&b->pipe, give_chunk, on_log) < 0) {
		b->log_ended = true;
		finish(b);
	}
}

static void on_set(const struct err *err, void *arg)
{
	struct build *b = arg;
	struct ipc_commit commit = { .slot = b->place.slot, .policy = b->policy_id,
		.share = api_share(b->spec.user) };
	auto_fd int fd = err ? -EBADF : policy_fd(b);
	struct err why;

	if (!err && fd < 0)
		err_sys(&why, fd, "encode the policy of a build");
	if (err || fd < 0) {
		over(b, err ? err : &why);
		return;
	}
	memcpy(commit.id, b->ask.id, sizeof(commit.id));
	host_call(b->api, IPC_HOST_COMMIT, &commit, sizeof(commit), fd, on_committed, b);
}

static int take_log(struct build *b, struct chan_msg *m, struct err *err)
{
	auto_fd int fd = chan_take_fd(m, 0);

	if (m->payload.n != sizeof(b->place) || fd < 0 || fd_nonblock(fd, true) < 0 ||
		uv_pipe_init(b->api->loop, &b->pipe, 0) < 0)
		return err_set(err, -EBADMSG, ERR_INTERNAL, "no log came with the build");
	memcpy(&b->place, m->payload.p, sizeof(b->place));
	b->piped = true;
	if (uv_pipe_open(&b->pipe, fd) < 0)
		return err_set(err, -EBADF, ERR_INTERNAL, "the build's log cannot be read");
	take_fd(fd);
	return 0;
}

static void on_placed(struct chan_msg *m, const struct err *err, void *arg)
{
	struct build *b = arg;
	struct ipc_edge_set set;
	auto_fd int fd = -EBADF;
	struct err why;
	int r = 0;

	if (err) {
		over(b, err);
		return;
	}
	r = take_log(b, m, &why);
	if (r == 0)
		r = api_policy_id(b->api, &b->policy_id, &why);
	if (r == 0 && (r = fd = policy_fd(b)) < 0)
		err_sys(&why, r, "encode the policy of a build");
	if (r < 0) {
		over(b, &why);
		return;
	}
	edge_set(b, &set);
	edges_call(b->api, IPC_EDGE_SET, &set, sizeof(set), fd, on_set, b);
}

static int prepare(struct build *b, const struct build_spec *spec, int *ret_auth, struct err *err)
{
	int r = str_copy(b->ask.name, sizeof(b->ask.name), spec->name);

	if (r == 0)
		r = str_copy(b->ask.from, sizeof(b->ask.from), spec->from);
	if (r < 0)
		return err_field(err, r, ERR_INVALID, "name", "too long, or contains a NUL");
	snprintf(b->ask.id, sizeof(b->ask.id), "bd-%s", ulid_new(clock_wall_ns()).s);
	r = make_policy(b->api, spec->from, &b->policy, err);
	if (r < 0)
		return r;
	*ret_auth = memfd_sealed("auth", spec->auth ? secret_reveal(spec->auth) : STR_NONE);
	return *ret_auth < 0 ? err_sys(err, *ret_auth, "credentials of a build") : 0;
}

struct build *build_start(struct api *a, const struct build_spec *spec)
{
	struct build *b = calloc(1, sizeof(*b));
	auto_fd int auth = -EBADF;
	bool gone = false;
	struct err err;

	if (!a->builds && b) {
		a->builds = calloc(1, sizeof(*a->builds));
		if (a->builds)
			LIST_INIT(&a->builds->list);
	}
	if (!b || !a->builds) {
		free(b);
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		spec->on_end(&err, spec->arg);
		return NULL;
	}
	b->api = a;
	b->spec = *spec;
	b->spec.auth = NULL; /* the caller's, for the time of the call */
	b->line = BUF_MAX(LINE_MAX_BYTES);
	LIST_INSERT_HEAD(&a->builds->list, b, next);
	if (prepare(b, spec, &auth, &err) < 0) {
		over(b, &err);
		return NULL;
	}
	b->gone = &gone;
	host_call(a, IPC_HOST_BUILD, &b->ask, sizeof(b->ask), auth, on_placed, b);
	if (gone)
		return NULL;
	b->gone = NULL;
	return b;
}
