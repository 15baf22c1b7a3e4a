/*
 * POST /v1/sandboxes: see the header. Three steps: read and check the body; make the row (its name
 * is unique from here on); run the create flow. If the client leaves before the answer, the
 * half-made sandbox is deleted.
 */
#include "api/box.h"
#include "api/createos/catalogue.h"
#include "api/createos/create.h"
#include "api/createos/egress.h"
#include "api/createos/networks.h"
#include "api/createos/view.h"
#include "api/ident.h"
#include "api/nets.h"
#include "api/shape.h"
#include "base/fault.h"
#include "base/log.h"

#define NAME_ATTEMPTS 32u

#define F(n, k, f) .name = n, .kind = k, .offset = offsetof(struct create_ask, f), .seen_offset = -1
static const struct json_field fields[] = {
	{ F("shape", JK_STR, shape), .required = true, .max = 64 },
	{ F("rootfs", JK_STR, rootfs), .max = IPC_NAME_LEN - 1 },
	{ F("name", JK_STR, name), .max = 255 },
	{ F("host_id", JK_STR, host_id), .max = 255 },
	{ F("region", JK_STR, region), .max = 255 },
	{ F("runtime", JK_STR, runtime), .max = 64 },
	{ F("egress", JK_RAW, egress) },
	{ F("envs", JK_STR_MAP, envs) },
	{ F("ssh_pubkeys", JK_STR_LIST, ssh_pubkeys) },
	{ F("node_selector", JK_STR_MAP, node_selector) },
	{ F("networks", JK_RAW, networks) },
	{ F("disks", JK_RAW, disks) },
	{ F("disk_mib", JK_I64, disk_mib), .max = INT32_MAX },
	{ F("bandwidth_quota_bytes", JK_I64, bandwidth) },
	{ F("ingress_enabled", JK_BOOL, ingress) },
	{ .name = "auto_pause_after_seconds", .kind = JK_I64,
		.offset = offsetof(struct create_ask, auto_pause),
		.seen_offset = offsetof(struct create_ask, auto_pause_seen) },
};

static int field_not_built(const char *field, const char *what, struct err *err)
{
	return err_field(err, -ENOSYS, ERR_UNSUPPORTED, field, "%s: %s not built yet", field, what);
}

int create_decode(const json_t *body, struct create_ask *ret, struct err *err)
{
	int r = json_decode(body, fields, ARRAY_SIZE(fields), ret, err);

	if (r < 0)
		return r;
	if (!shape_find(ret->shape))
		return err_field(err, -EINVAL, ERR_INVALID, "shape", "unknown shape: %.*s",
			(int)MIN(ret->shape.n, (size_t)64), ret->shape.p);
	if (ret->name.n && sandbox_name_check(ret->name, err) < 0)
		return -EINVAL;
	if (ret->envs && envs_check(ret->envs, "envs", err) < 0)
		return -EINVAL;
	if (ret->auto_pause_seen && (ret->auto_pause < 60 || ret->auto_pause > 86400))
		return err_field(err, -ERANGE, ERR_INVALID, "auto_pause_after_seconds",
			"must be between 60 and 86400");
	if (ret->bandwidth)
		return err_field(err, -EINVAL, ERR_INVALID, "bandwidth_quota_bytes",
			"cannot be set at create");
	if (ret->networks && !json_is_array(ret->networks))
		return err_field(err, -EINVAL, ERR_INVALID, "networks", "expected an array");
	if (ret->disks && !json_is_array(ret->disks))
		return err_field(err, -EINVAL, ERR_INVALID, "disks", "expected an array");
	/* Never accepted and ignored. */
	if (json_array_size(ret->disks))
		return field_not_built("disks", "S3 disks are", err);
	if (ret->ingress)
		return field_not_built("ingress_enabled", "ingress is", err);
	return 0;
}

/* --- against this daemon --- */

static bool has_word(const char *list, struct str word)
{
	struct str rest = str_c(list);

	while (rest.n)
		if (str_eq(str_cut(&rest, ' '), word))
			return true;
	return false;
}

static int pick_runtime(const struct api *a, const struct create_ask *c, char ret[static 16],
	struct err *err)
{
	struct str want = c->runtime;
	const char *key;
	json_t *v;

