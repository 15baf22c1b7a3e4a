/*
 * The host role's life: see daemon.h for the order of its steps.
 */
#include <signal.h>
#include "base/fd.h"
#include "base/log.h"
#include "host/headroom.h"
#include "host/netns.h"
#include "host/nft.h"
#include "host/sysctl.h"
#include "sandbox/adopt.h"
#include "sandbox/box.h"
#include "sandbox/builds.h"
#include "sandbox/burst.h"
#include "sandbox/daemon.h"
#include "sandbox/listen.h"
#include "sandbox/net.h"
#include "sandbox/publish.h"
#include "sandbox/reaper.h"
#include "sandbox/roles.h"
#include "sandbox/slots.h"

#define RESOLV_CONF "/etc/resolv.conf"

/* --- up --- */

static int enter_router(struct daemon *d, struct rtnl *ret)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	int r = netns_visit(&v, d->router_ns);

	return r < 0 ? r : rtnl_open(ret);
}

int daemon_look(struct daemon *d, struct err *err)
{
	const struct config *c = &d->cfg;
	struct prefix range6 = c->net_ipv6 ? c->net_range6 : (struct prefix){ .len = 0 };
	int r;

	d->host_ns = netns_current();
	r = d->host_ns < 0 ? d->host_ns : rtnl_open(&d->host);
	if (r < 0)
		return err_sys(err, r, "host namespace");
	r = uplink_plan(c->daemon_name, c->net_range4, range6, &d->uplink, err);
	if (r < 0)
		return r;
	/* A slot needs an overlay address, too; the last of the range is none. */
	d->uplink.slots = MIN(d->uplink.slots, (1u << (32 - c->net_overlay4.len)) - 2);
	d->router_ns = netns_pinned(d->path.router_ns);
	if (d->router_ns < 0)
		return 0;
	r = enter_router(d, &d->router);
	return r < 0 ? err_sys(err, r, "router namespace") : 0;
}

static int make_router(struct daemon *d, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	int r;

	if (d->router_ns < 0) {
		d->router_ns = netns_pin(d->path.router_ns);
		if (d->router_ns < 0)
			return err_sys(err, d->router_ns, "pin the router namespace at %s",
				d->path.router_ns);
		r = enter_router(d, &d->router);
		if (r < 0)
			return err_sys(err, r, "router namespace");
	}
	r = netns_visit(&v, d->router_ns);
	return r < 0 ? err_sys(err, r, "router namespace") : sysctl_router(d->uplink.ipv6, err);
}

static int make_network(struct daemon *d, struct err *err)
{
	const struct config *c = &d->cfg;
	struct prefix range6 = { .len = 0 };
	auto_buf struct buf script = BUF_MAX(16384);
	struct err lost;
	int r = uplink_look(&d->uplink, &d->host, c->net_ipv6, err);

	if (r == 0)
		r = make_router(d, err);
	if (r < 0)
		return r;
	if (d->uplink.ipv6)
		range6 = c->net_range6;
	r = uplink_make(&d->uplink, &d->host, &d->router, d->router_ns, c->net_range4, range6,
		d->path.sysctl_memo, err);
	if (r == 0)
		r = nft_script(c->daemon_name, d->uplink.name, c->net_range4, range6,
			c->floor_allow.p, c->floor_allow.n, &script);
	if (r == 0)
		r = nft_load(buf_str(&script), err);
	if (r == 0)
		r = steer_routes(&d->router, d->uplink.ipv6, err);
	if (r == 0)
		r = slotnet_gateway(&d->router, err);
	if (r < 0)
		return r;
	/* Lost packets are no danger, only no use: say it, and go on. */
	if (probe_packet(&d->uplink, c->daemon_name, &d->host, d->router_ns, &lost) < 0)
		log_event(LOG_ERROR, "uplink.blocked", "%s", lost.text);
	r = resolv_find(c->dns_upstream.ip, c->dns_upstream.n, c->dns_upstream_port, RESOLV_CONF,
		&d->host, &d->resolv, err);
	if (r == 0 && !d->resolv.n)
		log_event(LOG_WARN, "resolv.none",
			"no resolver in dns.upstream or %s: names will not resolve", RESOLV_CONF);
	return r;
}

/* After the checks: who is not root may not even see the programs, and should hear the former. */
static int need_programs(struct err *err)
{
	static const char *const programs[] = { "weir-api", "weir-edge", "weir-agent" };
	char path[600];

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		if (daemon_program(programs[i], path, sizeof(path)) < 0)
			return err_set(err, -ENOENT, ERR_INTERNAL,
				"%s is not installed: not beside weird, and not %s", programs[i],
				path);
	return 0;
}

static int need_limits(const struct config *c, struct err *err)
{
	struct probe_env env = daemon_probe_env(c);

	if (c->edge_workers > DAEMON_WORKERS_MAX)
		return err_field(err, -EINVAL, ERR_INVALID, "edge.workers", "at most %d",
			DAEMON_WORKERS_MAX);
	for (size_t i = 0; i < headroom_n_checks; i++) {
		struct err advice = { .code = 0 };

		if (headroom_checks[i].fn(&env, &advice) < 0)
			log_event(LOG_WARN, "daemon.limits", "text=%s", log_q(str_c(advice.text)));
	}
	return probe_run(probe_checks, probe_n_checks, &env, NULL, err);
}

