/*
 * A sandbox's main command: see box.h. Started once in a life of its processes, watched as long as
 * the sandbox is awake, found again by its id after a pause or a restart of this role. When it ends
 * the sandbox's processes end with it; its disk stays, and a resume starts both again.
 */
#include "api/box.h"
#include "api/procs.h"
#include "base/log.h"

#define ENTRY_ID	"entrypoint"
#define ENTRY_WORDS_MAX 256u

static void on_end(struct proc *x, const struct agent_exit *exit, const struct err *err, void *arg)
{
	struct box *b = arg;
	char why[280];

	proc_free(b->entry);
	b->entry = NULL;
	if (!exit) { /* the agent, not the command: what runs, runs on */
		log_event(LOG_WARN, "sandbox.entrypoint", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err ? err->text : "nothing more is told")));
		return;
	}
	if (exit->error[0])
		snprintf(why, sizeof(why), ENTRY_FAILED "%s", exit->error);
	else if (exit->signal)
		snprintf(why, sizeof(why), ENTRY_FAILED "killed by signal %d", exit->signal);
	else if (exit->code)
		snprintf(why, sizeof(why), ENTRY_FAILED "exit status %d", exit->code);
	else
		snprintf(why, sizeof(why), ENTRY_ENDED);
	flow_lost(b, why);
}

static const struct proc_ops ops = { .on_end = on_end };

static int start(struct box *b, struct err *err)
{
	struct str argv[ENTRY_WORDS_MAX];
	struct proc_spec spec = { .id = STR(ENTRY_ID), .label = STR(ENTRY_ID), .argv = argv };
	auto_json json_t *words = json_loads(b->row.entrypoint, 0, NULL);
	json_t *word;
	size_t i;

	json_array_foreach (words, i, word)
		if (spec.n_argv < ENTRY_WORDS_MAX)
			argv[spec.n_argv++] =
				str_n(json_string_value(word), json_string_length(word));
	return proc_start(b->api->loop, &b->link, &spec, true, false, &ops, b, &b->entry, err);
}

static int watch(struct box *b, struct err *err)
{
	struct proc_attach how = { .id = STR(ENTRY_ID), .from = PROC_FROM_END, .follow = true };

	return proc_attach(b->api->loop, &b->link, &how, &ops, b, &b->entry, err);
}

void entry_awake(struct box *b)
{
	struct err err;
	int r;

	if (b->entry || !b->row.entrypoint || str_eq_c(STR("[]"), b->row.entrypoint))
		return;
	r = b->entry_due ? start(b, &err) : watch(b, &err);
	b->entry_due = false;
	if (r < 0)
		log_event(LOG_WARN, "sandbox.entrypoint", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
}

void entry_asleep(struct box *b)
{
	proc_free(b->entry);
	b->entry = NULL;
}
