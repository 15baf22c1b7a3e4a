/* POST /v1/sandboxes: see the header. The body is read and checked here; the rest is birth.h's. */
#include "api/birth.h"
#include "api/createos/create.h"
#include "api/createos/egress.h"
#include "api/createos/networks.h"
#include "api/createos/view.h"
#include "api/ident.h"
#include "api/shape.h"

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
	INGRESS_FIELDS(struct create_ask, ingress),
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
	return 0;
}

/* --- against this daemon --- */

/* "runtime", or the label of that name. */
static int runtime_of(const struct create_ask *c, struct str *ret, struct err *err)
{
	const char *key;
	json_t *v;

	*ret = c->runtime;
	json_object_foreach (c->node_selector, key, v) {
		if (!str_eq_c(str_c(key), "runtime"))
			return err_field(err, -ENOENT, ERR_CAPACITY, "node_selector",
				"no host with capacity has the label %.64s", key);
		if (!ret->n)
			*ret = str_n(json_string_value(v), json_string_length(v));
	}
	return 0;
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
	return ingress_ask_read(a, &c->ingress, &(struct ingress_want){ 0 }, err);
}

/* --- the row --- */

static int fill(struct box *b, void *arg, struct err *err)
{
	const struct create_ask *ask = arg;
	struct sandbox_row *row = &b->row;
	auto_json json_t *keys = json_array();
	struct ingress_want want;
	struct str runtime;
	int r = runtime_of(ask, &runtime, err);

	if (r == 0)
		r = birth_runtime(b->api, runtime, row->runtime, err);
	if (r == 0 && ask->ssh_pubkeys)
		r = ssh_keys_merge(keys, ask->ssh_pubkeys, "ssh_pubkeys", err);
	if (r < 0)
		return r;
	birth_shape(row, shape_find(ask->shape));
	if (ask->disk_mib)
		row->disk_mib = (uint32_t)ask->disk_mib;
	row->auto_pause_s = (uint32_t)ask->auto_pause;
	row->dialect = POLICY_CREATEOS;
	r = ingress_ask_read(b->api, &ask->ingress, &want, err);
	if (r < 0)
		return r;
	ingress_want_set(row, &want);
	row->envs = ask->envs ? json_dumps(ask->envs, JSON_COMPACT) : strdup("{}");
	row->ssh_keys = json_dumps(keys, JSON_COMPACT);
	if (!row->envs || !row->ssh_keys)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = egress_from_json(b->api, ask->egress, &b->policy, &row->policy_json, err);
	return r < 0 ? r : networks_join(b, ask->networks, err);
}

static void created(struct req *q, const struct sandbox_row *row, const struct err *err, void *arg)
{
	if (err)
		reply_err(q, err);
	else
		reply_view(q, 200, row);
}

void createos_create(struct req *q)
{
	struct create_ask *ask = http_alloc(q->h, sizeof(*ask));
	struct err err;
	int r = ask ? 0 : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r == 0)
		r = create_decode(q->json, ask, &err);
	if (r == 0)
		r = check_place(q->api, ask, &err);
	if (r == 0)
		r = birth_quota(q, &err);
	if (r < 0)
		reply_err(q, &err);
	else
		birth(q, &(struct birth_spec){ .rootfs = ask->rootfs, .name = ask->name,
			.fill = fill, .done = created, .arg = ask });
}
