/*
 * Claiming: see the header. A template is the default image in one of the runtimes; the answer comes
 * when commands can run, and by then the policy is in force.
 */
#include "api/birth.h"
#include "api/dialect.h"
#include "api/sandbox0/claim.h"
#include "api/sandbox0/config.h"
#include "api/sandbox0/network.h"
#include "api/sandbox0/view.h"
#include "api/services.h"
#include "api/shape.h"
#include "base/clock.h"

#define TEMPLATE_MAX  255u
#define DEFAULT_SHAPE "s-1vcpu-1gb"

static const struct template {
	const char *id, *runtime, *text;
} templates[] = {
	{ "default", "", "the default image, in the runtime the operator prefers" },
	{ "vm", "vm", "the default image in a virtual machine of its own" },
};

static const struct template *template_find(struct str id)
{
	for (size_t i = 0; i < ARRAY_SIZE(templates); i++)
		if (str_caseeq(id, str_c(templates[i].id)))
			return &templates[i];
	return NULL;
}

struct claim {
	struct str template_id, snapshot;
	json_t *config, *mounts;
	const struct template *template;
	struct sandbox0_config c;
	const char *services; /* NULL: none */
};
#define F(n, k, f) .name = n, .kind = k, .offset = offsetof(struct claim, f), .seen_offset = -1
static const struct json_field fields[] = {
	{ F("template", JK_STR, template_id) },
	{ F("config", JK_RAW, config) },
	{ F("mounts", JK_RAW, mounts) },
	{ F("snapshot_id", JK_STR, snapshot) },
};

static int decode(const json_t *body, struct claim *c, struct err *err)
{
	int r = json_decode(body, fields, ARRAY_SIZE(fields), c, err);

	if (r < 0)
		return r;
	c->template_id = str_trim(c->template_id);
	if (!c->template_id.n)
		return err_set(err, -EINVAL, ERR_INVALID, "template is required");
	if (c->template_id.n > TEMPLATE_MAX || str_find(c->template_id, '/') >= 0)
		return err_field(err, -EINVAL, ERR_INVALID, "template",
			"expected at most %u bytes without a slash", TEMPLATE_MAX);
	if (c->mounts && !json_is_null(c->mounts) &&
		!(json_is_array(c->mounts) && !json_array_size(c->mounts)))
		return err_field(err, -ENOSYS, ERR_UNSUPPORTED, "mounts", "volumes are not built yet");
	if (c->snapshot.n)
		return err_field(err, -ENOSYS, ERR_UNSUPPORTED, "snapshot_id",
			"snapshots are not built yet");
	r = config_decode(c->config, &c->c, err);
	if (r == 0)
		r = config_check_times(c->c.ttl, c->c.hard_ttl, err);
	if (r < 0)
		return r;
	c->template = template_find(c->template_id);
	if (!c->template)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "template",
			"template not found; there are: default, vm");
	return 0;
}

/* The smallest shape with that much memory; the memory itself as it was asked for. */
static const struct shape *shape_for(uint32_t mem_mib)
{
	for (size_t i = 0; i < SHAPES; i++)
		if (!shapes[i].quota_pct && shapes[i].mem_mib >= mem_mib)
			return &shapes[i];
	return &shapes[SHAPES - 1];
}

static void fill_size(struct sandbox_row *row, uint32_t mem_mib)
{
	const struct shape *shape = mem_mib ? shape_for(mem_mib) : shape_find(STR(DEFAULT_SHAPE));

	birth_shape(row, shape);
	if (mem_mib)
		birth_memory(row, mem_mib);
}

static int fill(struct box *b, void *arg, struct err *err)
{
	const struct claim *c = arg;
	struct sandbox_row *row = &b->row;
	int r = birth_runtime(b->api, str_c(c->template->runtime), row->runtime, err);

	if (r < 0)
		return r;
	fill_size(row, c->c.mem_mib);
	row->auto_resume = c->c.has_auto_resume ? c->c.auto_resume : true;
	row->sleep_s = (uint32_t)c->c.ttl;
	row->ttl_s = (uint32_t)c->c.hard_ttl;
	row_sleep_again(row, row->created_ms);
	row->expires_ms = row->ttl_s ? row->created_ms + row->ttl_s * UINT64_C(1000) : 0;
	row->dialect = POLICY_SANDBOX0;
	row->services = str_dup(str_c(c->services ? c->services : SERVICES_NONE));
	row->envs = c->c.env_vars ? json_dumps(c->c.env_vars, JSON_COMPACT) : str_dup(STR("{}"));
	if (!row->envs || !row->services)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	return network_from_json(b->api, c->c.network, false, &b->policy, &row->policy_json, err);
}

