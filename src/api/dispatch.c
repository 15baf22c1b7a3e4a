/*
 * From a request's head to its handler, in this order:
 *
 *	dialect -> CORS -> route -> credential -> 404/405 -> sandbox (404) -> body -> state -> handler
 *
 * A foreign sandbox is 404 before anything else about it is looked at. Where the sandbox is
 * between two states and the route's operation may be held, the request waits in a list ordered
 * by deadline; one timer serves them all.
 */
#include "api/box.h"
#include "api/dialect.h"
#include "api/ident.h"
#include "base/clock.h"
#include "base/log.h"

#define HOLD_MS 30000u

void hold_settled(struct box *b);

/* --- ends --- */

static void hold_stop(struct req *q)
{
	if (!q->hold.q)
		return;
	TAILQ_REMOVE(&q->api->holds, &q->hold, by_deadline);
	TAILQ_REMOVE(&q->box->holds, &q->hold, of_box);
	q->hold.q = NULL;
}

/* The request is over: let go what it holds. Its own memory is the server's. */
void req_release(struct req *q)
{
	struct box *b = q->box;

	hold_stop(q);
	keyring_leave(q->api->keys, &q->who);
	http_on_gone(q->h, NULL, NULL);
	http_on_drain(q->h, NULL, NULL);
	q->box = NULL;
	box_unref(b);
	sandbox_row_done(&q->stored);
	json_decref(q->json);
	q->json = NULL;
}

static void on_gone(struct http *h, void *arg)
{
	struct req *q = arg;

	if (q->on_gone)
		q->on_gone(q);
	req_release(q);
}

/* --- what handlers ask --- */

struct str req_param(const struct req *q, const char *name)
{
	return route_param(q->route, &q->segs, name);
}

int req_query(struct req *q, const char *name, struct str *ret, struct err *err)
{
	int r = http_query_get(q->h, name, ret);

	if (r == -ENOENT)
		*ret = STR_NONE;
	else if (r < 0)
		return err_field(err, -EINVAL, ERR_INVALID, name, "malformed escape");
	return 0;
}

int req_query_bool(struct req *q, const char *name, bool *ret, struct err *err)
{
	struct str v;
	int r = req_query(q, name, &v, err);

	if (r < 0)
		return r;
	*ret = str_eq_c(v, "true") || str_eq_c(v, "1");
	if (v.p && !*ret && !str_eq_c(v, "false") && !str_eq_c(v, "0") && v.n)
		return err_field(err, -EINVAL, ERR_INVALID, name, "expected true or false");
	return 0;
}

static int page_number(struct req *q, const char *name, uint64_t fallback, uint64_t max,
	uint32_t *ret, struct err *err)
{
	struct str text;
	uint64_t v = fallback;
	int r = req_query(q, name, &text, err);

	if (r < 0)
		return r;
	if (text.n) {
		r = str_u64(text, UINT64_MAX, &v);
		if (r == -ERANGE)
			v = max;
		else if (r < 0)
			return err_field(err, -EINVAL, ERR_INVALID, name,
				"expected a number, 0 or more");
	}
	*ret = (uint32_t)MIN(v, max);
	return 0;
}

int req_page(struct req *q, uint32_t *limit, uint32_t *offset, struct err *err)
{
	int r = page_number(q, "limit", 50, 500, limit, err);

	if (r == 0)
		r = page_number(q, "offset", 0, INT32_MAX, offset, err);
	if (r == 0 && *limit == 0)
		*limit = 50;
	return r;
}

/* Before the handler ran. */
static void refuse(struct req *q, const struct err *err)
{
	if (!q->dialect->refuse || !q->dialect->refuse(q, err))
		reply_err(q, err);
}

/* --- state --- */

static void run_or_hold(struct req *q);

static void on_hold_timer(void *arg)
{
	struct api *a = arg;
	uint64_t now = uv_now(a->loop);
	struct hold *h;

	while ((h = TAILQ_FIRST(&a->holds)) && h->deadline <= now) {
		struct req *q = h->q;
		struct err err;

		hold_stop(q);
		box_refuse(q->box, q->route->op, &err);
		refuse(q, &err);
	}
	if (h)
		tick_again(a->hold_timer, h->deadline - now);
}

static void hold_start(struct req *q)
{
	struct api *a = q->api;
	bool first = TAILQ_EMPTY(&a->holds);

	if (!q->hold.q) {
		q->hold.q = q;
		q->hold.deadline = uv_now(a->loop) + HOLD_MS;
		TAILQ_INSERT_TAIL(&a->holds, &q->hold, by_deadline);
		TAILQ_INSERT_TAIL(&q->box->holds, &q->hold, of_box);
	}
	if (!a->hold_timer)
		a->hold_timer = tick_new(a->loop, HOLD_MS, 0, on_hold_timer, a);
	else if (first)
		tick_again(a->hold_timer, HOLD_MS);
}

/* The sandbox has settled: those who waited ask again. A handler may hold, end, or change the
 * state once more, so the list is walked anew each time. */
