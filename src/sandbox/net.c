/*
 * The datapath in the host role's terms (net.h), and the floor kept current: an address that the
 * host gains while sandboxes run must be closed to them without anybody asking.
 */
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "datapath/datapath.h"
#include "host/link.h"
#include "host/netns.h"
#include "host/sysctl.h"
#include "host/track.h"
#include "sandbox/daemon.h"
#include "sandbox/net.h"

#define COLLECT_EVERY_MS 5000
#define COLLECT_SOON_MS	 200 /* after a sandbox with flows has gone */
/* Of what the host's connection tracking holds, sandboxes may fill three quarters. */
#define CONNTRACK_PARTS 4
#define OUR_PARTS	3

struct floorkeeper {
	struct daemon *d;
	uv_poll_t poll;
	int watch;
	struct addrs now;
	struct policy_floor floor;
};

/* --- the floor --- */

static int floor_write(struct floorkeeper *f, struct err *err)
{
	struct daemon *d = f->d;
	const struct config *c = &d->cfg;
	struct prefix own[ADDRS_MAX + 2];
	size_t n = 0;
	struct policy_floor_spec spec = { .range4 = c->net_range4,
		.range6 = c->net_range6,
		.overlay4 = c->net_overlay4,
		.host = own,
		.deny = c->floor_deny.p,
		.n_deny = c->floor_deny.n,
		.allow = c->floor_allow.p,
		.n_allow = c->floor_allow.n };
	int r;

	for (unsigned int i = 0; i < f->now.n; i++)
		own[n++] = prefix_of(f->now.ip[i], ip_bits(f->now.ip[i].family));
	own[n++] = prefix_of(d->uplink.router4, 32);
	if (d->uplink.ipv6)
		own[n++] = prefix_of(d->uplink.router6, 128);
	spec.n_host = n;
	r = policy_floor_build(&spec, &f->floor, err);
	return r < 0 ? r : datapath_floor_set(d->dp, &f->floor, err);
}

static int tell_change(struct ip ip, bool added, void *arg)
{
	log_event(LOG_INFO, added ? "floor.add" : "floor.drop", "address=%s", ip_text(ip).s);
	return 0;
}

static void on_addresses(uv_poll_t *p, int status, int events)
{
	struct floorkeeper *f = p->data;
	auto_free struct addrs *before = malloc(sizeof(*before));
	struct err err = { .code = 0 };
	int r;

	if (!addrs_changed(f->watch) || !before)
		return;
	*before = f->now;
	r = addrs_read(&f->d->host, &f->now);
	if (r < 0)
		err_sys(&err, r, "list the host's addresses");
	else
		r = floor_write(f, &err);
	if (r < 0) {
		/* The old floor stands. The next change, or a restart, tries again. */
		f->now = *before;
		log_event(LOG_ERROR, "floor.change", "error=\"%s\"", err.text);
		return;
	}
	addrs_diff(before, &f->now, tell_change, NULL);
}

static int floor_open(struct daemon *d, struct err *err)
{
	struct floorkeeper *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return err_sys(err, -ENOMEM, "floor");
	f->d = d;
	f->watch = addrs_watch(); /* before the list is read: no change falls between */
	if (f->watch < 0) {
		r = err_sys(err, f->watch, "watch the host's addresses");
		free(f);
		return r;
	}
	r = addrs_read(&d->host, &f->now);
	if (r < 0)
		err_sys(err, r, "list the host's addresses");
	if (r == 0)
		r = floor_write(f, err);
	if (r == 0 && uv_poll_init(&d->loop, &f->poll, f->watch) < 0)
		r = err_set(err, -ENOMEM, ERR_INTERNAL, "watch the host's addresses");
	if (r < 0) {
		fd_close(f->watch);
		free(f);
		return r;
	}
	f->poll.data = f;
	uv_poll_start(&f->poll, UV_READABLE, on_addresses);
	uv_unref((uv_handle_t *)&f->poll);
	d->floor = f;
	return 0;
}

uint32_t net_host_addresses(const struct daemon *d, struct ip *ret, uint32_t max)
{
	const struct addrs *a = &d->floor->now;
	uint32_t n = MIN(a->n, max);

	memcpy(ret, a->ip, n * sizeof(*ret));
	return n;
}

static void floor_closed(uv_handle_t *h)
{
	struct floorkeeper *f = h->data;

	fd_close(f->watch);
	free(f);
}