static void claimed(struct req *q, const struct sandbox_row *row, const struct err *err, void *arg)
{
	struct answer a;

	if (err) {
		reply_err(q, err);
		return;
	}
	sandbox0_begin(&a, 8192);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "sandbox_id", row->id);
	jw_c(&a.w, "status", view_status(row->state));
	jw_c(&a.w, "pod_name", row->name);
	jw_c(&a.w, "template", view_template(q->api, row));
	jw_raw(&a.w, "cluster_id", STR("null"));
	jw_arr(&a.w, "bootstrap_mounts");
	jw_arr_end(&a.w);
	jw_end(&a.w);
	reply_send(q, 201, &a);
}

/* The policy is looked at before anything is made: what is wrong with it is a fault of the body. */
static int check_network(struct req *q, const struct claim *c, struct err *err)
{
	auto_policy struct policy *policy = NULL;

	return network_from_json(q->api, c->c.network, false, &policy, NULL, err);
}

/* In the request's memory, since nobody says when a claim is over whose client has left. */
static int keep_services(struct req *q, struct claim *c, struct err *err)
{
	auto_free char *text = take_ptr(c->c.published);
	char *copy = text ? http_alloc(q->h, strlen(text) + 1) : NULL;

	if (text && !copy)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (copy)
		memcpy(copy, text, strlen(text) + 1);
	c->services = copy;
	return 0;
}

void sandbox0_claim(struct req *q)
{
	struct claim *c = http_alloc(q->h, sizeof(*c));
	struct err err;
	int r = c ? 0 : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r == 0)
		r = decode(q->json, c, &err);
	if (r == 0)
		r = keep_services(q, c, &err);
	if (r == 0)
		r = check_network(q, c, &err);
	if (r == 0)
		r = birth_quota(q, &err);
	if (r < 0 && c)
		config_done(&c->c);
	if (r < 0)
		reply_err(q, &err);
	else
		birth(q, &(struct birth_spec){ .fill = fill, .done = claimed, .arg = c });
}

/* --- templates --- */

static bool available(const struct api *a, const struct template *t)
{
	char runtime[16];
	struct err err;

	return birth_runtime(a, str_c(t->runtime), runtime, &err) == 0;
}

static void put_template(struct jw *w, const char *name, const struct api *a,
	const struct template *t)
{
	char memory[16];

	config_memory_text(shape_find(STR(DEFAULT_SHAPE))->mem_mib, memory);
	jw_obj(w, name);
	jw_c(w, "template_id", t->id);
	jw_c(w, "scope", "public");
	jw_obj(w, "spec");
	jw_c(w, "description", t->text);
	jw_obj(w, "mainContainer");
	jw_c(w, "image", a->config.rootfs_default);
	jw_obj(w, "resources");
	jw_c(w, "memory", memory);
	jw_end(w);
	jw_end(w);
	jw_end(w);
	/* They came with the program. */
	jw_c(w, "created_at", rfc3339_from(0).s);
	jw_c(w, "updated_at", rfc3339_from(0).s);
	jw_end(w);
}

void sandbox0_templates(struct req *q)
{
	struct answer a;

	sandbox0_begin(&a, 16384);
	jw_obj(&a.w, "data");
	jw_arr(&a.w, "templates");
	for (size_t i = 0; i < ARRAY_SIZE(templates); i++)
		if (available(q->api, &templates[i]))
			put_template(&a.w, NULL, q->api, &templates[i]);
	jw_arr_end(&a.w);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void sandbox0_template(struct req *q)
{
	const struct template *t = template_find(req_param(q, "template"));
	struct answer a;
	struct err err;

	if (!t || !available(q->api, t)) {
		err_field(&err, -ENOENT, ERR_NOT_FOUND, "template", "template not found");
		reply_err(q, &err);
		return;
	}
	sandbox0_begin(&a, 16384);
	put_template(&a.w, "data", q->api, t);
	reply_send(q, 200, &a);
}