void hold_settled(struct box *b)
{
	struct hold *h;

	box_ref(b);
	while ((h = TAILQ_FIRST(&b->holds)) && !life_transitional(b->row.state)) {
		struct req *q = h->q;

		hold_stop(q);
		run_or_hold(q);
	}
	box_unref(b);
}

void req_when_settled(struct req *q, void (*fn)(struct req *q))
{
	q->settled = fn;
	run_or_hold(q);
}

static void held_gone(struct req *q)
{
	op_forget(q->state);
}

struct op **req_hold(struct req *q, void (*reply)(struct req *q))
{
	q->state = NULL;
	q->reply = reply;
	q->on_gone = held_gone;
	return (struct op **)&q->state;
}

void req_held(struct op *op, const struct err *err, void *arg)
{
	struct req *q = arg;

	q->on_gone = NULL;
	if (err)
		reply_err(q, err);
	else
		q->reply(q);
}

/* What needs the sandbox running wakes it, where its owner wants that. */
static bool wake_and_hold(struct req *q)
{
	enum life_state state = q->row->state;
	struct err err;

	if (!q->box || !q->row->auto_resume || q->route->op != LIFE_OP_DATA)
		return false;
	if (state != LIFE_PAUSING && (state != LIFE_PAUSED || flow_resume(q->box, &err) < 0))
		return false;
	hold_start(q);
	return true;
}

static void run_or_hold(struct req *q)
{
	enum life_state state = q->row ? q->row->state : LIFE_NONE;
	struct err err;

	if (q->settled) {
		if (q->box && life_transitional(state))
			hold_start(q);
		else
			q->settled(q);
		return;
	}
	q->may = q->row ? life_may(state, q->route->op) : LIFE_ALLOW;
	switch (q->may) {
	case LIFE_ALLOW:
	case LIFE_NOOP:
		q->route->handler(q);
		return;
	case LIFE_HOLD:
		hold_start(q);
		return;
	case LIFE_GONE:
		err_field(&err, -ENOENT, ERR_NOT_FOUND, "id", "sandbox not found");
		refuse(q, &err);
		return;
	case LIFE_REFUSE:
		if (wake_and_hold(q))
			return;
		err_field(&err, -EBUSY, ERR_CONFLICT, "status", "sandbox is %s; cannot %s",
			life_state_name(state), life_op_name(q->route->op));
		refuse(q, &err);
		return;
	}
}

/* --- body --- */

static void on_body(struct http *h, struct str body, void *arg)
{
	struct req *q = arg;
	struct err err;

	if (json_parse(body, &q->json, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	if (!json_is_object(q->json)) {
		err_field(&err, -EINVAL, ERR_INVALID, "body", "expected a JSON object");
		reply_err(q, &err);
		return;
	}
	run_or_hold(q);
}

static void read_body(struct req *q)
{
	if (q->route->body == BODY_JSON)
		http_body_whole(q->h, (size_t)q->api->config.api_body_max_mib << 20, on_body, q);
	else
		run_or_hold(q);
}

/* --- sandbox --- */

static int find_row(struct req *q, const char *id, struct err *err)
{
	int r;

	q->box = box_find(q->api, id);
	if (q->box) {
		box_ref(q->box);
		q->row = &q->box->row;
	} else {
		r = store_sandbox_get(q->api->store, id, &q->stored, err);
		if (r < 0)
			return r;
		q->row = &q->stored;
	}
	/* Where no key is needed the guard or the handler asks for the sandbox's own credential. */
	if ((route_needs_key(q->route) && !str_eq_c(str_c(q->row->user), q->who.user)) ||
		(q->dialect->forgets && q->row->state == LIFE_DESTROYED))
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "sandbox not found");
	return 0;
}

static int find_sandbox(struct req *q, struct err *err)
{
	struct str text = req_param(q, "sandbox");
	char id[IPC_ID_LEN];
	int r;

	if (!text.p)
		return 0;
	if (sandbox_id_from(text, id) < 0)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "sandbox not found");
	r = find_row(q, id, err);
	if (r == 0 && q->route->auth == AUTH_GUARD)
		r = q->dialect->guard(q, err);
	return r;
}

/* --- credential, route --- */

static int check_key(struct req *q, struct err *err)
{
	if (keyring_check(q->api->keys, q->dialect->credential(q->h), &q->who) < 0)
		return err_field(err, -EACCES, ERR_UNAUTHORIZED, "auth",
			"missing or invalid API key");
	/* Streams and unfinished bodies hold connections: no key may hold them all. */
	if (keyring_enter(q->api->keys, &q->who, MAX(q->api->config.api_connections_max / 4, 8u)) < 0)
		return err_field(err, -EBUSY, ERR_RATE, "rate",
			"too many requests of this key are under way");
	return 0;
}

static int no_route(struct req *q, const struct route_hit *hit, struct err *err)
{
	auto_buf struct buf allow = BUF_MAX(256);

	if (!hit->allow)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "path", "no such route");
	route_allow_text(hit->allow, &allow);
	http_add_header(q->h, "Allow", buf_str(&allow));
	return err_field(err, -EPERM, ERR_METHOD, "method", "allowed here: " STR_FMT,
		STR_ARG(buf_str(&allow)));
}