	json_object_foreach (c->node_selector, key, v) {
		if (!str_eq_c(str_c(key), "runtime"))
			return err_field(err, -ENOENT, ERR_CAPACITY, "node_selector",
				"no host with capacity has the label %.64s", key);
		if (!want.n)
			want = str_n(json_string_value(v), json_string_length(v));
	}
	if (!want.n || str_eq_c(want, "auto"))
		want = str_c(a->config.runtime_default);
	if (!want.n || str_eq_c(want, "auto"))
		want = STR("container");
	if (!str_eq_c(want, "container") && !str_eq_c(want, "vm"))
		return err_field(err, -EINVAL, ERR_INVALID, "runtime",
			"unknown runtime. Allowed: [auto, container, vm]");
	if (!has_word(a->info.runtimes[0] ? a->info.runtimes : "container", want))
		return err_field(err, -ENOSYS, ERR_UNSUPPORTED, "runtime",
			"runtime " STR_FMT " is not available here; there is: %s", STR_ARG(want),
			a->info.runtimes);
	return str_copy(ret, 16, want);
}

static int check_place(const struct api *a, const struct create_ask *c, struct err *err)
{
	if (c->host_id.n && !str_eq_c(c->host_id, a->info.hostname))
		return err_field(err, -EINVAL, ERR_INVALID, "host_id", "unknown host");
	if (c->region.n && !str_eq_c(c->region, a->config.api_region))
		return err_field(err, -EINVAL, ERR_INVALID, "region", "this is region %s",
			a->config.api_region);
	if (c->disk_mib > a->config.disk_max_mib)
		return err_field(err, -ERANGE, ERR_INVALID, "disk_mib", "at most %u MiB",
			a->config.disk_max_mib);
	return 0;
}

static int check_quota(const struct req *q, struct err *err)
{
	uint64_t n[LIFE_STATES], live = 0;
	int r;

	if (!q->api->config.sandboxes_per_user)
		return 0;
	r = store_sandbox_counts(q->api->store, q->who.user, n, err);
	for (int s = LIFE_NONE + 1; s < LIFE_STATES; s++)
		live += r == 0 && !life_terminal((enum life_state)s) ? n[s] : 0;
	if (r == 0 && live >= q->api->config.sandboxes_per_user)
		return err_field(err, -EDQUOT, ERR_FORBIDDEN, "quota",
			"sandbox limit reached: %u per user", q->api->config.sandboxes_per_user);
	return r;
}

/* --- the row --- */

struct creation {
	struct req *q;
	struct create_ask ask;
	struct box *box;
	struct op *op;	/* the flow, while it runs */
	bool waiting;	/* for the list of images */
};

static int fill_row(struct creation *c, struct sandbox_row *row, struct err *err)
{
	const struct shape *shape = shape_find(c->ask.shape);
	const struct api *a = c->q->api;
	auto_json json_t *keys = json_array();
	int r = pick_runtime(a, &c->ask, row->runtime, err);

	if (r == 0 && c->ask.ssh_pubkeys)
		r = ssh_keys_merge(keys, c->ask.ssh_pubkeys, "ssh_pubkeys", err);
	if (r < 0)
		return r;
	snprintf(row->user, sizeof(row->user), "%s", c->q->who.user);
	snprintf(row->created_by, sizeof(row->created_by), "%s", c->q->who.key);
	snprintf(row->shape, sizeof(row->shape), "%s", shape->id);
	str_copy(row->rootfs, sizeof(row->rootfs),
		c->ask.rootfs.n ? c->ask.rootfs : str_c(a->config.rootfs_default));
	row->vcpu = shape->vcpu;
	row->cpu_milli = shape_cpu_milli(shape);
	row->quota_pct = shape->quota_pct;
	row->mem_mib = shape->mem_mib;
	row->disk_mib = c->ask.disk_mib ? (uint32_t)c->ask.disk_mib : shape->disk_mib;
	row->auto_pause_s = (uint32_t)c->ask.auto_pause;
	row->state = LIFE_CREATING;
	row->created_ms = api_now_ms();
	row->dialect = POLICY_CREATEOS;
	row->policy_version = 1;
	row->envs = c->ask.envs ? json_dumps(c->ask.envs, JSON_COMPACT) : strdup("{}");
	row->ssh_keys = json_dumps(keys, JSON_COMPACT);
	row->reason = strdup("");
	if (!row->envs || !row->ssh_keys || !row->reason)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	return api_policy_id(c->q->api, &row->policy, err);
}

