/*
 * GET, PUT and DELETE …/networks/{network}/policy: who may call whom inside a private network.
 *
 * PUT and DELETE: store and books, then the host role; the answer comes when the rules are in force. If
 * the host role refuses them, what was before is put back. A crash in between leaves the store ahead
 * of the kernel, and the next start sends what the store says (adopt.c).
 */
#include "api/calls.h"
#include "api/createos/networks.h"
#include "api/native/native.h"
#include "base/fault.h"
#include "base/log.h"

struct change {
	struct req *q; /* NULL: the asker left */
	struct api *api;
	char network[IPC_ID_LEN], user[IPC_ID_LEN];
	struct net_rules *now, *before; /* now: only to be recognized */
};

static void reply_policy(struct req *q, const struct network *n)
{
	struct answer a;

	answer_begin(&a, 1u << 20);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "id", n->row.id);
	jw_c(&a.w, "name", n->row.name);
	net_rules_write(n->rules, &a.w);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void native_net_policy_get(struct req *q)
{
	const struct network *n = network_of(q);

	if (n)
		reply_policy(q, n);
}

static void put_back(struct change *c, struct network *n)
{
	struct net_rules *refused = NULL;
	struct err err;

	if (nets_rule(c->api, n, take_ptr(c->before), &refused, &err) < 0) {
		log_event(LOG_ERROR, "network.policy", "network=%s text=%s", n->row.id,
			log_q(str_c(err.text)));
		return;
	}
	free(refused);
	net_rules_send(c->api, n, NULL, NULL);
}

static void change_gone(struct req *q)
{
	((struct change *)q->state)->q = NULL; /* the change goes on */
}

static void change_done(const struct err *err, void *arg)
{
	struct change *c = arg;
	struct network *n = nets_find(c->api, c->user, str_c(c->network));
	struct req *q = c->q;
	struct err why;

	FAULT("api.netpolicy.sent");
	if (err && n && n->rules == c->now)
		put_back(c, n);
	else if (!err)
		log_event(LOG_INFO, "network.policy", "network=%s", c->network);
	free(c->before);
	free(c);
	if (!q)
		return;
	q->on_gone = NULL;
	if (!err && !n)
		err_field(&why, -ENOENT, ERR_NOT_FOUND, "id", "network not found");
	if (err || !n)
		reply_err(q, err ? err : &why);
	else
		reply_policy(q, n);
}

static void change(struct req *q, struct network *n, struct net_rules *rules)
{
	struct change *c = calloc(1, sizeof(*c));
	struct err err;
	int r;

	if (c) {
		r = nets_rule(q->api, n, rules, &c->before, &err);
	} else {
		free(rules);
		r = err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	if (r < 0) {
		free(c);
		reply_err(q, &err);
		return;
	}
	FAULT("api.netpolicy.stored");
	c->q = q;
	c->api = q->api;
	c->now = rules;
	snprintf(c->network, sizeof(c->network), "%s", n->row.id);
	snprintf(c->user, sizeof(c->user), "%s", n->row.user);
	q->state = c;
	q->on_gone = change_gone;
	net_rules_send(q->api, n, change_done, c);
}

/* Rules that make too many keys are refused before anything changes. Which member is behind a name
 * makes no difference to that, so long as different names are different members. */
static int fits(struct net_rules *r, struct err *err)
{
	struct calls_image img;
	int e;

	net_rules_number_ends(r);
	e = calls_compile(&r->calls, 1, &img, err);
	if (e == 0)
		calls_image_done(&img);
	return e;
}

void native_net_policy_put(struct req *q)
{
	struct network *n = network_of(q);
	struct net_rules *rules = NULL;
	struct err err;
	int r;

	if (!n)
		return;
	r = net_rules_from(q->json, &rules, &err);
	if (r == 0 && rules)
		r = fits(rules, &err);
	if (r < 0) {
		free(rules);
		reply_err(q, &err);
		return;
	}
	change(q, n, rules);
}

void native_net_policy_delete(struct req *q)
{
	struct network *n = network_of(q);

	if (n)
		change(q, n, NULL);
}
