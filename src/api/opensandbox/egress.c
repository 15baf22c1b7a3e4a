/*
 * What upstream's egress sidecar answers on port 18080 of a sandbox: /policy, read and changed while
 * the sandbox lives. Nothing is started for it; the policy is the sandbox's own and enforced as every
 * other. A 200 to a change comes when the new policy is in force, in the kernel and for names; while
 * the sandbox is paused, when it is stored: it is in force before the first packet after.
 *
 * The credential is the sandbox's egress token, from the endpoint answer for this port; no platform
 * key counts. Errors are plain text, never empty.
 *
 * Changes to one sandbox run one after the other: each starts from the policy as it is when its turn
 * comes (flow_policy_made()), so of two PATCHes at once none is lost.
 */
#include "api/box.h"
#include "api/opensandbox/netpolicy.h"
#include "api/opensandbox/opensandbox.h"
#include "api/secret.h"
#include "base/log.h"
#include "policy/opensandbox.h"

#define BODY_MAX   (1u << 20)
#define TOKEN_NAME "opensandbox-egress-auth"
#define NO_MATCH   "no matching targets found"

static void refuse(struct req *q, const struct err *err)
{
	static const int statuses[ERR_KINDS] = {
		[ERR_INTERNAL] = 500, [ERR_INVALID] = 400, [ERR_UNAUTHORIZED] = 401,
		[ERR_FORBIDDEN] = 403, [ERR_NOT_FOUND] = 404, [ERR_METHOD] = 405, [ERR_TIMEOUT] = 408,
		[ERR_CONFLICT] = 409, [ERR_TOO_LARGE] = 413, [ERR_RATE] = 429,
		[ERR_UNSUPPORTED] = 501, [ERR_UPSTREAM] = 502, [ERR_CAPACITY] = 503,
	};
	auto_buf struct buf text = BUF_MAX(1024);

	if (err->kind == ERR_INTERNAL)
		log_event(LOG_ERROR, "egress.error", "sandbox=%s text=%s", q->row->id,
			log_q(str_c(err->text)));
	buf_fmt(&text, "%s\n", err->kind == ERR_INTERNAL ? "internal error" : err->text);
	req_release(q);
	http_reply(q->h, statuses[err->kind], "text/plain; charset=utf-8", buf_str(&text));
}

/* Is it there, and does the caller hold its token? Else answered. */
static bool admitted(struct req *q)
{
	struct err err;

	if (!q->box || !opensandbox_shows(q->row->state)) {
		err_set(&err, -ENOENT, ERR_NOT_FOUND, "sandbox not found");
	} else if (!secret_fits(q->api->secret, "egress", q->row->id,
			   http_header(q->h, TOKEN_NAME))) {
		err_set(&err, -EACCES, ERR_UNAUTHORIZED, "unauthorized");
	} else {
		return true;
	}
	refuse(q, &err);
	return false;
}

static void status_write(struct buf *out, const json_t *policy, const char *reason, bool with_policy)
{
	bool allow = str_eq_c(STR("allow"),
		json_string_value(json_object_get(policy, "defaultAction")));
	size_t rules = json_array_size(json_object_get(policy, "egress"));
	struct jw w = JW(out);

	jw_obj(&w, NULL);
	jw_c(&w, "status", "ok");
	jw_c(&w, "mode", rules ? "enforcing" : allow ? "allow_all" : "deny_all");
	jw_c(&w, "enforcementMode", "dns+nft"); /* the strict one of upstream's two */
	if (reason)
		jw_c(&w, "reason", reason);
	if (with_policy) {
		auto_free char *text = json_dumps(policy, JSON_COMPACT);

		jw_raw(&w, "policy", str_c(text ? text : "{}"));
	}
	jw_end(&w);
}

static void reply_status(struct req *q, const char *reason)
{
	auto_buf struct buf body = BUF_MAX(4u << 20);
	bool exact;
	auto_json json_t *shown = netpolicy_shown(q->api, q->row, &exact);
	struct err err;

	if (!shown) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		refuse(q, &err);
		return;
	}
	status_write(&body, shown, reason, true);
	reply_json(q, 200, &body);
}

void opensandbox_policy_get(struct req *q)
{
	if (admitted(q))
		reply_status(q, NULL);
}

void opensandbox_egress_health(struct req *q)
{
	struct err err;

	if (!q->box || !opensandbox_shows(q->row->state)) {
		err_set(&err, -ENOENT, ERR_NOT_FOUND, "sandbox not found");
		refuse(q, &err);
		return;
	}
	req_release(q);
	http_reply(q->h, 200, "text/plain; charset=utf-8", STR("ok"));
}

void opensandbox_policy_other(struct req *q)
{
	struct err err;

	if (!admitted(q))
		return;
	http_add_header(q->h, "Allow", STR("GET, POST, PUT, PATCH, DELETE"));
	err_set(&err, -EPERM, ERR_METHOD, "method not allowed");
	refuse(q, &err);
}

void opensandbox_egress_vault(struct req *q)
{
	struct err err;

	if (!admitted(q))
		return;
	err_set(&err, -ENOSYS, ERR_UNSUPPORTED, "the credential vault is not built yet");
	refuse(q, &err);
}