/* --- opening --- */

/* Distributions mount it; a container or a bare system may not have. */
int net_need_bpffs(struct err *err)
{
	struct statfs fs;

	if (statfs(BPFFS, &fs) == 0 && fs.f_type == BPF_FS_MAGIC)
		return 0;
	if (mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700") < 0)
		return err_sys(err, -errno,
			"no BPF file system at %s, and it cannot be mounted (CONFIG_BPF_SYSCALL)",
			BPFFS);
	return 0;
}

static int dns_sockets(struct daemon *d, uint32_t worker, struct err *err)
{
	struct steer_sockets *s = &d->steer[worker];
	int r;

	{
		auto_netns struct netns_visit v = NETNS_HOME;

		r = netns_visit(&v, d->router_ns);
		if (r < 0)
			return err_sys(err, r, "router namespace");
		r = steer_open(d->uplink.ipv6, s, err);
		if (r < 0)
			return r;
	}
	if ((r = datapath_dns_socket(d->dp, worker, IPPROTO_UDP, 4, s->udp4, err)) < 0 ||
		(r = datapath_dns_socket(d->dp, worker, IPPROTO_TCP, 4, s->tcp4, err)) < 0 ||
		!d->uplink.ipv6 ||
		(r = datapath_dns_socket(d->dp, worker, IPPROTO_UDP, 6, s->udp6, err)) < 0)
		return r;
	return datapath_dns_socket(d->dp, worker, IPPROTO_TCP, 6, s->tcp6, err);
}

static void collect_in_thread(uv_work_t *w)
{
	struct daemon *d = container_of(w, struct daemon, collecting);

	d->collected = datapath_collect(d->dp, clock_mono_ns(), NULL);
}

static void collected(uv_work_t *w, int status)
{
	struct daemon *d = container_of(w, struct daemon, collecting);

	d->collecting.data = NULL;
	if (status == 0 && d->collected < 0)
		log_event(LOG_WARN, "flows.collect", "error=\"%s\"", strerror(-d->collected));
}

/* One at a time: a turn that finds the last one at work is over. */
static void collect(uv_timer_t *t)
{
	struct daemon *d = t->data;

	datapath_purge(d->dp);
	if (!d->collecting.data &&
		uv_queue_work(&d->loop, &d->collecting, collect_in_thread, collected) == 0)
		d->collecting.data = d;
}

/* All flows are masqueraded, and the host's connection tracking is not ours alone. */
static int limits_open(struct daemon *d, struct err *err)
{
	struct datapath_limits l = { .flows_per_slot = d->cfg.egress_flows_per_sandbox,
		.flows_per_share = d->cfg.egress_flows_per_user, .flows_all = WEIR_FLOWS_MAX,
		.keys_per_share = d->cfg.egress_rules_per_user };
	char text[32];
	uint64_t max;

	if (sysctl_get("net/netfilter/nf_conntrack_max", text, sizeof(text)) == 0 &&
		str_u64(str_trim(str_c(text)), UINT32_MAX, &max) == 0 && max)
		l.flows_all = (uint32_t)MIN((uint64_t)l.flows_all, max / CONNTRACK_PARTS * OUR_PARTS);
	return datapath_limits_set(d->dp, &l, err);
}

struct supersede {
	struct daemon *d;
	struct err *err;
	bool said; /* why, in err */
};

/* Sandboxes' links are "w" and digits (sandbox/slots.h). */
static int supersede_one(const struct link_info *l, void *arg)
{
	struct supersede *s = arg;
	uint64_t n;
	int r;

	if (l->name[0] != 'w' || str_u64(str_c(l->name + 1), UINT64_MAX, &n) < 0)
		return 0;
	r = datapath_attach(s->d->dp, l->ifindex, s->err);
	s->said = r < 0;
	return r;
}

/* The maps are new: links that a former weird left still run its program, around its maps, which
 * nobody can reach any more. With ours, that knows no link yet, they are silent until adopted. */
static int supersede(struct daemon *d, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	struct supersede s = { .d = d, .err = err };
	int r = netns_visit(&v, d->router_ns);

	if (r < 0)
		return err_sys(err, r, "router namespace");
	r = link_each(&d->router, supersede_one, &s);
	return r < 0 && !s.said ? err_sys(err, r, "list the links of the last run") : r;
}

int net_open(struct daemon *d, struct err *err)
{
	int r = net_need_bpffs(err);

	for (unsigned int i = 0; i < DAEMON_WORKERS_MAX; i++)
		d->steer[i] = STEER_NONE;
	if (r == 0)
		r = datapath_open(BPFFS, d->cfg.daemon_name, &d->dp, err);
	if (r == 0 && !datapath_adopted(d->dp))
		r = supersede(d, err);
	if (r == 0)
		r = limits_open(d, err);
	if (r == 0)
		r = datapath_overlay_set(d->dp, d->cfg.net_overlay4, err);
	if (r == 0)
		r = floor_open(d, err);
	for (uint32_t i = 0; i < d->cfg.edge_workers && r == 0; i++)
		r = dns_sockets(d, i, err);
	if (r == 0)
		r = datapath_dns_workers(d->dp, d->cfg.edge_workers, err);
	if (r < 0)
		return r;
	uv_timer_init(&d->loop, &d->collect);
	d->collect.data = d;
	uv_timer_start(&d->collect, collect, COLLECT_EVERY_MS, COLLECT_EVERY_MS);
	uv_unref((uv_handle_t *)&d->collect);
	return 0;
}

void net_close(struct daemon *d)
{
	if (d->floor)
		uv_close((uv_handle_t *)&d->floor->poll, floor_closed);
	d->floor = NULL;
	if (d->collect.data)
		uv_close((uv_handle_t *)&d->collect, NULL);
	while (d->collecting.data) /* it works with d->dp */
		uv_run(&d->loop, UV_RUN_ONCE);
	if (d->dp)
		for (unsigned int i = 0; i < DAEMON_WORKERS_MAX; i++)
			steer_close(&d->steer[i]);
	d->dp = datapath_free(d->dp);
}

/* --- links --- */

static int attach(struct daemon *d, uint32_t ifindex, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	int r = netns_visit(&v, d->router_ns);

	return r < 0 ? err_sys(err, r, "router namespace") : datapath_attach(d->dp, ifindex, err);
}

int net_attach(struct daemon *d, const struct slot *s, struct err *err)
{
	struct datapath_slot ds = {
		.slot = s->number, .ifindex = s->net.ifindex, .ip4 = s->ip4, .ip6 = s->ip6,
		.tap = s->runner->ops->link == SLOTNET_TAP
	};
	int r = datapath_slot_set(d->dp, &ds, err);

	return r < 0 ? r : attach(d, s->net.ifindex, err);
}

int net_adopt(struct daemon *d, const struct slot *s, uint32_t *policy, struct err *err)
{
	struct weir_slot have;

	if (datapath_slot_get(d->dp, s->number, &have) == 0 && have.ifindex == s->net.ifindex) {
		*policy = have.policy;
		return attach(d, s->net.ifindex, err);
	}
	/* The maps are new, or not what the record says: quarantine until the next COMMIT. */
	*policy = 0;
	return net_attach(d, s, err);
}

static int forget(struct ip ip, struct err *err)
{
	int r = ip.family ? track_forget(ip, err) : 0;

	return MIN(r, 0);
}

static void collect_soon(struct daemon *d)
{
	if (d->collect.data && uv_timer_get_due_in(&d->collect) > COLLECT_SOON_MS)
		uv_timer_start(&d->collect, collect, COLLECT_SOON_MS, COLLECT_EVERY_MS);
}

/* Quarantined first, so that no packet makes the host track what it was told to forget; the link's name
 * last, so that what a crash cuts short is done by the next start's sweep. */
static void let_go(struct daemon *d, uint32_t number, const struct weir_slot *had)
{
	struct ip ip4 = ip_raw(4, (const uint8_t *)&had->ip4), ip6 = ip_raw(6, had->ip6.a);
	struct err err = { .code = 0 };
	bool flows = had->flows != 0;
	int r = 0;

	datapath_quarantine(d->dp, number);
	if (flows)
		r = forget(ip4, &err);
	if (flows && r == 0 && d->uplink.ipv6)
		r = forget(ip6, &err);
	datapath_slot_clear(d->dp, number);
	if (r < 0) { /* then they run out, as they would anyhow */
		log_event(LOG_WARN, "flows.forget", "slot=%u error=\"%s\"", number, err.text);
		return;
	}
	datapath_slot_forgotten(d->dp, number);
	if (flows)
		collect_soon(d);
}

void net_detach(struct daemon *d, uint32_t number)
{
	struct weir_slot had;

	if (datapath_slot_get(d->dp, number, &had) == 0)
		let_go(d, number, &had);
}

int net_commit(struct daemon *d, uint32_t number, uint32_t share, uint32_t id,
	const struct policy *p, struct err *err)
{
	struct policy_knobs knobs = { .smtp = d->cfg.egress_smtp,
		.other_protocols = d->cfg.egress_other_protocols,
		.reject = d->cfg.egress_reject };

	int r = datapath_slot_share(d->dp, number, share, err);

	return r < 0 ? r : datapath_commit(d->dp, number, id, p, &knobs, err);
}

/* The network's rules are those that the asker means; one that has none is made known by its first
 * member. */
static int rules_stand(struct daemon *d, uint32_t number, uint32_t version, struct err *err)
{
	const struct calls open = { .fallback = WEIR_ALLOW };
	uint32_t have;

	if (datapath_net_get(d->dp, number, &have) < 0)
		have = UINT32_MAX;
	if (have == version)
		return 0;
	if (version || have != UINT32_MAX)
		return err_set(err, -ESTALE, ERR_INTERNAL,
			"the rules of network %" PRIu32 " are not in force", number);
	return datapath_net_set(d->dp, number, 0, &open, err);
}

int net_members(struct daemon *d, uint32_t number, const struct ipc_nets *nets, struct err *err)
{
	int r = 0;

	if (nets->n > IPC_NETS_MAX)
		return err_set(err, -EINVAL, ERR_INTERNAL, "too many networks");
	for (uint32_t i = 0; i < nets->n && r == 0; i++)
		r = rules_stand(d, nets->nets[i], nets->versions[i], err);
	return r < 0 ? r : datapath_members_set(d->dp, number, nets->nets, nets->n, err);
}

void net_members_get(const struct daemon *d, uint32_t number, struct ipc_sandbox *ret)
{
	struct weir_member m;

	datapath_members_get(d->dp, number, &m);
	ret->n_nets = m.n;
	memcpy(ret->nets, m.net, sizeof(m.net));
	for (uint32_t i = 0; i < m.n; i++)
		if (datapath_net_get(d->dp, m.net[i], &ret->net_versions[i]) < 0)
			ret->net_versions[i] = UINT32_MAX;
}

int net_rules(struct daemon *d, const struct ipc_net *net, struct err *err)
{
	auto_free struct calls *c = NULL;

	_Static_assert(IPC_CALLS_MAX == CALLS_RULES_MAX && IPC_CALL_PORTS_MAX == CALLS_PORTS_MAX,
		"messages hold what a network may have");
	if (net->gone) {
		datapath_net_drop(d->dp, net->number);
		return 0;
	}
	if (net->n > CALLS_RULES_MAX || net->fallback > WEIR_ALLOW)
		return err_set(err, -EINVAL, ERR_INTERNAL, "too many rules");
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	c->fallback = (uint8_t)net->fallback;
	c->n = net->n;
	for (uint32_t i = 0; i < net->n; i++) {
		const struct ipc_call *from = &net->rules[i];

		c->rules[i] = (struct calls_rule){ .from = from->from, .to = from->to,
			.action = from->action, .protos = from->protos, .n_ports = from->n_ports };
		for (uint32_t k = 0; k < CALLS_PORTS_MAX; k++)
			c->rules[i].ports[k] =
				(struct calls_range){ from->ports[k][0], from->ports[k][1] };
	}
	return datapath_net_set(d->dp, net->number, net->version, c, err);
}

int net_ingress(struct daemon *d, uint32_t number, bool on, struct err *err)
{
	return datapath_ingress_set(d->dp, number, on, err);
}

bool net_ingress_get(const struct daemon *d, uint32_t number)
{
	struct weir_slot have;

	return datapath_slot_get(d->dp, number, &have) == 0 && have.ingress;
}

unsigned int net_sweep(struct daemon *d, bool (*owned)(uint32_t number, void *arg), void *arg)
{
	struct weir_slot have;
	unsigned int n = 0;

	for (uint32_t i = 1; i <= WEIR_SLOTS_MAX; i++) {
		if (datapath_slot_get(d->dp, i, &have) < 0 || owned(i, arg))
			continue;
		let_go(d, i, &have);
		n++;
	}
	datapath_sweep(d->dp);
	return n;
}
