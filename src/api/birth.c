/* A new sandbox: see the header. */
#include "api/birth.h"
#include "api/services.h"
#include "api/createos/catalogue.h"
#include "api/ident.h"
#include "api/nets.h"
#include "api/pull.h"
#include "api/shape.h"
#include "base/fault.h"
#include "base/log.h"

#define NAME_ATTEMPTS 32u

struct birth {
	struct req *q; /* NULL: the client left */
	struct birth_spec spec;
	struct box *box;
	struct op *op; /* the flow, while it runs */
	bool waiting;  /* for the list of images */
	struct pull_wait *pull; /* while its image is fetched */
	char image[IPC_NAME_LEN]; /* its name in the store */
};

/* --- what dialects check alike --- */

static bool has_word(const char *list, struct str word)
{
	struct str rest = str_c(list);

	while (rest.n)
		if (str_eq(str_cut(&rest, ' '), word))
			return true;
	return false;
}

int birth_runtime(const struct api *a, struct str want, char ret[static 16], struct err *err)
{
	if (!want.n || str_eq_c(want, "auto"))
		want = str_c(a->config.runtime_default);
	if (!want.n || str_eq_c(want, "auto"))
		want = a->info.preferred[0] ? str_c(a->info.preferred) : STR("container");
	if (!str_eq_c(want, "container") && !str_eq_c(want, "vm"))
		return err_field(err, -EINVAL, ERR_INVALID, "runtime",
			"unknown runtime. Allowed: [auto, container, vm]");
	if (!has_word(a->info.runtimes[0] ? a->info.runtimes : "container", want))
		return err_field(err, -ENOSYS, ERR_UNSUPPORTED, "runtime",
			"runtime " STR_FMT " is not available here: %s", STR_ARG(want), a->info.vm);
	return str_copy(ret, 16, want);
}

int birth_quota(const struct req *q, struct err *err)
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

void birth_shape(struct sandbox_row *row, const struct shape *shape)
{
	snprintf(row->shape, sizeof(row->shape), "%s", shape->id);
	row->vcpu = shape->vcpu;
	row->cpu_milli = shape_cpu_milli(shape);
	row->quota_pct = shape->quota_pct;
	row->mem_mib = shape->mem_mib;
	row->disk_mib = shape->disk_mib;
}

void birth_memory(struct sandbox_row *row, uint32_t mem_mib)
{
	const char *name = "custom";

	row->mem_mib = mem_mib;
	for (size_t i = 0; i < SHAPES; i++)
		if (shapes[i].mem_mib == mem_mib && shapes[i].vcpu == row->vcpu &&
			shapes[i].quota_pct == row->quota_pct)
			name = shapes[i].id;
	snprintf(row->shape, sizeof(row->shape), "%s", name);
}

/* --- the row --- */

static struct str image_of(const struct birth *c)
{
	return c->spec.rootfs.n ? c->spec.rootfs : str_c(c->q->api->config.rootfs_default);
}

/* Texts that a dialect has no word for. */
static int fill_texts(struct sandbox_row *row)
{
	struct {
		char **field;
		const char *empty;
	} texts[] = { { &row->envs, "{}" }, { &row->ssh_keys, "[]" }, { &row->reason, "" },
		{ &row->image, "" }, { &row->metadata, "{}" }, { &row->entrypoint, "[]" },
		{ &row->services, SERVICES_NONE } };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (!*texts[i].field && !(*texts[i].field = str_dup(str_c(texts[i].empty))))
			return -ENOMEM;
	return 0;
}

