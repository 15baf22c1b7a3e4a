/*
 * POST /v1/sandboxes: see the header. Each part of the body has a check of its own and each check
 * the contract's code for what it refuses; nothing is made before all have passed. What the contract
 * has and this daemon has not is refused, never accepted and ignored.
 */
#include <sys/utsname.h>
#include "api/birth.h"
#include "api/ident.h"
#include "api/opensandbox/create.h"
#include "api/opensandbox/gateway.h"
#include "api/opensandbox/guard.h"
#include "api/opensandbox/labels.h"
#include "api/opensandbox/netpolicy.h"
#include "api/opensandbox/opensandbox.h"
#include "api/opensandbox/quantity.h"
#include "api/shape.h"

#define INVALID "SANDBOX::INVALID_PARAMETER"

#define TIMEOUT_MIN_S	  60
#define TIMEOUT_MAX_S	  INT64_C(253370764800) /* the year 9999 */
#define ENTRYPOINT_MAX	  256u		       /* words */
#define ENTRYPOINT_BYTES  65536u
#define CPU_MILLI_MIN	  10u
#define CPU_MILLI_MAX	  512000u
#define MEM_MIB_MIN	  32u
#define MEM_MIB_MAX	  (4u << 20)
#define DISK_MIB_DEFAULT  10240u
#define DISK_MIB_MIN	  64u
#define RENEW_ON_ACCESS	  "access.renew.extend.seconds"
#define RUNTIME_LABEL	  "weir/runtime"

#define F(n, k, f) \
	.name = n, .kind = k, .offset = offsetof(struct opensandbox_ask, f), .seen_offset = -1
static const struct json_field fields[] = {
	{ F("image", JK_RAW, image_v) },
	{ F("snapshotId", JK_STR, snapshot), .max = 255 },
	{ F("entrypoint", JK_RAW, entrypoint) },
	{ .name = "timeout", .kind = JK_I64, .offset = offsetof(struct opensandbox_ask, timeout),
		.seen_offset = offsetof(struct opensandbox_ask, timeout_seen) },
	{ F("resourceLimits", JK_STR_MAP, limits), .max = 64 },
	{ F("resourceRequests", JK_STR_MAP, requests), .max = 64 },
	{ F("env", JK_RAW, env) },
	{ F("metadata", JK_RAW, metadata) },
	{ F("networkPolicy", JK_RAW, network_v) },
	{ F("credentialProxy", JK_RAW, credential) },
	{ F("secureAccess", JK_BOOL, secure) },
	{ F("volumes", JK_RAW, volumes) },
	{ F("platform", JK_RAW, platform) },
	{ F("extensions", JK_STR_MAP, extensions), .max = 64 },
};

static struct str text_of(const json_t *v)
{
	return str_n(json_string_value(v), json_string_length(v));
}

static bool given(const json_t *v)
{
	return v && !json_is_null(v);
}

static int missing(const char *field, const char *why, struct err *err)
{
	return err_field(err, -EINVAL, ERR_INVALID, field, "%s: %s", field, why);
}

/* The field at fault is one of parent's. */
static int part_of(const char *parent, int r, struct err *err)
{
	char field[sizeof(err->field)];

	if (r < 0) {
		snprintf(field, sizeof(field), "%s.%.40s", parent, err->field);
		memcpy(err->field, field, sizeof(field));
	}
	return r;
}

/* --- what it runs --- */

