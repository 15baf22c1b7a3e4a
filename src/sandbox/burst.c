/* SPAWN requests in turn: see the header. */
#include "base/log.h"
#include "sandbox/box.h"
#include "sandbox/burst.h"
#include "sandbox/daemon.h"
#include "sandbox/roles.h"

#define AHEAD_MAX 16 /* starts begun together: enough to hide the waiting, bounded in memory */

struct waiting {
	struct waiting *next;
	struct ipc_spawn req;
	uint32_t life, serial;
};

struct burst {
	struct daemon *d;
	uv_idle_t turn;
	struct waiting *first, **end;
	unsigned int n;
};

static void spawn_one(struct daemon *d, const struct waiting *w)
{
	struct chan *api = roles_api(d->roles, w->life);
	struct err err = { .code = 0 };
	struct ipc_sandbox s;
	struct box *x;

	if (!api)
		return; /* who asked is gone; its successor asks LIST and knows of no such create */
	if (d->phase != DAEMON_SERVING) {
		err_set(&err, -ESHUTDOWN, ERR_CAPACITY, "the daemon is stopping");
	} else if (box_spawn(d->boxes, &w->req, &x, &err) == 0) {
		box_describe(x, &s);
		chan_reply(api, w->serial, 0, &s, sizeof(s), NULL, 0);
		return;
	}
	log_event(LOG_WARN, "sandbox.refused", "sandbox=%s error=\"%s\"", log_q(str_c(w->req.id)),
		err.text);
	chan_reply_err(api, w->serial, &err);
}

static void on_turn(uv_idle_t *t)
{
	struct burst *b = t->data;
	struct waiting *w = b->first;

	if (b->n > 1)
		b->d->rt_ops->prepare(b->d->rt, MAX(MIN(b->n, AHEAD_MAX), b->d->cfg.pool_slots));
	b->first = w->next;
	if (!b->first) {
		b->end = &b->first;
		uv_idle_stop(t);
	}
	b->n--;
	spawn_one(b->d, w);
	free(w);
}

int burst_new(struct daemon *d, struct burst **ret, struct err *err)
{
	struct burst *b = calloc(1, sizeof(*b));

	if (!b)
		return err_sys(err, -ENOMEM, "spawns");
	b->d = d;
	b->end = &b->first;
	uv_idle_init(&d->loop, &b->turn);
	b->turn.data = b;
	*ret = b;
	return 0;
}

int burst_add(struct burst *b, const struct ipc_spawn *req, uint32_t life, uint32_t serial,
	struct err *err)
{
	struct waiting *w = b->n < BURST_MAX ? malloc(sizeof(*w)) : NULL;

	if (!w)
		return err_set(err, -EBUSY, ERR_CAPACITY, "%u creates are waiting already", b->n);
	*w = (struct waiting){ .req = *req, .life = life, .serial = serial };
	*b->end = w;
	b->end = &w->next;
	b->n++;
	return uv_idle_start(&b->turn, on_turn);
}

static void closed(uv_handle_t *h)
{
	struct burst *b = h->data;

	for (struct waiting *w = b->first, *next; w; w = next) {
		next = w->next;
		free(w);
	}
	free(b);
}

void burst_free(struct burst *b)
{
	if (b)
		uv_close((uv_handle_t *)&b->turn, closed);
}
