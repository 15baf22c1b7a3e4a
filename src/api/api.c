/* The api role as a whole: see the header. */
#include "api/box.h"
#include "api/builds.h"
#include "api/kmaps.h"
#include "api/opensandbox/always.h"
#include "api/opensandbox/gateway.h"
#include "api/nets.h"
#include "api/peers.h"
#include "api/pull.h"
#include "api/mint.h"
#include "api/websocket.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#define POLICY_IDS_AHEAD 1024u /* reserved at once, so that a change need not write the sequence */
#define SWEEP_MS	 600000u
#define STOP_MS		 2000u /* for requests under way when the daemon stops */

int api_policy_id(struct api *a, uint32_t *ret, struct err *err)
{
	int r;

	if (a->policy_next == a->policy_end) {
		r = store_policy_ids(a->store, POLICY_IDS_AHEAD, &a->policy_next, err);
		if (r < 0)
			return r;
		a->policy_end = a->policy_next + POLICY_IDS_AHEAD;
	}
	*ret = a->policy_next++;
	return 0;
}

/* FNV-1a of an id that we made: the same after every restart, without a table. Two users who met in
 * it would have one limit together. */
uint32_t api_share(const char *user)
{
	uint32_t h = 2166136261u;

	for (const char *p = user; *p; p++)
		h = (h ^ (uint8_t)*p) * 16777619u;
	return h ? h : 1;
}

int api_counters(const struct api *a, uint32_t slot, struct weir_counters *ret)
{
	return counters_read(a->counters, slot, ret);
}

static void sweep(void *arg)
{
	struct api *a = arg;
	uint64_t keep = a->config.destroyed_keep_hours * UINT64_C(3600000), now = api_now_ms();
	struct err err;
	int n = store_sweep(a->store, now > keep ? now - keep : 0, &err);

	if (n < 0)
		log_event(LOG_ERROR, "api.sweep", "text=%s", log_q(str_c(err.text)));
	else if (n > 0)
		log_event(LOG_INFO, "api.sweep", "rows=%d", n);
}

/* --- start --- */

/* Rules are checked against the floor as it was when the host role last told its addresses; the
 * kernel's own is always current. */
static int build_floor(struct api *a, struct err *err)
{
	struct prefix host[IPC_HOST_ADDRS];
	struct policy_floor_spec spec = { .range4 = a->config.net_range4,
		.range6 = a->config.net_range6,
		.overlay4 = a->config.net_overlay4,
		.host = host,
		.deny = a->config.floor_deny.p,
		.n_deny = a->config.floor_deny.n,
		.allow = a->config.floor_allow.p,
		.n_allow = a->config.floor_allow.n };

	for (uint32_t i = 0; i < MIN(a->info.n_host, (uint32_t)IPC_HOST_ADDRS); i++)
		host[spec.n_host++] = prefix_of(a->info.host[i], ip_bits(a->info.host[i].family));
	return policy_floor_build(&spec, &a->floor, err);
}

static void on_info(struct chan_msg *m, const struct err *err, void *arg)
{
	struct api *a = arg;
	struct err floor;

	if (!err && m->payload.n == sizeof(a->info)) {
		memcpy(&a->info, m->payload.p, sizeof(a->info));
		if (ipc_text_ok(a->info.hostname, sizeof(a->info.hostname)) &&
			ipc_text_ok(a->info.runtimes, sizeof(a->info.runtimes)) &&
			ipc_text_ok(a->info.preferred, sizeof(a->info.preferred)) &&
			ipc_text_ok(a->info.vm, sizeof(a->info.vm)) &&
			build_floor(a, &floor) == 0)
			return;
	}
	log_event(LOG_WARN, "api.host_info", "text=%s",
		log_q(err ? str_c(err->text) : STR("does not read")));
	a->info = (struct ipc_host_info){ .hostname = "local", .runtimes = "container" };
}

void api_on_images(struct api *a, struct chan_msg *m)
{
	size_t n = m->payload.n / sizeof(struct ipc_image);

	if (m->payload.n % sizeof(struct ipc_image))
		return;
	a->n_images = 0;
	for (size_t i = 0; i < n && a->n_images < IMAGES_MAX; i++) {
		struct ipc_image img;

		memcpy(&img, m->payload.p + i * sizeof(img), sizeof(img));
		if (ipc_text_ok(img.name, sizeof(img.name)))
			a->images[a->n_images++] = img;
	}
	a->images_at = clock_mono_ns();
}

