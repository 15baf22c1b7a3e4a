/*
 * Telling the agent who it is: host name, environment and keys, from the row. A machine has a clock
 * and random numbers of its own as well, and sets its addresses by itself.
 */
#include "api/flow.h"
#include "api/nets.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/ulid.h"

#define WAKE_MS 20000u /* as for its start, on a machine under full load */

struct waking {
	agent_done_fn done;
	void *arg;
	uint8_t machine[16];
	json_t *envs, *keys; /* hold the texts below */
	struct agent_env env[ENVS_MAX];
	struct str key[SSH_KEYS_MAX];
};

static void waking_free(struct waking *w)
{
	json_decref(w->envs);
	json_decref(w->keys);
	free(w);
}

static void on_awake(const struct err *err, void *arg)
{
	struct waking w = *(struct waking *)arg;

	waking_free(arg);
	w.done(err, w.arg);
}

static void wake_machine(const struct box *b, struct waking *w, struct agent_wake_spec *spec)
{
	struct ulid id;

	spec->wall_ns = clock_wall_ns();
	spec->overlay = box_overlay(b);
	if (ulid_from(str_c(b->row.id + strlen("sb-")), &id) < 0)
		return;
	ulid_raw(&id, w->machine);
	spec->machine = str_n(w->machine, sizeof(w->machine));
}

void flow_wake(struct box *b, agent_done_fn done, void *arg)
{
	struct agent_wake_spec spec = { .hostname = str_c(b->row.name), .ip4 = b->ip4,
		.ip6 = b->ip6 };
	struct waking *w = calloc(1, sizeof(*w));
	const char *name;
	struct err err;
	json_t *v;
	size_t i;

	if (!w) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		done(&err, arg);
		return;
	}
	w->done = done;
	w->arg = arg;
	if (box_is_machine(b))
		wake_machine(b, w, &spec);
	w->envs = json_loads(b->row.envs, 0, NULL);
	w->keys = json_loads(b->row.ssh_keys, 0, NULL);
	json_object_foreach (w->envs, name, v)
		if (spec.n_env < ENVS_MAX)
			w->env[spec.n_env++] = (struct agent_env){ str_c(name),
				str_n(json_string_value(v), json_string_length(v)) };
	json_array_foreach (w->keys, i, v)
		if (spec.n_ssh_keys < SSH_KEYS_MAX)
			w->key[spec.n_ssh_keys++] =
				str_n(json_string_value(v), json_string_length(v));
	spec.env = w->env;
	spec.ssh_keys = w->key;
	if (agent_wake(b->api->loop, &b->link, &spec, WAKE_MS, on_awake, w, &err) < 0) {
		waking_free(w);
		done(&err, arg);
	}
}

/* --- by one who has no turn: a machine that is being copied must not be woken --- */

struct telling {
	struct op op;
	agent_done_fn done;
	void *arg;
};

static void told(const struct err *err, void *arg)
{
	op_finish(arg, err);
}

static void tell_start(struct op *op)
{
	if (op->box->row.state == LIFE_RUNNING) {
		flow_wake(op->box, told, op);
	} else {
		op->box->wake_due = true;
		op_finish(op, NULL);
	}
}

static void tell_done(struct op *op, const struct err *err, void *arg)
{
	struct telling *t = arg;

	t->done(err, t->arg);
}

void flow_tell(struct box *b, agent_done_fn done, void *arg)
{
	struct telling *t = calloc(1, sizeof(*t));
	struct err err;

	if (!t) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		done(&err, arg);
		return;
	}
	*t = (struct telling){ .op = { .name = "tell", .start = tell_start, .done = tell_done, .arg = t },
		.done = done, .arg = arg };
	op_queue(b, &t->op);
}

/* --- one that was copied --- */

struct letting_go {
	struct box *box;
	agent_done_fn done;
	void *arg;
};

static void gone_on(const struct err *err, void *arg)
{
	struct letting_go l = *(struct letting_go *)arg;

	free(arg);
	if (err)
		log_event(LOG_WARN, "sandbox.let_go", "sandbox=%s text=%s", l.box->row.id, log_q(str_c(err->text)));
	l.done(err, l.arg);
	box_unref(l.box);
}

/* An agent of an older build does not know GO. */
static void not_gone_on(const struct err *err, void *arg)
{
	struct letting_go *l = arg;

	if (err && l->box->row.state == LIFE_RUNNING)
		flow_wake(l->box, gone_on, l);
	else
		gone_on(err, l);
}

void flow_let_go(struct box *b, agent_done_fn done, void *arg)
{
	struct letting_go *l = malloc(sizeof(*l));
	struct err err;

	if (!l) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		done(&err, arg);
		return;
	}
	*l = (struct letting_go){ box_ref(b), done, arg };
	if (agent_go(b->api->loop, &b->link, clock_wall_ns(), WAKE_MS, not_gone_on, l, &err) < 0)
		not_gone_on(&err, l);
}