static int decode_segs(struct req *q, struct err *err)
{
	struct str path = http_path(q->h);
	int r;

	/* A client whose base URL ends in a slash */
	if (str_starts(path, STR("//")))
		path = str_skip(path, 1);
	r = route_split(path, &q->segs);

	for (unsigned int i = 0; r == 0 && i < q->segs.n; i++)
		r = http_decode(q->h, q->segs.seg[i], false, &q->segs.seg[i]);
	if (r < 0)
		return err_field(err, r, ERR_INVALID, "path", "malformed path");
	if (q->dialect->fold)
		q->dialect->fold(&q->segs);
	return 0;
}

static int resolve(struct req *q, struct err *err)
{
	struct route_hit hit;
	int r = decode_segs(q, err);

	if (r < 0)
		return r;
	route_find(q->dialect->routes, *q->dialect->n_routes, http_method(q->h), &q->segs, &hit);
	q->route = hit.route;
	if (hit.route ? route_needs_key(hit.route) : !hit.open) {
		r = check_key(q, err);
		if (r < 0)
			return r;
	}
	if (!q->route)
		return no_route(q, &hit, err);
	if (q->route->auth == AUTH_ADMIN && !q->who.admin)
		return err_field(err, -EPERM, ERR_FORBIDDEN, "auth", "needs an admin key");
	if (!q->api->ready && (route_needs_key(q->route) || req_param(q, "sandbox").p))
		return err_set(err, -EAGAIN, ERR_CAPACITY, "unavailable: %s", q->api->not_ready);
	return find_sandbox(q, err);
}

/* --- CORS --- */

static bool origin_allowed(const struct api *a, struct str origin)
{
	struct str list = str_c(a->config.api_cors_origins);

	while (origin.n && list.n) {
		struct str one = str_trim(str_cut(&list, ','));

		if (str_eq_c(one, "*") || str_eq(one, origin))
			return true;
	}
	return false;
}

/* true: it was a pre-flight, and is answered. */
static bool cors(struct req *q)
{
	struct str origin = http_header(q->h, "origin");

	if (!origin_allowed(q->api, origin))
		return false;
	http_add_header(q->h, "Access-Control-Allow-Origin", origin);
	http_add_header(q->h, "Vary", STR("Origin"));
	http_add_header(q->h, "Access-Control-Expose-Headers", STR("x-request-id"));
	if (http_method(q->h) != HTTP_M_OPTIONS ||
		!http_header(q->h, "access-control-request-method").p)
		return false;
	http_add_header(q->h, "Access-Control-Allow-Methods",
		STR("GET, HEAD, POST, PUT, PATCH, DELETE"));
	http_add_header(q->h, "Access-Control-Allow-Headers",
		STR("X-Api-Key, X-Fc-Runtime, Content-Type, Authorization"));
	http_add_header(q->h, "Access-Control-Max-Age", STR("600"));
	req_release(q);
	http_reply(q->h, 204, NULL, STR_NONE);
	return true;
}

/* true: it is answered. Where any method is passed on with its body, this one is too. */
static bool options(struct req *q)
{
	auto_buf struct buf allow = BUF_MAX(256);
	struct route_hit hit = { 0 };
	struct err err;

	if (http_method(q->h) != HTTP_M_OPTIONS)
		return false;
	if (decode_segs(q, &err) == 0)
		route_find(q->dialect->routes, *q->dialect->n_routes, HTTP_M_OPTIONS, &q->segs, &hit);
	if (hit.route && hit.route->body == BODY_STREAM)
		return false;
	route_allow_text(hit.allow, &allow);
	http_add_header(q->h, "Allow", buf_str(&allow));
	req_release(q);
	http_reply(q->h, 204, NULL, STR_NONE);
	return true;
}

void api_on_request(struct http *h, void *arg)
{
	struct api *a = arg;
	struct req *q = http_alloc(h, sizeof(*q));
	struct err err;

	if (!q) {
		http_reply(h, 500, "application/json",
			STR("{\"status\":\"error\",\"message\":\"internal error\",\"code\":500}"));
		return;
	}
	*q = (struct req){ .api = a,
		.h = h,
		.dialect = dialect_of(a, h),
		.start_ns = clock_mono_ns() };
	http_on_gone(h, on_gone, q);
	if (q->dialect->echoes_id)
		http_echo_id(h);
	if (cors(q) || options(q))
		return;
	if (resolve(q, &err) < 0) {
		refuse(q, &err);
	} else {
		read_body(q);
	}
}

/* In its dialect's form, once the head says which that is. */
void api_on_refuse(struct http *h, int status, const struct err *err, struct buf *body,
	const char **type, void *arg)
{
	struct req q = { .api = arg, .h = h, .dialect = h ? dialect_of(arg, h) : &dialect_createos };

	if (h)
		decode_segs(&q, NULL); /* what cannot be read has no segments */
	*type = "application/json";
	if (q.dialect == &dialect_createos)
		reply_err_body(status, err, body); /* it has more statuses than kinds of errors */
	else
		q.dialect->error(&q, err, body, type);
}
