/*
 * What upstream's egress sidecar answers on port 18080 of a sandbox: /policy, read and changed while
 * the sandbox lives. Nothing is started for it; the policy is the sandbox's own and enforced as every
 * other. A 200 to a change comes when the new policy is in force, in the kernel and for names; while
 * the sandbox is paused, when it is stored: it is in force before the first packet after.
 *
 * The credential is the sandbox's egress token, from the endpoint answer for this port. The owner's key is
 * none; who brings another user's is told that there is no such sandbox. Errors are plain text, never
 * empty (dialect.c).
 *
 * Changes to one sandbox run one after the other: each starts from the policy as it is when its turn
 * comes (flow_policy_made()), so of two PATCHes at once none is lost.
 */
#include "api/box.h"
#include "api/opensandbox/guard.h"
#include "api/opensandbox/netpolicy.h"
#include "api/opensandbox/opensandbox.h"
#include "policy/opensandbox.h"

#define BODY_MAX   (1u << 20)
#define TOKEN_NAME "opensandbox-egress-auth"
#define NO_MATCH   "no matching targets found"

static bool shows_token(const struct req *q)
{
	return mint_fits(q->api->mint, "egress", str_c(q->row->id), http_header(q->h, TOKEN_NAME));
}

/* Is it there, for who asks? Else answered. */
static bool there(struct req *q)
{
	struct err err;

	if (q->box && opensandbox_shows(q->row->state) && (shows_token(q) || !guard_other(q)))
		return true;
	err_set(&err, -ENOENT, ERR_NOT_FOUND, "sandbox not found");
	reply_err(q, &err);
	return false;
}

/* And does the caller hold its token? */
static bool admitted(struct req *q)
{
	struct err err;

	if (!there(q))
		return false;
	if (shows_token(q))
		return true;
	err_set(&err, -EACCES, ERR_UNAUTHORIZED, "unauthorized");
	reply_err(q, &err);
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
		reply_err(q, &err);
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
	if (!there(q))
		return;
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
	reply_err(q, &err);
}

void opensandbox_egress_vault(struct req *q)
{
	struct err err;

	if (!admitted(q))
		return;
	err_set(&err, -ENOSYS, ERR_UNSUPPORTED, "the credential vault is not built yet");
	reply_err(q, &err);
}

/* Upstream's proxy reads the secrets there, over a socket of its own. */
void opensandbox_egress_active(struct req *q)
{
	struct err err;

	if (!admitted(q))
		return;
	err_set(&err, -EACCES, ERR_FORBIDDEN, "what the vault holds is for nobody to read");
	reply_err(q, &err);
}

void opensandbox_egress_nothing(struct req *q)
{
	struct err err;

	if (!admitted(q))
		return;
	err_set(&err, -ENOENT, ERR_NOT_FOUND, "no such path");
	reply_err(q, &err);
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
	reply_err(q, err);
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

static void change(struct req *q, int (*apply)(struct change *c, json_t **next, struct err *err))
{
	struct change *c;
	struct err err;

	if (!admitted(q))
		return;
	c = calloc(1, sizeof(*c));
	if (!c) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		reply_err(q, &err);
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