/* Upstream's proxy reads the secrets there, over a socket of its own. */
void opensandbox_egress_active(struct req *q)
{
	struct err err;

	if (!admitted(q))
		return;
	err_set(&err, -EACCES, ERR_FORBIDDEN, "what the vault holds is for nobody to read");
	refuse(q, &err);
}

void opensandbox_egress_nothing(struct req *q)
{
	struct err err;

	if (!admitted(q))
		return;
	err_set(&err, -ENOENT, ERR_NOT_FOUND, "no such path");
	refuse(q, &err);
}

/* --- changes --- */

struct change {
	struct req *q; /* NULL: the client left; the change goes on */
	json_t *body;  /* NULL: empty */
	const char *reason;
	struct op *op;
	int (*apply)(struct change *c, json_t **next, struct err *err);
};

static void change_free(struct change *c)
{
	json_decref(c->body);
	free(c);
}

static void change_gone(struct req *q)
{
	struct change *c = q->state;

	op_forget(c->op);
	change_free(c);
}

static void change_refuse(struct change *c, const struct err *err)
{
	struct req *q = c->q;

	q->on_gone = NULL;
	change_free(c);
	refuse(q, err);
}

static void changed(struct op *op, const struct err *err, void *arg)
{
	struct change *c = arg;
	struct req *q = c->q;
	const char *reason = c->reason;

	if (err) {
		change_refuse(c, err);
		return;
	}
	q->on_gone = NULL;
	change_free(c);
	reply_status(q, reason);
}

/* The policy that the change starts from, if it can be changed rule by rule. */
static int present(struct change *c, json_t **ret, struct err *err)
{
	bool exact;

	*ret = netpolicy_shown(c->q->api, c->q->row, &exact);
	if (!*ret)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (exact)
		return 0;
	json_decref(*ret);
	*ret = NULL;
	return err_set(err, -EINVAL, ERR_CONFLICT,
		"the policy was set through another API and has rules that this one cannot say; "
		"PUT replaces it");
}

static int apply_put(struct change *c, json_t **next, struct err *err)
{
	auto_json json_t *deny_all = NULL;

	if (c->body)
		return netpolicy_canonical(c->body, next, err);
	c->reason = "policy reset to deny_all";
	deny_all = json_object();
	return deny_all ? netpolicy_canonical(deny_all, next, err) :
			  err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
}

static int apply_patch(struct change *c, json_t **next, struct err *err)
{
	int r = present(c, next, err);

	if (r == 0)
		r = netpolicy_patch(*next, c->body, err);
	return r;
}

static int apply_delete(struct change *c, json_t **next, struct err *err)
{
	size_t n = 0;
	int r = present(c, next, err);

	if (r == 0)
		r = netpolicy_remove(*next, c->body, &n, err);
	if (r == 0 && !n)
		c->reason = NO_MATCH;
	return r;
}

/* Its turn has come: the next policy, from the present one. */
static int make(struct box *b, void *arg, struct policy **ret, char **ret_json, struct err *err)
{
	struct change *c = arg;
	auto_json json_t *next = NULL;
	int r = c->apply(c, &next, err);

	if (r == 0 && c->reason && str_eq_c(STR(NO_MATCH), c->reason))
		return 1;
	if (r == 0 && json_array_size(json_object_get(next, "egress")) > OPENSANDBOX_RULES_MAX)
		r = err_set(err, -E2BIG, ERR_TOO_LARGE, "more than %u rules after the change",
			OPENSANDBOX_RULES_MAX);
	if (r == 0)
		r = netpolicy_build(b->api, next, ret, err);
	if (r < 0)
		return r;
	*ret_json = json_dumps(next, JSON_COMPACT);
	if (*ret_json)
		return 0;
	policy_free(take_ptr(*ret));
	return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
}

static void on_body(struct http *h, struct str body, void *arg)
{
	struct change *c = arg;
	struct err err;

	body = str_trim(body);
	if (body.n && !str_eq_c(body, "null") && json_parse(body, &c->body, &err) < 0)
		change_refuse(c, &err);
	else
		flow_policy_made(c->q->box, POLICY_OPENSANDBOX, make, changed, c, &c->op);
}

/* Said here, in this API's form, where the head has it; a chunked one the server refuses. */
static bool too_long(const struct req *q)
{
	struct str length = http_header(q->h, "content-length");
	uint64_t n;

	return length.n && (str_u64(length, UINT64_MAX, &n) < 0 || n > BODY_MAX);
}

static void change(struct req *q, int (*apply)(struct change *c, json_t **next, struct err *err))
{
	struct change *c;
	struct err err;

	if (!admitted(q))
		return;
	if (too_long(q)) {
		err_set(&err, -EFBIG, ERR_TOO_LARGE, "the body is larger than %u bytes", BODY_MAX);
		refuse(q, &err);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		refuse(q, &err);
		return;
	}
	c->q = q;
	c->apply = apply;
	q->state = c;
	q->on_gone = change_gone;
	http_body_whole(q->h, BODY_MAX, on_body, c);
}

void opensandbox_policy_put(struct req *q)
{
	change(q, apply_put);
}

void opensandbox_policy_patch(struct req *q)
{
	change(q, apply_patch);
}

void opensandbox_policy_delete(struct req *q)
{
	change(q, apply_delete);
}