static int check_image(struct opensandbox_ask *ask, struct err *err)
{
	static const struct json_field image[] = {
		{ F("uri", JK_STR, image), .required = true, .min = 1, .max = 255 },
		{ F("auth", JK_RAW, auth_v) },
	};
	static const struct json_field auth[] = {
		{ F("username", JK_STR, user), .required = true, .max = 255 },
		{ F("password", JK_STR, password), .required = true, .max = 8192 },
	};
	int r;

	if (given(ask->image_v) == (ask->snapshot.n > 0))
		return missing("image", "exactly one of image and snapshotId", err);
	if (ask->snapshot.n)
		return err_field(err, -ENOSYS, ERR_UNSUPPORTED, "snapshotId",
			"snapshotId: snapshots are not built yet");
	if (!json_is_object(ask->image_v))
		return missing("image", "expected an object with uri", err);
	r = json_decode(ask->image_v, image, ARRAY_SIZE(image), ask, err);
	if (r < 0)
		return part_of("image", r, err);
	if (!given(ask->auth_v))
		return 0;
	if (!json_is_object(ask->auth_v))
		return missing("image.auth", "expected an object with username and password", err);
	return part_of("image.auth", json_decode(ask->auth_v, auth, ARRAY_SIZE(auth), ask, err), err);
}

static int check_entrypoint(const struct opensandbox_ask *ask, const char **code, struct err *err)
{
	size_t bytes = 0, i;
	json_t *word;

	if (!given(ask->entrypoint))
		return missing("entrypoint", "required with image", err);
	if (!json_is_array(ask->entrypoint))
		return missing("entrypoint", "expected an array of strings", err);
	json_array_foreach (ask->entrypoint, i, word) {
		if (!json_is_string(word))
			return err_field(err, -EINVAL, ERR_INVALID, "entrypoint",
				"entrypoint[%zu]: expected a string", i);
		if (memchr(json_string_value(word), 0, json_string_length(word)))
			return err_field(err, -EINVAL, ERR_INVALID, "entrypoint",
				"entrypoint[%zu]: must not contain a NUL character", i);
		bytes += json_string_length(word) + 1;
	}
	if (i > ENTRYPOINT_MAX || bytes > ENTRYPOINT_BYTES)
		return err_field(err, -E2BIG, ERR_INVALID, "entrypoint",
			"entrypoint: at most %u words and %u bytes", ENTRYPOINT_MAX, ENTRYPOINT_BYTES);
	*code = "DOCKER::INVALID_ENTRYPOINT";
	return i && json_string_length(json_array_get(ask->entrypoint, 0)) ? 0 :
		missing("entrypoint", "must name a program", err);
}

