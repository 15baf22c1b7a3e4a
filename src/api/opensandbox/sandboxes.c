/*
 * One sandbox and the list of them: get, kill, pause, resume, renew, metadata, telemetry.
 *
 * A sandbox that is being destroyed is gone for this API: 404. Pause and resume answer when they are
 * done, so that a client may do the next thing at once; asked of a sandbox between two states they
 * wait for it to settle and then decide.
 */
#include "api/box.h"
#include "api/opensandbox/labels.h"
#include "api/opensandbox/opensandbox.h"
#include "base/clock.h"

#define PAGE_SIZE_MAX  200u
#define LIST_BYTES_MAX (64u << 20) /* a page of the largest metadata and entry points */

void opensandbox_fail(struct req *q, const char *code, const struct err *err)
{
	if (err->kind != ERR_INTERNAL)
		q->code = code;
	reply_err(q, err);
}

bool opensandbox_there(struct req *q)
{
	struct err err;

	if (q->box && opensandbox_shows(q->row->state))
		return true;
	err_field(&err, -ENOENT, ERR_NOT_FOUND, "id", "sandbox not found");
	reply_err(q, &err);
	return false;
}

void opensandbox_no_content(struct req *q, int status)
{
	req_release(q);
	http_reply(q->h, status, NULL, STR_NONE);
}

void opensandbox_health(struct req *q)
{
	auto_buf struct buf body = BUF_MAX(64);

	buf_add_c(&body, "{\"status\":\"healthy\"}");
	reply_json(q, 200, &body);
}

void opensandbox_events(struct req *q)
{
	opensandbox_no_content(q, 204); /* telemetry of the client's own: nobody here reads it */
}

void opensandbox_no_pools(struct req *q)
{
	struct err err;

	err_set(&err, -ENOSYS, ERR_UNSUPPORTED, "pools are Kubernetes only");
	opensandbox_fail(q, "KUBERNETES::POOL_NOT_SUPPORTED", &err);
}

void opensandbox_no_diagnostics(struct req *q)
{
	struct err err;

	err_set(&err, -ENOSYS, ERR_UNSUPPORTED, "diagnostics are not built yet");
	opensandbox_fail(q, "DIAGNOSTICS_NOT_IMPLEMENTED", &err);
}

void opensandbox_get(struct req *q)
{
	if (opensandbox_there(q))
		opensandbox_reply(q, 200, q->row, false);
}

/* --- list --- */

struct listing {
	struct label_filter filter;
	uint32_t states; /* bits of enum opensandbox_state; 0: any */
	uint64_t skip, take, total, written;
	struct buf body;
	struct jw w;
};

static int list_one(struct sandbox_row *row, void *arg)
{
	struct listing *l = arg;

	if (l->states && !(l->states & 1u << opensandbox_state_of(row)))
		return 0;
	if (!label_filter_fits(&l->filter, row->metadata))
		return 0;
	if (l->total >= l->skip && l->written < l->take) {
		opensandbox_view(&l->w, NULL, row, false);
		l->written++;
	}
	l->total++;
	return 0;
}

static int number(struct req *q, const char *name, uint64_t fallback, uint64_t max, uint64_t *ret,
	struct err *err)
{
	struct str text;
	int r = req_query(q, name, &text, err);

	*ret = fallback;
	if (r == 0 && text.p && (str_u64(text, max, ret) < 0 || *ret == 0))
		r = err_field(err, -EINVAL, ERR_INVALID, name, "expected a number from 1 to %" PRIu64,
			max);
	return r;
}

/* Every "state" of the query. */
static int state_filter(struct req *q, uint32_t *ret, struct err *err)
{
	struct str query = http_query(q->h);

	*ret = 0;
	while (query.n) {
		struct str value = str_cut(&query, '&'), key = str_cut(&value, '='), word;
		enum opensandbox_state state;

		if (!str_eq_c(key, "state"))
			continue;
		if (http_decode(q->h, value.p ? value : STR(""), true, &word) < 0)
			return err_field(err, -EINVAL, ERR_INVALID, "state", "malformed escape");
		state = opensandbox_state_from(str_trim(word));
		if (state == OPENSANDBOX_NONE)
			return err_field(err, -EINVAL, ERR_INVALID, "state",
				"unknown state. Allowed: [Pending, Running, Pausing, Paused, Resuming, "
				"Stopping, Terminated, Failed]");
		*ret |= 1u << state;
	}
	return 0;
}

