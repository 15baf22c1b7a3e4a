/* SPAWN requests in turn: see the header. */
#include <sys/queue.h>
#include "base/clock.h"
#include "base/log.h"
#include "sandbox/box.h"
#include "sandbox/burst.h"
#include "sandbox/daemon.h"
#include "sandbox/roles.h"
#include "sandbox/slots.h"

#define AHEAD_MAX 16 /* begun together: enough to hide the waiting, bounded in processes */

struct waiting {
	STAILQ_ENTRY(waiting) next;
	struct burst *b;
	struct ipc_spawn req;
	uint32_t life, serial;
	uint64_t asked;
};

struct burst {
	struct daemon *d;
	uv_idle_t turn;
	STAILQ_HEAD(, waiting) queue; /* for their turn */
	unsigned int n;
	struct waiting *ahead[AHEAD_MAX]; /* for their slots */
	unsigned int n_ahead;
};

static void turn_next(struct burst *b);

static void refuse(struct chan *api, const struct waiting *w, const struct err *err)
{
	log_event(LOG_WARN, "sandbox.refused", "sandbox=%s error=\"%s\"", log_q(str_c(w->req.id)),
		err->text);
	chan_reply_err(api, w->serial, err);
}

static void on_slot(struct slot *slot, const struct err *why, void *arg)
{
	struct waiting *w = arg;
	struct burst *b = w->b;
	struct daemon *d = b->d;
	struct chan *api = roles_api(d->roles, w->life);
	struct err err = { .code = 0 };
	struct ipc_sandbox s;
	struct box *x;

	for (unsigned int i = 0; i < b->n_ahead; i++)
		if (b->ahead[i] == w)
			b->ahead[i] = b->ahead[--b->n_ahead];
	turn_next(b);
	if (slot && (!api || d->phase != DAEMON_SERVING)) {
		/* Who asked is gone; its successor asks LIST and knows of no such create. */
		slots_give_up(d->slots, slot);
		slot = NULL;
		err_set(&err, -ESHUTDOWN, ERR_CAPACITY, "the daemon is stopping");
		why = &err;
	}
	if (!api) {
		/* nobody to tell */
	} else if (!slot) {
		refuse(api, w, why);
	} else if (box_spawn(d->boxes, &w->req, slot, w->asked, &x, &err) < 0) {
		refuse(api, w, &err);
	} else {
		box_describe(x, &s);
		chan_reply(api, w->serial, 0, &s, sizeof(s), NULL, 0);
	}
	free(w);
}

static bool is_ahead(const struct burst *b, const char *id)
{
	for (unsigned int i = 0; i < b->n_ahead; i++)
		if (!strcmp(b->ahead[i]->req.id, id))
			return true;
	return false;
}

/* The next whose turn it may be: not of a sandbox that is being begun for an api role that died. */
static struct waiting *pop(struct burst *b)
{
	struct waiting *w;

	STAILQ_FOREACH(w, &b->queue, next) {
		if (is_ahead(b, w->req.id))
			continue;
		STAILQ_REMOVE(&b->queue, w, waiting, next);
		b->n--;
		return w;
	}
	return NULL;
}

static void on_turn(uv_idle_t *t)
{
	struct burst *b = t->data;
	struct slots_want want = { .number = 0 };
	struct err err = { .code = 0 };
	struct waiting *w = pop(b);
	struct chan *api = w ? roles_api(b->d->roles, w->life) : NULL;

	if (!w) {
		uv_idle_stop(t); /* on_slot() goes on */
		return;
	}
	if (!api || box_may_spawn(b->d->boxes, &w->req, &err) < 0) {
		if (api)
			refuse(api, w, &err);
		free(w);
		turn_next(b);
		return;
	}
	b->ahead[b->n_ahead++] = w;
	turn_next(b);
	w->asked = clock_mono_ns();
	want.runner = runner_find(b->d, w->req.runtime, &err);
	want.number = w->req.slot;
	want.vcpu_milli = w->req.vcpu_milli;
	want.mem_mib = w->req.mem_mib;
	want.disk_mib = w->req.disk_mib;
	memcpy(want.image, w->req.image, sizeof(want.image));
	if (w->req.revive)
		memcpy(want.revive, w->req.id, sizeof(want.revive));
	memcpy(want.from, w->req.from, sizeof(want.from));
	want.paused = w->req.paused;
	slots_order(b->d->slots, &want, on_slot, w);
}

static void turn_next(struct burst *b)
{
	if (b->n && b->n_ahead < AHEAD_MAX)
		uv_idle_start(&b->turn, on_turn);
	else
		uv_idle_stop(&b->turn);
}

int burst_new(struct daemon *d, struct burst **ret, struct err *err)
{
	struct burst *b = calloc(1, sizeof(*b));

	if (!b)
		return err_sys(err, -ENOMEM, "spawns");
	b->d = d;
	STAILQ_INIT(&b->queue);
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
	*w = (struct waiting){ .b = b, .req = *req, .life = life, .serial = serial };
	STAILQ_INSERT_TAIL(&b->queue, w, next);
	b->n++;
	turn_next(b);
	return 0;
}

static void closed(uv_handle_t *h)
{
	struct burst *b = h->data;

	while (!STAILQ_EMPTY(&b->queue)) {
		struct waiting *w = STAILQ_FIRST(&b->queue);

		STAILQ_REMOVE_HEAD(&b->queue, next);
		free(w);
	}
	free(b);
}

void burst_free(struct burst *b)
{
	if (b)
		uv_close((uv_handle_t *)&b->turn, closed);
}