/* Values may be null, which is: not set. What execd is to ask for stays out here. */
static int check_env(struct opensandbox_ask *ask, struct err *err)
{
	const char *key;
	json_t *v;

	if (given(ask->env) && !json_is_object(ask->env))
		return missing("env", "expected an object of strings", err);
	ask->envs = json_object();
	if (!ask->envs)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	json_object_foreach (ask->env, key, v) {
		if (json_is_null(v))
			continue;
		if (!json_is_string(v))
			return err_field(err, -EINVAL, ERR_INVALID, "env",
				"env \"%.80s\": expected a string or null", key);
		if (strcmp(key, GUARD_EXECD_ENV) == 0 && json_string_length(v)) {
			ask->execd_token = text_of(v);
			if (guard_execd_check(ask->execd_token, err) < 0)
				return -EINVAL;
			continue;
		}
		if (json_object_set(ask->envs, key, v) < 0)
			return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	return envs_check(ask->envs, "env", err);
}

/* --- how much of it --- */

static int limit(const json_t *limits, const char *name, uint64_t per, uint64_t min, uint64_t max,
	uint32_t *ret, struct err *err)
{
	const json_t *v = json_object_get(limits, name);
	uint64_t milli, n;
	int r;

	if (!v)
		return 0;
	r = quantity_milli(text_of(v), &milli);
	n = r == 0 ? milli / per : 0;
	if (r == -EINVAL)
		return err_field(err, r, ERR_INVALID, "resourceLimits",
			"resourceLimits.%s: expected a quantity such as \"500m\" or \"512Mi\", got \"%.40s\"",
			name, json_string_value(v));
	if (r < 0 || n < min || n > max)
		return err_field(err, -ERANGE, ERR_INVALID, "resourceLimits",
			"resourceLimits.%s: expected %" PRIu64 " to %" PRIu64 " %s, got \"%.40s\"", name, min,
			max, per == 1 ? "thousandths of a CPU" : "MiB", json_string_value(v));
	*ret = (uint32_t)n;
	return 0;
}

static int check_limits(const struct api *a, struct opensandbox_ask *ask, struct err *err)
{
	const uint64_t mib = UINT64_C(1000) << 20;
	const json_t *gpu = json_object_get(ask->limits, "gpu");
	uint64_t gpus = 0;
	int r;

	if (!json_object_size(ask->limits))
		return missing("resourceLimits", "required, with cpu and memory", err);
	if (gpu && (quantity_milli(text_of(gpu), &gpus) < 0 || gpus))
		return err_field(err, -ENOTSUP, ERR_INVALID, "resourceLimits",
			"resourceLimits.gpu: there are no GPUs here");
	ask->cpu_milli = 1000;
	ask->mem_mib = 2048;
	ask->disk_mib = MIN(DISK_MIB_DEFAULT, a->config.disk_max_mib);
	r = limit(ask->limits, "cpu", 1, CPU_MILLI_MIN, CPU_MILLI_MAX, &ask->cpu_milli, err);
	if (r == 0)
		r = limit(ask->limits, "memory", mib, MEM_MIB_MIN, MEM_MIB_MAX, &ask->mem_mib, err);
	if (r == 0)
		r = limit(ask->limits, "ephemeral-storage", mib, DISK_MIB_MIN, a->config.disk_max_mib,
			&ask->disk_mib, err);
	return r;
}

static int check_timeout(const struct api *a, const struct opensandbox_ask *ask, struct err *err)
{
	uint32_t max = a->config.sandboxes_timeout_max_s;

	if (!ask->timeout_seen)
		return max ? err_field(err, -ERANGE, ERR_INVALID, "timeout",
				     "timeout: required here, at most %u seconds", max) : 0;
	if (ask->timeout < TIMEOUT_MIN_S)
		return err_field(err, -ERANGE, ERR_INVALID, "timeout",
			"timeout: at least %d seconds, or null for never", TIMEOUT_MIN_S);
	if (max && ask->timeout > max)
		return err_field(err, -ERANGE, ERR_INVALID, "timeout", "timeout: at most %u seconds",
			max);
	if (ask->timeout > TIMEOUT_MAX_S - (int64_t)(api_now_ms() / 1000))
		return err_field(err, -ERANGE, ERR_INVALID, "timeout",
			"timeout: the time of expiry cannot be said");
	return 0;
}

/* --- what it may reach, and who may reach it --- */

static int check_network(const struct api *a, struct opensandbox_ask *ask, struct err *err)
{
	bool credential = json_is_true(json_object_get(ask->credential, "enabled"));
	int r = netpolicy_canonical(ask->network_v, &ask->network, err);

	if (r < 0)
		return r;
	if (given(ask->credential) && !json_is_object(ask->credential))
		return missing("credentialProxy", "expected an object with enabled", err);
	if (credential && !given(ask->network_v))
		return missing("credentialProxy", "needs networkPolicy", err);
	if (credential)
		return err_field(err, -ENOSYS, ERR_UNSUPPORTED, "credentialProxy",
			"credentialProxy: not built yet");
	if (!given(ask->network_v))
		return 0;
	if (!a->config.egress_image[0])
		return err_field(err, -ENOENT, ERR_INVALID, "networkPolicy",
			"networkPolicy: egress.image is not configured on this server");
	if (str_eq_c(str_c(a->config.secure_runtime_type), "gvisor"))
		return err_field(err, -ENOTSUP, ERR_INVALID, "networkPolicy",
			"networkPolicy: not supported with secure_runtime.type = gvisor");
	return 0;
}

static int check_platform(const struct opensandbox_ask *ask, struct err *err)
{
	const json_t *os = json_object_get(ask->platform, "os");
	const json_t *arch = json_object_get(ask->platform, "arch");
	struct utsname u;
	const char *here;

	if (!given(ask->platform))
		return 0;
	here = uname(&u) == 0 && str_eq_c(STR("aarch64"), u.machine) ? "arm64" : "amd64";
	if (!json_is_object(ask->platform) || (given(os) && !str_eq_c(text_of(os), "linux")) ||
		(given(arch) && !str_eq_c(text_of(arch), here)))
		return err_field(err, -ENOTSUP, ERR_INVALID, "platform",
			"platform: this is os linux, arch %s", here);
	return 0;
}

static int check_extensions(struct opensandbox_ask *ask, const char **code, struct err *err)
{
	const json_t *renew = json_object_get(ask->extensions, RENEW_ON_ACCESS);
	const json_t *runtime = json_object_get(ask->extensions, "runtime");
	uint64_t s;

	if (json_object_get(ask->extensions, "poolRef")) {
		*code = "SANDBOX::UNSUPPORTED_POOL_REF";
		return missing("extensions", "poolRef: pools are Kubernetes only", err);
	}
	if (renew && (str_u64(text_of(renew), 86400, &s) < 0 || s < 300))
		return missing("extensions", RENEW_ON_ACCESS ": expected 300 to 86400 seconds", err);
	if (renew)
		return err_field(err, -ENOSYS, ERR_UNSUPPORTED, "extensions",
			"extensions: " RENEW_ON_ACCESS ": renewing on access is not built yet");
	ask->runtime = runtime ? text_of(runtime) :
				 text_of(json_object_get(ask->metadata, RUNTIME_LABEL));
	return 0;
}

static int check_secure(const struct api *a, const struct opensandbox_ask *ask, struct err *err)
{
	if (!ask->secure || gateway_mode(a) != GATEWAY_OFF)
		return 0;
	return missing("secureAccess",
		"true needs an ingress gateway, and this server's endpoints are ports of the host: its "
		"operator sets gateway.mode to wildcard, header or uri; or leave it out, or say false", err);
}

static int check_unbuilt(const struct opensandbox_ask *ask, struct err *err)
{
	if (given(ask->volumes) && !json_is_array(ask->volumes))
		return missing("volumes", "expected an array", err);
	if (json_array_size(ask->volumes))
		return err_field(err, -ENOSYS, ERR_UNSUPPORTED, "volumes",
			"volumes: not built yet");
	return 0;
}

int opensandbox_ask(const struct api *a, const json_t *body, struct opensandbox_ask *ret,
	const char **code, struct err *err)
{
	int r = json_decode(body, fields, ARRAY_SIZE(fields), ret, err);

	*code = NULL;
	if (r == 0)
		r = check_image(ret, err);
	if (r == 0)
		r = check_entrypoint(ret, code, err);
	if (r < 0)
		return r;
	*code = NULL;
	r = check_limits(a, ret, err);
	if (r == 0)
		r = check_timeout(a, ret, err);
	if (r == 0)
		r = check_env(ret, err);
	if (r == 0 && given(ret->metadata)) {
		r = labels_check(ret->metadata, err);
		*code = r < 0 ? "SANDBOX::INVALID_METADATA_LABEL" : NULL;
	}
	if (r == 0)
		r = check_extensions(ret, code, err);
	if (r == 0)
		r = check_platform(ret, err);
	if (r == 0)
		r = check_secure(a, ret, err);
	if (r == 0)
		r = check_unbuilt(ret, err);
	if (r == 0)
		r = check_network(a, ret, err);
	return r;
}

void opensandbox_ask_done(void *arg)
{
	struct opensandbox_ask *ask = arg;

	json_decref(ask->envs);
	json_decref(ask->network);
	ask->envs = ask->network = NULL;
}

/* --- the row --- */

/* The shape of that size has a name; others are "custom". */
static void fill_size(const struct opensandbox_ask *ask, struct sandbox_row *row)
{
	row->vcpu = (ask->cpu_milli + 999) / 1000;
	row->cpu_milli = ask->cpu_milli;
	row->quota_pct = ask->cpu_milli % 1000 ? MAX(ask->cpu_milli / 10, 1u) : 0;
	row->mem_mib = ask->mem_mib;
	row->disk_mib = ask->disk_mib;
	snprintf(row->shape, sizeof(row->shape), "custom");
	for (size_t i = 0; i < SHAPES; i++)
		if (shape_cpu_milli(&shapes[i]) == row->cpu_milli && shapes[i].mem_mib == row->mem_mib)
			snprintf(row->shape, sizeof(row->shape), "%s", shapes[i].id);
}

static int fill(struct box *b, void *arg, struct err *err)
{
	struct opensandbox_ask *ask = arg;
	auto_secret struct secret execd = SECRET_NONE;
	struct sandbox_row *row = &b->row;
	int r = birth_runtime(b->api, ask->runtime, row->runtime, err);

	if (r < 0)
		return r;
	fill_size(ask, row);
	if (ask->timeout_seen)
		row->expires_ms = row->created_ms + (uint64_t)ask->timeout * 1000;
	row->dialect = POLICY_OPENSANDBOX;
	row->secured = ask->secure;
	/* Behind a gateway it is reached from its first moment on, by names that have its id in them. */
	row->ingress = row->id_told = gateway_mode(b->api) != GATEWAY_OFF;
	if (ask->execd_token.n && guard_execd_token(b->api, ask->execd_token, &execd) < 0)
		return err_set(err, -EIO, ERR_INTERNAL, "HMAC failed");
	str_copy(row->execd_token, sizeof(row->execd_token), secret_reveal(&execd));
	row->envs = json_dumps(ask->envs, JSON_COMPACT);
	row->metadata = given(ask->metadata) ? json_dumps(ask->metadata, JSON_COMPACT) : strdup("{}");
	row->entrypoint = json_dumps(ask->entrypoint, JSON_COMPACT);
	row->image = str_dup(ask->image);
	row->policy_json = json_dumps(ask->network, JSON_COMPACT | JSON_ENCODE_ANY);
	if (!row->envs || !row->metadata || !row->entrypoint || !row->image || !row->policy_json)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	return netpolicy_build(b->api, ask->network, &b->policy, err);
}

static void created(struct req *q, const struct sandbox_row *row, const struct err *err, void *arg)
{
	struct err why;

	if (!err) {
		auto_buf struct buf at = BUF_MAX(128);

		buf_fmt(&at, "/v1/sandboxes/%s", row->id);
		http_add_header(q->h, "Location", buf_str(&at));
		opensandbox_reply(q, 202, row, true);
		return;
	}
	why = *err;
	if (!row && err->kind == ERR_UPSTREAM) {
		q->code = "DOCKER::SANDBOX_IMAGE_PULL_FAILED";
	} else if (err->kind == ERR_INTERNAL || err->kind == ERR_UPSTREAM) {
		q->code = "DOCKER::SANDBOX_START_FAILED";
	}
	reply_err(q, &why);
}

void opensandbox_create(struct req *q)
{
	struct opensandbox_ask *ask = http_alloc(q->h, sizeof(*ask));
	struct err err;
	int r = ask ? 0 : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r == 0)
		r = opensandbox_ask(q->api, q->json, ask, &q->code, &err);
	if (r == 0)
		r = birth_quota(q, &err);
	if (r < 0) {
		if (ask)
			opensandbox_ask_done(ask);
		reply_err(q, &err);
		return;
	}
	birth(q, &(struct birth_spec){ .rootfs = ask->image, .pull = true, .pull_login = ask->user,
		.pull_password = ask->password, .fill = fill, .done = created,
		.free = opensandbox_ask_done, .arg = ask });
}