static void on_first_images(struct chan_msg *m, const struct err *err, void *arg)
{
	if (!err)
		api_on_images(arg, m);
}

static int open_state(struct api *a, struct api_spec *spec, struct err *err)
{
	struct store_spec at = { .dir = spec->state_dir, .name = "weir.db",
		.sync_full = a->config.store_sync_full };
	bool created;
	int r = store_open(&at, &a->store, err);

	if (r < 0)
		return r;
	r = keyring_open(a->store, spec->state_dir, &a->keys, &created, err);
	if (r == 0 && created) {
		char link[64], path[4096];
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", spec->state_dir);
		n = readlink(link, path, sizeof(path));
		log_event(LOG_INFO, "api.admin_key", "path=%.*s/admin.key", (int)MAX(n, 0), path);
	}
	return r;
}

static int open_listeners(struct api *a, struct api_spec *spec, struct err *err)
{
	static const struct httpd_ops ops = { .on_request = api_on_request,
		.on_refuse = api_on_refuse };
	int r = httpd_new(a->loop, &ops, a, a->config.api_connections_max, &a->httpd);

	if (r == 0)
		httpd_per_address(a->httpd, a->config.api_connections_per_address);
	for (unsigned int i = 0; r == 0 && i < spec->n_listeners; i++)
		r = httpd_listen(a->httpd, take_fd(spec->listeners[i]), (int)i);
	return r < 0 ? err_sys(err, r, "open the listeners") : 0;
}

int api_start(uv_loop_t *loop, struct api_spec *spec, struct api **ret, struct err *err)
{
	struct api *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	a->loop = loop;
	a->config = spec->config;
	TAILQ_INIT(&a->holds);
	snprintf(a->not_ready, sizeof(a->not_ready), "starting");
	a->by_slot = calloc(WEIR_SLOTS_MAX + 1, sizeof(*a->by_slot));
	r = a->by_slot ? 0 : err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (r == 0)
		r = build_floor(a, err);
	if (r == 0)
		r = builds_check(a, err);
	if (r == 0)
		r = open_state(a, spec, err);
	if (r == 0)
		r = mint_open(spec->state_dir, &a->mint, err);
	if (r == 0)
		r = always_open(a, err);
	if (r == 0)
		r = gateway_open(a, take_fd(spec->gateway_keys), err);
	if (r == 0)
		r = peers_open(a, take_fd(spec->host), err);
	for (unsigned int i = 0; r == 0 && i < spec->n_edges; i++)
		if (spec->edges[i] >= 0 && edge_up(a, i, take_fd(spec->edges[i])) < 0)
			log_event(LOG_WARN, "api.edge", "worker=%u", i);
	if (r == 0)
		r = counters_open(take_fd(spec->counters), take_fd(spec->dns_counters), &a->counters,
			err);
	if (r == 0)
		r = events_open(a, take_fd(spec->events), &a->events, err);
	if (r == 0)
		r = open_listeners(a, spec, err);
	*ret = a; /* half of it, on failure: the process ends */
	return r;
}

void api_begin(struct api *a)
{
	host_call(a, IPC_HOST_INFO, NULL, 0, -1, on_info, a);
	host_call(a, IPC_HOST_IMAGES, NULL, 0, -1, on_first_images, a);
	api_adopt(a);
	sweep(a);
	a->sweep_timer = tick_new(a->loop, SWEEP_MS, SWEEP_MS, sweep, a);
}

/* --- end --- */

static void on_drained(void *arg)
{
	struct api *a = arg;

	a->on_stop(a, 0);
}

void api_shutdown(struct api *a)
{
	if (a->stop_timer)
		return;
	log_event(LOG_INFO, "api.shutdown", "sandboxes=%u", HASH_COUNT(a->boxes));
	a->ready = false;
	snprintf(a->not_ready, sizeof(a->not_ready), "shutting down");
	/* Streams may have no end: they are broken off. */
	a->stop_timer = tick_new(a->loop, STOP_MS, 0, on_drained, a);
	websockets_stop(a);
	httpd_shutdown(a->httpd, on_drained, a);
}