int daemon_open(struct daemon *d, const struct config *c, struct err *err)
{
	pid_t other;
	int r;

	*d = (struct daemon){ .phase = DAEMON_BOOT };
	r = daemon_paths(d, c, err);
	if (r < 0)
		return r;
	d->boot = record_boot();
	r = uv_loop_init(&d->loop);
	if (r < 0)
		return err_sys(err, r, "event loop");
	d->loop_open = true;
	if ((r = need_limits(c, err)) < 0 || (r = need_programs(err)) < 0 ||
		(r = daemon_lock(d, &other, err)) < 0 ||
		(r = daemon_directories(d, err)) < 0 || (r = daemon_look(d, err)) < 0 ||
		(r = make_network(d, err)) < 0 || (r = net_open(d, err)) < 0 ||
		(r = runners_open(d, err)) < 0 ||
		(r = reaper_new(&d->loop, d->router_ns, &d->reaper, err)) < 0 ||
		(r = aside_open(&d->ends, &d->loop, err)) < 0 ||
		(r = aside_open(&d->growth, &d->loop, err)) < 0 ||
		(r = aside_open(&d->naps, &d->loop, err)) < 0 ||
		(r = aside_open(&d->copies, &d->loop, err)) < 0 ||
		(r = aside_open(&d->rests, &d->loop, err)) < 0 ||
		(r = aside_open(&d->freezes, &d->loop, err)) < 0 ||
		(r = slots_new(d, &d->slots, err)) < 0 || (r = boxes_new(d, &d->boxes, err)) < 0 ||
		(r = burst_new(d, &d->burst, err)) < 0 ||
		(r = builds_new(d, &d->builds, err)) < 0 || (r = adopt_all(d, err)) < 0)
		return r;
	return 0;
}

/* --- running and stopping --- */

static void destroy_waited(const struct err *err, void *arg)
{
	if (err)
		log_event(LOG_ERROR, "sandbox.destroy", "error=\"%s\"", err->text);
}

static int destroy_one(struct box *x, void *arg)
{
	box_destroy(x, false, destroy_waited, NULL);
	return 0;
}

void daemon_stop(struct daemon *d, bool all)
{
	if (d->phase == DAEMON_STOPPING && (d->take_all || !all))
		return;
	log_event(LOG_INFO, "daemon.stop", "sandboxes=%u kept=%d", boxes_count(d->boxes), !all);
	d->phase = DAEMON_STOPPING;
	d->take_all = all;
	roles_stop(d->roles);
	builds_stop(d->builds);
	if (all)
		boxes_each(d->boxes, destroy_one, NULL);
	daemon_check_stopped(d);
}

void daemon_check_stopped(struct daemon *d)
{
	if (d->phase == DAEMON_STOPPING && roles_ended(d->roles) && builds_ended(d->builds) &&
		(!d->take_all || boxes_count(d->boxes) == 0))
		uv_stop(&d->loop);
}

static void on_signal(uv_signal_t *s, int signum)
{
	daemon_stop(s->data, signum == SIGINT);
}

int daemon_run(struct daemon *d, struct err *err)
{
	int r = listeners_open(d, &d->listeners, err);

	if (r == 0)
		r = publish_open(d, &d->publish, err);
	if (r < 0)
		return r;
	uv_signal_init(&d->loop, &d->sigterm);
	uv_signal_init(&d->loop, &d->sigint);
	d->sigterm.data = d->sigint.data = d;
	uv_signal_start(&d->sigterm, on_signal, SIGTERM);
	uv_signal_start(&d->sigint, on_signal, SIGINT);
	d->phase = DAEMON_SERVING;
	r = runners_watch(d, slots_news, err);
	r = r < 0 ? r : roles_start(d, &d->roles, err);
	if (r < 0)
		return r;
	slots_serve(d->slots);
	log_event(LOG_INFO, "daemon.ready", "name=%s version=%s sandboxes=%u ipv6=%d",
		d->cfg.daemon_name, WEIR_VERSION, boxes_count(d->boxes), d->uplink.ipv6);
	uv_run(&d->loop, UV_RUN_DEFAULT);
	return 0;
}

/* --- down --- */

static void close_all_handles(struct daemon *d)
{
	if (d->sigterm.data) {
		uv_close((uv_handle_t *)&d->sigterm, NULL);
		uv_close((uv_handle_t *)&d->sigint, NULL);
	}
	/* Closing handles need a turn or two; more would mean one that was forgotten. */
	for (int i = 0; i < 100 && uv_run(&d->loop, UV_RUN_NOWAIT); i++)
		;
	if (uv_loop_close(&d->loop) != 0)
		log_event(LOG_WARN, "daemon.handles", "some are still open");
}

void daemon_close(struct daemon *d)
{
	builds_close(d->builds);
	aside_close(&d->copies);
	aside_close(&d->rests);
	aside_close(&d->naps); /* a sandbox that ended meanwhile is next in the last */
	aside_close(&d->freezes);
	aside_close(&d->growth);
	slots_close(d->slots);
	aside_close(&d->ends);
	reaper_free(
		take_ptr(d->reaper)); /* finishes the deletions, whose callbacks need the slots */
	slots_free(take_ptr(d->slots));
	burst_free(take_ptr(d->burst));
	boxes_free(take_ptr(d->boxes));
	roles_free(take_ptr(d->roles));
	builds_free(take_ptr(d->builds));
	publish_free(take_ptr(d->publish));
	listeners_close(take_ptr(d->listeners));
	net_close(d);
	runners_unwatch(d);
	if (d->loop_open)
		close_all_handles(d);
	d->loop_open = false;
	runners_close(d);
	rtnl_done(&d->host);
	rtnl_done(&d->router);
	d->host_ns = fd_close(d->host_ns);
	d->router_ns = fd_close(d->router_ns);
	d->records_dir = fd_close(d->records_dir);
	d->lock_fd = fd_close(d->lock_fd);
}