static uint32_t all_shown(void)
{
	uint32_t mask = 0;

	for (enum life_state s = LIFE_NONE + 1; s < LIFE_STATES; s++)
		mask |= opensandbox_shows(s) ? 1u << s : 0;
	return mask;
}

static void list_end(struct listing *l, uint64_t page, uint64_t size)
{
	uint64_t pages = (l->total + size - 1) / size;

	jw_arr_end(&l->w);
	jw_obj(&l->w, "pagination");
	jw_u64(&l->w, "page", page);
	jw_u64(&l->w, "pageSize", size);
	jw_u64(&l->w, "totalItems", l->total);
	jw_u64(&l->w, "totalPages", pages);
	jw_bool(&l->w, "hasNextPage", page < pages);
	jw_end(&l->w);
	jw_end(&l->w);
}

void opensandbox_list(struct req *q)
{
	struct listing l = { .body = BUF_MAX(LIST_BYTES_MAX) };
	uint64_t page, size;
	struct str metadata;
	struct err err;
	int r = number(q, "page", 1, UINT32_MAX, &page, &err);

	if (r == 0)
		r = number(q, "pageSize", 20, PAGE_SIZE_MAX, &size, &err);
	if (r == 0)
		r = state_filter(q, &l.states, &err);
	if (r == 0)
		r = req_query(q, "metadata", &metadata, &err);
	if (r == 0) {
		r = label_filter_from(metadata, &l.filter, &err);
		q->code = r < 0 ? "INVALID_METADATA_FORMAT" : NULL;
	}
	if (r == 0) {
		l.w = JW(&l.body);
		l.skip = (page - 1) * size;
		l.take = size;
		jw_obj(&l.w, NULL);
		jw_arr(&l.w, "items");
		r = store_sandboxes(q->api->store, q->who.user, all_shown(), UINT32_MAX, 0, list_one, &l,
			NULL, &err);
	}
	label_filter_done(&l.filter);
	if (r < 0) {
		reply_err(q, &err);
	} else {
		list_end(&l, page, size);
		reply_json(q, 200, &l.body);
	}
	buf_done(&l.body);
}

/* --- kill, pause, resume --- */

void opensandbox_kill(struct req *q)
{
	struct err err;

	if (!opensandbox_there(q))
		return;
	if (flow_delete(q->box, "", 0, &err) < 0)
		reply_err(q, &err);
	else
		opensandbox_no_content(q, 204);
}

static void settle_to(struct req *q, enum life_state want, const char *code)
{
	struct err err;

	if (!opensandbox_there(q))
		return;
	if (q->row->state == want) {
		opensandbox_no_content(q, 202);
		return;
	}
	err_field(&err, -EIO, ERR_CONFLICT, "status", "the sandbox is %s: %s",
		life_state_name(q->row->state), q->row->reason);
	opensandbox_fail(q, code, &err);
}

static void refuse_state(struct req *q, const char *code, const char *what)
{
	struct err err;

	err_field(&err, -EBUSY, ERR_CONFLICT, "status", "the sandbox is %s, not %s",
		life_state_name(q->row->state), what);
	opensandbox_fail(q, code, &err);
}

static void paused(struct req *q)
{
	settle_to(q, LIFE_PAUSED, "DOCKER::SANDBOX_NOT_RUNNING");
}

static void pause_now(struct req *q)
{
	struct err err;

	if (!opensandbox_there(q))
		return;
	if (q->row->state != LIFE_RUNNING)
		refuse_state(q, "DOCKER::SANDBOX_NOT_RUNNING", "running");
	else if (flow_pause(q->box, "", 0, &err) < 0)
		reply_err(q, &err);
	else
		req_when_settled(q, paused);
}