static int fill_row(struct birth *c, struct sandbox_row *row, struct err *err)
{
	int r;

	snprintf(row->user, sizeof(row->user), "%s", c->q->who.user);
	snprintf(row->created_by, sizeof(row->created_by), "%s", c->q->who.key);
	memcpy(row->rootfs, c->image, sizeof(row->rootfs));
	row->state = c->spec.from ? LIFE_FORKING : LIFE_CREATING;
	row->created_ms = api_now_ms();
	row->policy_version = 1;
	row->generation = 1;
	r = c->spec.fill(c->box, c->spec.arg, err);
	if (r < 0)
		return r;
	if (fill_texts(row) < 0)
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
static int name_and_insert(struct birth *c, struct err *err)
{
	struct sandbox_row *row = &c->box->row;
	int r = -EEXIST;

	if (c->spec.name.n) {
		str_copy(row->name, sizeof(row->name), c->spec.name);
		r = insert_row(c->box, err);
	}
	for (unsigned int i = 0; !c->spec.name.n && r == -EEXIST && i < NAME_ATTEMPTS; i++) {
		sandbox_name_new(i, row->name);
		r = insert_row(c->box, err);
	}
	if (r == -EEXIST)
		err_field(err, r, ERR_CONFLICT, "name", "a sandbox named %s exists", row->name);
	return r;
}

static int make_box(struct birth *c, struct err *err)
{
	char id[IPC_ID_LEN];
	int r;

	sandbox_id_new(id);
	c->box = box_new(c->q->api, id);
	if (!c->box)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = fill_row(c, &c->box->row, err);
	if (r == 0)
		r = name_and_insert(c, err);
	if (r < 0) {
		box_forget(c->box);
		c->box = NULL;
		return r;
	}
	box_expiry(c->box);
	return 0;
}

/* --- the request --- */

static void left(struct req *q)
{
	struct birth *c = q->state;
	struct box *b = c->box;
	struct err err;

	c->q = NULL;
	if (c->spec.free)
		c->spec.free(c->spec.arg);
	if (c->waiting)
		return; /* go() frees */
	if (c->pull) { /* nothing was made; the image may come all the same */
		pull_forget(c->pull);
		free(c);
		return;
	}
	op_forget(c->op);
	if (flow_delete(b, "the client left before the answer", 0, &err) < 0)
		log_event(LOG_ERROR, "sandbox.abandon", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
	free(c);
}

static void finish(struct birth *c, const struct sandbox_row *row, const struct err *err)
{
	struct birth_spec spec = c->spec;
	struct req *q = c->q;

	q->on_gone = NULL;
	free(c);
	if (spec.free)
		spec.free(spec.arg);
	spec.done(q, row, err, spec.arg);
}

static void created(struct op *op, const struct err *err, void *arg)
{
	finish(arg, &op->box->row, err);
}

static struct pull_ask pull_ask(const struct birth *c)
{
	return (struct pull_ask){ .user = c->q->who.user, .uri = image_of(c),
		.login = c->spec.pull_login, .password = c->spec.pull_password };
}

/* Is its image in the store, under its own name or as one that was fetched? */
static bool image_here(struct birth *c)
{
	struct pull_ask ask = pull_ask(c);

	if (image_known(c->q->api, image_of(c)))
		return str_copy(c->image, sizeof(c->image), image_of(c)) == 0;
	return c->spec.pull && pull_here(c->q->api, &ask, c->image);
}

static void make(struct birth *c)
{
	struct err err;

	if (make_box(c, &err) < 0) {
		finish(c, NULL, &err);
		return;
	}
	FAULT("api.create.stored");
	if (c->spec.from)
		flow_fork(c->box, c->spec.from, c->spec.paused, c->spec.live, created, c, &c->op);
	else
		flow_create(c->box, created, c, &c->op);
}

static void on_pulled(const char *name, const struct err *err, void *arg)
{
	struct birth *c = arg;

	c->pull = NULL;
	if (err) {
		finish(c, NULL, err);
		return;
	}
	snprintf(c->image, sizeof(c->image), "%s", name);
	make(c);
}

static void go(void *arg)
{
	struct birth *c = arg;
	struct pull_wait *w;
	struct pull_ask ask;
	struct err err;

	c->waiting = false;
	if (!c->q) { /* left while we waited: nothing was made */
		free(c);
		return;
	}
	if (image_here(c)) {
		make(c);
		return;
	}
	if (!c->spec.pull) {
		err_field(&err, -ENOENT, ERR_INVALID, "rootfs", "unknown rootfs: %.*s",
			(int)MIN(image_of(c).n, (size_t)64), image_of(c).p);
		finish(c, NULL, &err);
		return;
	}
	ask = pull_ask(c);
	w = pull(c->q->api, &ask, on_pulled, c);
	if (w)
		c->pull = w; /* else c may be gone */
}

void birth(struct req *q, const struct birth_spec *spec)
{
	struct birth *c = calloc(1, sizeof(*c));
	struct err err;

	if (!c) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		if (spec->free)
			spec->free(spec->arg);
		spec->done(q, NULL, &err, spec->arg);
		return;
	}
	c->q = q;
	c->spec = *spec;
	c->waiting = true;
	q->state = c;
	q->on_gone = left;
	/* An image we do not know may have been added since we asked. */
	images_fresh(q->api, image_here(c) ? UINT32_MAX : 0, go, c);
}
