/* Health, identity and the catalogue: see the header. */
#include "api/box.h"
#include "api/createos/catalogue.h"
#include "api/peers.h"
#include "api/pull.h"
#include "api/shape.h"
#include "base/clock.h"

/* One body for both: CreateOS reads data.up, sandbox0 the members beside it. */
void createos_healthz(struct req *q)
{
	struct answer a;

	answer_begin(&a, 1024);
	jw_obj(&a.w, "data");
	jw_bool(&a.w, "up", true);
	jw_end(&a.w);
	jw_c(&a.w, "service", "weir");
	jw_c(&a.w, "version", WEIR_VERSION);
	reply_send(q, 200, &a);
}

void createos_readyz(struct req *q)
{
	struct answer a;

	answer_begin(&a, 1024);
	jw_obj(&a.w, "data");
	jw_bool(&a.w, "ready", q->api->ready);
	if (!q->api->ready)
		jw_c(&a.w, "reason", q->api->not_ready);
	jw_end(&a.w);
	reply_send(q, q->api->ready ? 200 : 503, &a);
}

void createos_whoami(struct req *q)
{
	uint64_t n[LIFE_STATES], total = 0;
	struct answer a;
	struct err err;

	if (store_sandbox_counts(q->api->store, q->who.user, n, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	for (int s = LIFE_NONE + 1; s < LIFE_DESTROYED; s++)
		total += n[s];
	answer_begin(&a, 1024);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "user_id", q->who.user);
	jw_obj(&a.w, "stats");
	jw_u64(&a.w, "running", n[LIFE_RUNNING]);
	jw_u64(&a.w, "paused", n[LIFE_PAUSED]);
	jw_u64(&a.w, "other", total - n[LIFE_RUNNING] - n[LIFE_PAUSED]);
	jw_u64(&a.w, "total", total);
	jw_end(&a.w);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void createos_shapes(struct req *q)
{
	uint32_t limit, offset, count = 0;
	struct answer a;
	struct err err;

	if (req_page(q, &limit, &offset, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	answer_begin(&a, 65536);
	answer_page_begin(&a);
	for (size_t i = offset; i < SHAPES && count < limit; i++, count++) {
		const struct shape *s = &shapes[i];

		jw_obj(&a.w, NULL);
		jw_c(&a.w, "id", s->id);
		jw_u64(&a.w, "vcpu", s->vcpu);
		jw_u64(&a.w, "mem_mib", s->mem_mib);
		jw_u64(&a.w, "default_disk_mib", s->disk_mib);
		if (s->quota_pct)
			jw_u64(&a.w, "cpu_quota_pct", s->quota_pct);
		jw_end(&a.w);
	}
	answer_page_end(&a, SHAPES, limit, offset, count);
	reply_send(q, 200, &a);
}

/* --- images --- */

struct images_wait {
	struct api *api;
	void (*fn)(void *arg);
	void *arg;
};

static void on_images(struct chan_msg *m, const struct err *err, void *arg)
{
	struct images_wait w = *(struct images_wait *)arg;

	free(arg);
	if (!err)
		api_on_images(w.api, m);
	w.fn(w.arg);
}

void images_fresh(struct api *a, uint64_t max_age_ms, void (*fn)(void *arg), void *arg)
{
	struct images_wait *w;

	if (a->images_at && clock_mono_ns() - a->images_at < max_age_ms * NS_PER_MS) {
		fn(arg);
		return;
	}
	w = malloc(sizeof(*w));
	if (!w) {
		fn(arg);
		return;
	}
	*w = (struct images_wait){ a, fn, arg };
	host_call(a, IPC_HOST_IMAGES, NULL, 0, -1, on_images, w);
}

/* What was pulled for a create has a name that nobody is told (pull.h). */
static bool pulled(const struct ipc_image *im)
{
	return str_starts(str_c(im->name), STR(PULLED_PREFIX));
}

bool image_known(const struct api *a, struct str name)
{
	for (unsigned int i = 0; i < a->n_images; i++)
		if (!pulled(&a->images[i]) && str_eq_c(name, a->images[i].name))
			return true;
	return false;
}

/* A request that waits for the host role; the client may leave first. */
struct rootfs_wait {
	struct req *q;
};

static void rootfs_gone(struct req *q)
{
	((struct rootfs_wait *)q->state)->q = NULL;
}

static void rootfs_reply(void *arg)
{
	struct req *q = ((struct rootfs_wait *)arg)->q;
	struct answer a;

	free(arg);
	if (!q)
		return;
	q->on_gone = NULL;
	answer_begin(&a, 1u << 20);
	jw_obj(&a.w, "data");
	jw_arr(&a.w, "rootfs");
	for (unsigned int i = 0; i < q->api->n_images; i++)
		if (!pulled(&q->api->images[i]))
			jw_c(&a.w, NULL, q->api->images[i].name);
	jw_arr_end(&a.w);
	jw_c(&a.w, "default", q->api->config.rootfs_default);
	jw_arr(&a.w, "entries");
	for (unsigned int i = 0; i < q->api->n_images; i++) {
		if (pulled(&q->api->images[i]))
			continue;
		jw_obj(&a.w, NULL);
		jw_c(&a.w, "name", q->api->images[i].name);
		jw_end(&a.w);
	}
	jw_arr_end(&a.w);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void createos_rootfs(struct req *q)
{
	struct rootfs_wait *w = malloc(sizeof(*w));
	struct err err;

	if (!w) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		reply_err(q, &err);
		return;
	}
	w->q = q;
	q->state = w;
	q->on_gone = rootfs_gone;
	/* Anybody may ask, so the host role is not asked each time. */
	images_fresh(q->api, 2000, rootfs_reply, w);
}

void createos_hosts(struct req *q)
{
	const struct api *api = q->api;
	uint32_t limit, offset, count = 0;
	struct answer a;
	struct err err;

	if (req_page(q, &limit, &offset, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	answer_begin(&a, 1u << 20);
	answer_page_begin(&a);
	if (offset == 0) {
		count = 1;
		jw_obj(&a.w, NULL);
		jw_c(&a.w, "id", api->info.hostname);
		jw_c(&a.w, "status", "active");
		jw_u64(&a.w, "free_mib", api->info.mem_free >> 20);
		jw_u64(&a.w, "vm_count", HASH_COUNT(api->boxes));
		jw_arr(&a.w, "rootfses");
		for (unsigned int i = 0; i < api->n_images; i++)
			if (!pulled(&api->images[i]))
				jw_c(&a.w, NULL, api->images[i].name);
		jw_arr_end(&a.w);
		jw_end(&a.w);
	}
	answer_page_end(&a, 1, limit, offset, count);
	reply_send(q, 200, &a);
}