static int insert_row(struct box *b, struct err *err)
{
	struct sandbox_row *row = &b->row;
	struct store *store = b->api->store;
	struct version_row v = { .version = 1, .policy = row->policy, .dialect = row->dialect,
		.json = str_c(row->policy_json), .at_ms = row->created_ms };
	int r = store_begin(store, err);

	snprintf(v.sandbox, sizeof(v.sandbox), "%s", row->id);
	if (r == 0)
		r = store_sandbox_add(store, row, err);
	if (r == 0)
		r = store_version_add(store, &v, err);
	if (r == 0)
		r = box_save_nets(b, err);
	if (r == 0)
		r = store_commit(store, err);
	store_rollback(store);
	return r;
}

/* The name is the only thing that can be taken. */
static int name_and_insert(struct creation *c, struct err *err)
{
	struct sandbox_row *row = &c->box->row;
	int r = -EEXIST;

	if (c->ask.name.n) {
		str_copy(row->name, sizeof(row->name), c->ask.name);
		r = insert_row(c->box, err);
	}
	for (unsigned int i = 0; !c->ask.name.n && r == -EEXIST && i < NAME_ATTEMPTS; i++) {
		sandbox_name_new(i, row->name);
		r = insert_row(c->box, err);
	}
	if (r == -EEXIST)
		err_field(err, r, ERR_CONFLICT, "name", "a sandbox named %s exists", row->name);
	return r;
}

static int make_box(struct creation *c, struct err *err)
{
	struct api *a = c->q->api;
	char id[IPC_ID_LEN];
	int r;

	sandbox_id_new(id);
	c->box = box_new(a, id);
	if (!c->box)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = fill_row(c, &c->box->row, err);
	if (r == 0)
		r = egress_from_json(a, c->ask.egress, &c->box->policy, &c->box->row.policy_json, err);
	if (r == 0)
		r = networks_join(c->box, c->ask.networks, err);
	if (r == 0)
		r = name_and_insert(c, err);
	if (r < 0) {
		box_forget(c->box);
		c->box = NULL;
	}
	return r;
}

/* --- the request --- */

static void create_gone(struct req *q)
{
	struct creation *c = q->state;
	struct box *b = c->box;
	struct err err;

	c->q = NULL;
	if (c->waiting)
		return; /* creation_go() frees */
	op_forget(c->op);
	if (flow_delete(b, "the client left before the answer", 0, &err) < 0)
		log_event(LOG_ERROR, "sandbox.abandon", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
	free(c);
}

static void created(struct op *op, const struct err *err, void *arg)
{
	struct creation *c = arg;
	struct req *q = c->q;

	q->on_gone = NULL;
	free(c);
	if (err)
		reply_err(q, err);
	else
		reply_view(q, 200, &op->box->row);
}

static void creation_go(void *arg)
{
	struct creation *c = arg;
	struct req *q = c->q;
	struct str rootfs;
	struct err err;
	int r = 0;

	c->waiting = false;
	if (!q) { /* left while we waited: nothing was made */
		free(c);
		return;
	}
	rootfs = c->ask.rootfs.n ? c->ask.rootfs : str_c(q->api->config.rootfs_default);
	if (!image_known(q->api, rootfs))
		r = err_field(&err, -ENOENT, ERR_INVALID, "rootfs", "unknown rootfs: %.*s",
			(int)MIN(rootfs.n, (size_t)64), rootfs.p);
	if (r == 0)
		r = make_box(c, &err);
	if (r < 0) {
		q->on_gone = NULL;
		free(c);
		reply_err(q, &err);
		return;
	}
	FAULT("api.create.stored");
	flow_create(c->box, created, c, &c->op);
}

void createos_create(struct req *q)
{
	struct creation *c = calloc(1, sizeof(*c));
	struct str rootfs;
	struct err err;
	int r;

	if (!c) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		reply_err(q, &err);
		return;
	}
	c->q = q;
	r = create_decode(q->json, &c->ask, &err);
	if (r == 0)
		r = check_place(q->api, &c->ask, &err);
	if (r == 0)
		r = check_quota(q, &err);
	if (r < 0) {
		free(c);
		reply_err(q, &err);
		return;
	}
	q->state = c;
	q->on_gone = create_gone;
	c->waiting = true;
	/* An image we do not know may have been added since we asked. */
	rootfs = c->ask.rootfs.n ? c->ask.rootfs : str_c(q->api->config.rootfs_default);
	images_fresh(q->api, image_known(q->api, rootfs) ? UINT32_MAX : 0, creation_go, c);
}