void opensandbox_pause(struct req *q)
{
	req_when_settled(q, pause_now);
}

static void resumed(struct req *q)
{
	settle_to(q, LIFE_RUNNING, "DOCKER::SANDBOX_NOT_PAUSED");
}

static void resume_now(struct req *q)
{
	struct err err;

	if (!opensandbox_there(q))
		return;
	/* A failed one starts again from its disk: more than upstream has, and harmless. */
	if (q->row->state != LIFE_PAUSED && q->row->state != LIFE_ERROR)
		refuse_state(q, "DOCKER::SANDBOX_NOT_PAUSED", "paused");
	else if (flow_resume(q->box, &err) < 0)
		reply_err(q, &err);
	else
		req_when_settled(q, resumed);
}

void opensandbox_resume(struct req *q)
{
	req_when_settled(q, resume_now);
}

/* --- renew --- */

static int renew(struct req *q, struct err *err)
{
	static const struct json_field fields[] = {
		{ .name = "expiresAt", .kind = JK_STR, .required = true, .seen_offset = -1, .max = 64 },
	};
	struct box *b = q->box;
	uint64_t before = b->row.expires_ms, at, now = api_now_ms(), max;
	struct str text = STR_NONE;
	int r = json_decode(q->json, fields, ARRAY_SIZE(fields), &text, err);

	q->code = "DOCKER::INVALID_EXPIRATION";
	if (r == 0 && rfc3339_ms(text, &at) < 0)
		r = err_field(err, -EINVAL, ERR_INVALID, "expiresAt",
			"expected a time such as 2026-01-02T03:04:05Z, with its zone");
	if (r == 0 && at <= now)
		r = err_field(err, -EINVAL, ERR_INVALID, "expiresAt", "must be in the future");
	max = q->api->config.sandboxes_timeout_max_s * UINT64_C(1000);
	if (r == 0 && max && at - now > max)
		r = err_field(err, -ERANGE, ERR_INVALID, "expiresAt",
			"at most %u seconds from now", q->api->config.sandboxes_timeout_max_s);
	if (r == 0 && !before)
		r = err_field(err, -EPERM, ERR_CONFLICT, "expiresAt",
			"the sandbox never expires: it has no expiration to renew");
	if (r < 0)
		return r;
	b->row.expires_ms = at;
	r = box_save(b, err);
	if (r < 0)
		b->row.expires_ms = before;
	box_expiry(b);
	return r;
}

void opensandbox_renew(struct req *q)
{
	auto_buf struct buf body = BUF_MAX(256);
	struct jw w = JW(&body);
	struct err err;

	if (!opensandbox_there(q))
		return;
	if (renew(q, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	jw_obj(&w, NULL);
	jw_c(&w, "expiresAt", rfc3339_from(q->row->expires_ms * NS_PER_MS).s);
	jw_end(&w);
	reply_json(q, 200, &body);
}

/* --- metadata --- */

static int patch_metadata(struct req *q, struct err *err)
{
	struct box *b = q->box;
	auto_json json_t *labels = json_loads(b->row.metadata, 0, NULL);
	char *before = b->row.metadata, *text;
	int r = labels ? labels_patch(labels, q->json, err) :
			 err_set(err, -EBADMSG, ERR_INTERNAL, "stored metadata does not read");

	if (r < 0)
		return r;
	text = json_dumps(labels, JSON_COMPACT);
	if (!text)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	b->row.metadata = text;
	r = box_save(b, err);
	if (r < 0)
		b->row.metadata = before;
	free(r < 0 ? text : before);
	return r;
}

void opensandbox_metadata(struct req *q)
{
	struct err err;

	if (!opensandbox_there(q))
		return;
	if (patch_metadata(q, &err) < 0)
		opensandbox_fail(q, "SANDBOX::INVALID_METADATA_LABEL", &err);
	else
		opensandbox_reply(q, 200, q->row, false);
}
