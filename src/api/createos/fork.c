/*
 * POST /v1/sandboxes/{sandbox}/fork: another sandbox, which goes on from what a paused one holds. Native:
 * "memory": false copies a container's files instead, and the new one begins anew with them; "live": true
 * also forks a machine that runs, and goes on.
 *
 * What the body does not say is as in the source, but for what is the source's own: its name and
 * address, its networks, ports published one by one, tokens, and what it has used.
 */
#include "api/birth.h"
#include "api/createos/egress.h"
#include "api/createos/fork.h"
#include "api/createos/ingress.h"
#include "api/createos/view.h"
#include "api/dialect.h"
#include "api/ident.h"

struct fork_ask {
	struct box *from; /* the request holds it */
	bool paused, bandwidth_seen, memory, memory_seen, live;
	json_t *egress, *envs, *ssh_pubkeys;
	int64_t bandwidth;
	struct ingress_ask ingress;
	struct ingress_want want;
};

#define F(n, k, f) .name = n, .kind = k, .offset = offsetof(struct fork_ask, f), .seen_offset = -1
static const struct json_field fields[] = {
	{ F("start_paused", JK_BOOL, paused) },
	{ .name = "memory", .kind = JK_BOOL, .offset = offsetof(struct fork_ask, memory),
		.seen_offset = offsetof(struct fork_ask, memory_seen) },
	{ F("live", JK_BOOL, live) },
	{ F("egress", JK_RAW, egress) },
	{ F("envs", JK_STR_MAP, envs) },
	{ F("ssh_pubkeys", JK_STR_LIST, ssh_pubkeys) },
	{ .name = "bandwidth_quota_bytes", .kind = JK_I64, .offset = offsetof(struct fork_ask, bandwidth),
		.seen_offset = offsetof(struct fork_ask, bandwidth_seen) },
	INGRESS_FIELDS(struct fork_ask, ingress),
};

static int decode(const struct req *q, struct fork_ask *ask, struct err *err)
{
	int r = q->json ? json_decode(q->json, fields, ARRAY_SIZE(fields), ask, err) : 0;

	r = r < 0 ? r : ingress_ask_read(q->api, &ask->ingress, &ask->want, err);
	if (r == 0 && ask->envs)
		r = envs_check(ask->envs, "envs", err);
	if (r == 0 && ask->bandwidth_seen)
		r = err_field(err, -ENOSYS, ERR_UNSUPPORTED, "bandwidth_quota_bytes",
			"bandwidth_quota_bytes: quotas are not built yet");
	return r;
}

/* Is it one that can be forked so, as it is now? */
static int check_source(const struct req *q, const struct fork_ask *ask, struct err *err)
{
	bool machine = !strcmp(q->row->runtime, "vm"), memory = !ask->memory_seen || ask->memory;

	if (!machine && memory)
		return err_field(err, -ENOTSUP, ERR_CONFLICT, "runtime",
			"fork needs the runtime vm (at create: \"runtime\": \"vm\" or node_selector "
			"{\"runtime\": \"vm\"}); this sandbox runs as %s, of which \"memory\": false copies "
			"the files alone", q->row->runtime);
	if (machine && !memory)
		return err_field(err, -ENOTSUP, ERR_UNSUPPORTED, "memory",
			"memory: a machine is forked with its memory");
	if (!memory && ask->paused)
		return err_field(err, -EINVAL, ERR_INVALID, "start_paused",
			"a fork without memory begins anew: it cannot start paused");
	if (!q->box)
		return err_set(err, -ESRCH, ERR_CONFLICT, "the sandbox has ended");
	if (q->row->state != LIFE_RUNNING)
		return life_may(q->row->state, LIFE_OP_FORK) == LIFE_ALLOW ? 0
									    : box_refuse(q->box, LIFE_OP_FORK, err);
	if (!machine || !ask->live)
		return box_refuse(q->box, LIFE_OP_FORK, err);
	if (ask->paused)
		return err_field(err, -EINVAL, ERR_INVALID, "start_paused",
			"a fork of a sandbox that runs begins running: pause it then, or pause the source first");
	return 0;
}

static void fill_numbers(struct sandbox_row *row, const struct sandbox_row *from)
{
	memcpy(row->shape, from->shape, sizeof(row->shape));
	memcpy(row->runtime, from->runtime, sizeof(row->runtime));
	memcpy(row->forked_from, from->id, sizeof(row->forked_from));
	row->vcpu = from->vcpu;
	row->cpu_milli = from->cpu_milli;
	row->quota_pct = from->quota_pct;
	row->mem_mib = from->mem_mib;
	row->disk_mib = from->disk_mib;
	row->auto_pause_s = from->auto_pause_s;
	row->auto_resume = from->auto_resume;
	row->ingress = from->ingress;
	row->ingress_access = from->ingress_access;
	row->ingress_hold = from->ingress_hold;
	row->secured = from->secured;
	row->ttl_s = from->ttl_s;
	row->sleep_s = from->sleep_s;
	row->expires_ms = from->ttl_s ? row->created_ms + from->ttl_s * UINT64_C(1000) : 0;
	row_sleep_again(row, row->created_ms);
}

static int fill_texts(struct sandbox_row *row, const struct sandbox_row *from, const struct fork_ask *ask,
	struct err *err)
{
	auto_json json_t *keys = json_array();

	if (ask->ssh_pubkeys && ssh_keys_merge(keys, ask->ssh_pubkeys, "ssh_pubkeys", err) < 0)
		return err->code;
	row->ssh_keys = ask->ssh_pubkeys ? json_dumps(keys, JSON_COMPACT) : str_dup(str_c(from->ssh_keys));
	row->envs = ask->envs ? json_dumps(ask->envs, JSON_COMPACT) : str_dup(str_c(from->envs));
	row->image = str_dup(str_c(from->image));
	row->metadata = str_dup(str_c(from->metadata));
	row->entrypoint = str_dup(str_c(from->entrypoint));
	if (!row->ssh_keys || !row->envs || !row->image || !row->metadata || !row->entrypoint)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	return 0;
}

static int fill(struct box *b, void *arg, struct err *err)
{
	const struct fork_ask *ask = arg;
	const struct sandbox_row *from = &ask->from->row;
	struct sandbox_row *row = &b->row;
	int r;

	fill_numbers(row, from);
	ingress_want_set(row, &ask->want);
	r = fill_texts(row, from, ask, err);
	if (r < 0)
		return r;
	if (ask->egress) {
		row->dialect = POLICY_CREATEOS;
		return egress_from_json(b->api, ask->egress, &b->policy, &row->policy_json, err);
	}
	row->dialect = from->dialect;
	row->policy_json = str_dup(str_c(from->policy_json));
	if (!row->policy_json)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	return dialect_policy(b->api, row->dialect, str_c(row->policy_json), &b->policy, err);
}

static void forked(struct req *q, const struct sandbox_row *row, const struct err *err, void *arg)
{
	if (err)
		reply_err(q, err);
	else
		reply_view(q, 201, row);
}

void createos_fork(struct req *q)
{
	struct fork_ask *ask = http_alloc(q->h, sizeof(*ask));
	struct err err;
	int r = ask ? decode(q, ask, &err) : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	r = r < 0 ? r : check_source(q, ask, &err);
	r = r < 0 ? r : birth_quota(q, &err);
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	ask->from = q->box;
	birth(q, &(struct birth_spec){ .rootfs = str_c(q->row->rootfs), .from = q->box, .paused = ask->paused, .live = ask->live,
		.fill = fill, .done = forked, .arg = ask });
}
