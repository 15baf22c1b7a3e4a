/*
 * The edge role: see edge.h.
 *
 * Stages, in this order:
 *   boot      descriptors by name: listeners, maps, configuration, resolvers, the api's channel
 *   build     pinner, resolver, sockets, timers, signals: all that allocates descriptors
 *   confine   no_new_privs, seccomp: from here on only sockets, bpf() on the maps, and the channels
 *   serve
 *
 * Losing the api role changes nothing for sandboxes: policies stay as last told, refusals are not
 * reported meanwhile. Its successor comes as a new "peer.api" and tells all policies again, ending
 * with SYNCED. Losing the host role ends this process: its successor brings a new edge.
 *
 * SIGUSR1 logs the counters.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/ulid.h"
#include "edge/edge.h"
#include "edge/hash.h"
#include "edge/inbound.h"
#include "edge/net.h"
#include "edge/keeper_kernel.h"
#include "edge/pinner_kernel.h"
#include "event/chan.h"
#include "event/pulse.h"
#include "wire/config.h"

#define CONFIG_TEXT_MAX (1u << 20)
#define RESOLV_TEXT_MAX 65536u
#define LEARNED_MAX	30000u /* bytes of one reply */
#define EVENTS_QUEUED_MAX (CHAN_QUEUE_MAX / 4)
#define UDP_SOCKETS	2
#define SWEEP_MS	RESOLVER_SWEEP_MS
#define FLOOR_MEMO	1024u
#define FLOOR_MEMO_MS	10000u /* unless the floor changes, which is seen at the next sweep */

struct floor_memo {
	struct ip ip;
	uint64_t until;
	enum weir_floor floor;
};

struct edge {
	uv_loop_t loop;
	uv_prepare_t turn;
	uv_timer_t tick;
	struct pulse sweep;
	uv_signal_t usr1;
	bool ticking, synced;
	int end;

	struct config config;
	struct resolver *resolver;
	struct pinner_kernel *pinner;
	struct keeper_kernel *keeper;
	int floor, config_map;
	uint32_t floor_generation;
	struct floor_memo memo[FLOOR_MEMO];
	struct net_udp *udp[UDP_SOCKETS];
	struct net_tcp *tcp;
	struct net_upstream *upstream;
	struct inbound *inbound;
	struct chan *host, *api;
	uint32_t worker;
};

/* --- what the resolver asks of the world --- */

static void do_reply(void *arg, const struct dns_client *to, struct str msg)
{
	struct edge *e = arg;

	if (to->tcp) {
		net_tcp_reply(e->tcp, to, msg);
		return;
	}
	for (int i = 0; i < UDP_SOCKETS; i++)
		if (e->udp[i] && net_udp_is6(e->udp[i]) == (to->dst.family == 6))
			net_udp_reply(e->udp[i], to, msg);
}

static int do_open(void *arg, const struct server *s, bool tcp, uint64_t *ret_sock)
{
	struct edge *e = arg;

	return net_upstream_open(e->upstream, s, tcp, ret_sock);
}

static int do_send(void *arg, uint64_t sock, struct str msg)
{
	struct edge *e = arg;

	return net_upstream_send(e->upstream, sock, msg);
}

static void do_close(void *arg, uint64_t sock)
{
	struct edge *e = arg;

	net_upstream_close(e->upstream, sock);
}

/* An api role that is busy must not lose its edge because sandboxes are refused a lot. */
static bool do_event(void *arg, const struct ipc_event_dns *ev)
{
	struct edge *e = arg;

	return e->api && chan_queued(e->api) < EVENTS_QUEUED_MAX &&
		chan_send(e->api, IPC_EVENT_DNS, ev, sizeof(*ev), NULL, 0) >= 0;
}

/* Asked for every address of an answer that goes the long way; a sweep behind the map at most. */
static enum weir_floor do_floor(void *arg, struct ip ip)
{
	struct edge *e = arg;
	struct floor_memo *memo = &e->memo[hash_bytes(&ip, sizeof(ip)) % FLOOR_MEMO];
	uint64_t now = uv_now(&e->loop);

	if (memo->until <= now || !ip_eq(memo->ip, ip))
		*memo = (struct floor_memo){ ip, now + FLOOR_MEMO_MS, floor_kernel(e->floor, ip) };
	return memo->floor;
}

static void do_random(void *arg, void *p, size_t n)
{
	random_bytes(p, n);
}

static const struct resolver_ops resolver_ops = { do_reply, do_open, do_send, do_close, do_event,
	do_floor, do_random };

/* --- sockets of the host's namespace --- */

struct want {
	struct edge *edge;
	uint64_t sock;
};

static void on_sockets(struct chan_msg *m, void *arg)
{
	auto_free struct want *w = arg;
	struct net_upstream *u = w->edge->upstream;

	if (!u) /* shutting down */
		return;
	for (unsigned int i = 0; m->status >= 0 && i < m->n_fds; i++)
		net_upstream_given(u, chan_take_fd(m, i), w->sock);
	if (m->status < 0 || m->n_fds == 0 || w->sock == 0)
		net_upstream_refused(u, m->status < 0 || m->n_fds == 0 ? w->sock : 0);
}

static int do_want(void *arg, struct ip addr, bool tcp, uint32_t count, uint64_t sock)
{
	struct ipc_upstream req = { .addr = addr, .tcp = tcp, .count = count };
	struct want *w = malloc(sizeof(*w));
	struct edge *e = arg;
	int r;

	if (!w)
		return -ENOMEM;
	*w = (struct want){ e, sock };
	r = -ENOTCONN;
	if (e->host)
		r = chan_call(e->host, IPC_HOST_UPSTREAM, &req, sizeof(req), NULL, 0, on_sockets, w);
	if (r < 0)
		free(w);
	return r;
}

/* --- from the api role --- */

static int edge_set(struct edge *e, struct chan_msg *m, struct err *err)
{
	struct buf blob = BUF_MAX(POLICY_BLOB_MAX);
	struct ipc_edge_set set;
	int r;

	if (m->payload.n != sizeof(set) || m->n_fds != 1)
		return err_set(err, -EBADMSG, ERR_INTERNAL, "malformed SET");
	memcpy(&set, m->payload.p, sizeof(set));
	FAULT("edge.set.asked");
	r = memfd_read(m->fds[0], POLICY_BLOB_MAX, &blob);
	if (r < 0)
		err_sys(err, r, "read the policy of slot %u", set.slot);
	else
		r = resolver_set(e->resolver, &set, buf_str(&blob), err);
	FAULT("edge.set.done");
	buf_done(&blob);
	return r;
}

static int edge_retire(struct edge *e, struct chan_msg *m, struct err *err)
{
	struct ipc_edge_retire req;

	if (m->payload.n != sizeof(req))
		return err_set(err, -EBADMSG, ERR_INTERNAL, "malformed RETIRE or DEL");
	memcpy(&req, m->payload.p, sizeof(req));
	FAULT("edge.retire.asked");
	if (m->type == IPC_EDGE_RETIRE)
		resolver_retire(e->resolver, req.slot, req.policy);
	else
		resolver_del(e->resolver, req.slot);
	if (m->type == IPC_EDGE_DEL)
		inbound_del(e->inbound, req.slot);
	FAULT("edge.retire.done");
	return 0;
}

static int edge_learned(struct edge *e, struct chan_msg *m, struct buf *out, struct err *err)
{
	struct ipc_slot req;

	if (m->payload.n != sizeof(req))
		return err_set(err, -EBADMSG, ERR_INTERNAL, "malformed LEARNED");
	memcpy(&req, m->payload.p, sizeof(req));
	if (resolver_learned(e->resolver, req.slot, clock_mono_ns(), out) < 0)
		return err_set(err, -ENOENT, ERR_NOT_FOUND, "no sandbox in slot %u", req.slot);
	return 0;
}

static void on_api(struct chan *c, struct chan_msg *m, void *arg)
{
	struct buf out = BUF_MAX(LEARNED_MAX);
	struct edge *e = arg;
	struct err err = { 0 };
	int r;

	switch (m->type) {
	case IPC_EDGE_SET:
		r = edge_set(e, m, &err);
		break;
	case IPC_EDGE_RETIRE:
	case IPC_EDGE_DEL:
		r = edge_retire(e, m, &err);
		break;
	case IPC_EDGE_SYNCED:
		resolver_synced(e->resolver);
		keeper_kernel_synced(e->keeper);
		inbound_synced(e->inbound);
		e->synced = true;
		r = 0;
		break;
	case IPC_EDGE_LEARNED:
		r = edge_learned(e, m, &out, &err);
		break;
	default:
		r = inbound_told(e->inbound, m, &err);
		if (r == -ENOSYS)
			err_set(&err, r, ERR_INTERNAL, "the edge role knows no request %u", m->type);
	}
	if (r < 0)
		log_event(LOG_WARN, "edge.request", "type=%u error=\"%s\"", m->type, err.text);
	if (m->serial && r < 0)
		chan_reply_err(c, m->serial, &err);
	else if (m->serial)
		chan_reply(c, m->serial, 0, out.p, out.n, NULL, 0);
	buf_done(&out);
}

static void on_api_gone(struct chan *c, int err, void *arg)
{
	struct edge *e = arg;

	log_event(LOG_INFO, "edge.api_gone", "error=%d", err);
	e->api = NULL;
	inbound_api(e->inbound, NULL);
	chan_free(c);
}

static void api_connect(struct edge *e, int fd)
{
	int r;

	chan_free(take_ptr(e->api));
	resolver_unsync(e->resolver);
	e->synced = false;
	r = chan_open(&e->loop, fd, "api", on_api, on_api_gone, e, &e->api);
	if (r < 0)
		log_event(LOG_ERROR, "edge.api", "error=\"%s\"", strerror(-r));
	inbound_api(e->inbound, e->api);
}

/* --- from the host role --- */

static void edge_stop(struct edge *e, int why)
{
	e->end = why;
	uv_stop(&e->loop);
}

/* A descriptor after boot. */
static void given(struct edge *e, const char *name, int fd)
{
	if (strcmp(name, "peer.api") == 0)
		api_connect(e, fd);
	else if (!inbound_given(e->inbound, name, &fd))
		fd_close(fd);
}

static void on_host(struct chan *c, struct chan_msg *m, void *arg)
{
	struct edge *e = arg;
	struct ipc_boot_fd boot;

	if (m->type == IPC_SHUTDOWN) {
		edge_stop(e, 0);
	} else if (m->type == IPC_BOOT_FD && m->payload.n == sizeof(boot) && m->n_fds == 1) {
		memcpy(&boot, m->payload.p, sizeof(boot));
		if (ipc_text_ok(boot.name, sizeof(boot.name)))
			given(e, boot.name, chan_take_fd(m, 0));
	}
	if (m->serial)
		chan_reply(c, m->serial, 0, NULL, 0, NULL, 0);
}

static void on_host_gone(struct chan *c, int err, void *arg)
{
	edge_stop(arg, -ECONNRESET);
}

/* --- the loop --- */

static void on_tick(uv_timer_t *timer)
{
	struct edge *e = container_of(timer, struct edge, tick);

	resolver_tick(e->resolver, clock_mono_ns());
}

/* Before every wait: answers leave, and the clock runs while questions are away. */
static void on_turn(uv_prepare_t *prepare)
{
	struct edge *e = container_of(prepare, struct edge, turn);
	bool pending = resolver_pending(e->resolver) > 0;

	for (int i = 0; i < UDP_SOCKETS; i++)
		if (e->udp[i])
			net_udp_flush(e->udp[i]);
	if (pending == e->ticking)
		return;
	e->ticking = pending;
	if (pending)
		uv_timer_start(&e->tick, on_tick, RESOLVER_TICK_MS, RESOLVER_TICK_MS);
	else
		uv_timer_stop(&e->tick);
}

/* What was found out about addresses rests on the floor as it was. */
static void floor_look(struct edge *e)
{
	uint32_t generation = floor_generation_kernel(e->config_map);

	if (generation == e->floor_generation)
		return;
	e->floor_generation = generation;
	memset(e->memo, 0, sizeof(e->memo));
	resolver_floor_changed(e->resolver);
}

static void on_sweep(struct pulse *pulse)
{
	struct edge *e = container_of(pulse, struct edge, sweep);
	uint64_t now = clock_mono_ns();

	floor_look(e);
	resolver_sweep(e->resolver, now);
	net_tcp_sweep(e->tcp, now);
	pinner_kernel_collect(e->pinner, e->resolver, e->synced, now);
}

static void on_usr1(uv_signal_t *signal, int number)
{
	struct edge *e = container_of(signal, struct edge, usr1);
	struct buf text = BUF_MAX(2000);

	if (resolver_dump(e->resolver, &text) == 0 && buf_cstr(&text))
		log_event(LOG_INFO, "edge.counters", "%s", text.p);
	buf_reset(&text);
	inbound_dump(e->inbound, &text);
	if (buf_cstr(&text))
		log_event(LOG_INFO, "edge.ingress", "%s", text.p);
	buf_done(&text);
}

/* --- build --- */

/* A text that was handed in: a memory file, or anything that can be read to its end. */
static int fd_text(int fd, struct buf *out)
{
	if (memfd_read(fd, out->max, out) == 0)
		return 0;
	buf_reset(out);
	for (;;) {
		ssize_t n;

		if (buf_room(out, 1) < 0)
			return buf_failed(out);
		n = read(fd, out->p + out->n, out->cap - out->n);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		out->n += (size_t)n;
	}
}

static int read_config(struct edge *e, struct role *role, struct err *err)
{
	auto_fd int fd = role_fd(role, "config");
	auto_buf struct buf text = BUF_MAX(CONFIG_TEXT_MAX), complaints = BUF_MAX(4096);
	int r;

	config_defaults(&e->config);
	if (fd < 0)
		return 0;
	r = fd_text(fd, &text);
	if (r < 0)
		return err_sys(err, r, "read the configuration");
	if (config_read(&e->config, "config", buf_str(&text), &complaints) < 0)
		return err_set(err, -EINVAL, ERR_INVALID, "configuration: " STR_FMT,
			STR_ARG(buf_str(&complaints)));
	return 0;
}

/* "nameserver ADDRESS [PORT] [host]" lines; other lines are passed over. */
static size_t parse_resolv(struct str text, uint16_t port, struct server *ret, size_t max)
{
	size_t n = 0;

	while (text.p && n < max) {
		struct str line = str_trim(str_cut(&text, '\n')), word = str_cut(&line, ' ');
		struct server s = { .port = port };
		uint64_t number;

		if (!str_eq_c(word, "nameserver") || ip_from(str_cut(&line, ' '), &s.ip) < 0)
			continue;
		word = str_cut(&line, ' ');
		if (str_u64(word, 65535, &number) == 0 && number) {
			s.port = (uint16_t)number;
			word = str_cut(&line, ' ');
		}
		s.host = str_eq_c(word, "host");
		ret[n++] = s;
	}
	return n;
}

static int read_upstreams(struct edge *e, struct role *role, struct resolver_conf *conf,
	struct err *err)
{
	auto_fd int fd = role_fd(role, "resolv");
	auto_buf struct buf text = BUF_MAX(RESOLV_TEXT_MAX);
	int r;

	if (fd >= 0) {
		r = fd_text(fd, &text);
		if (r < 0)
			return err_sys(err, r, "read the list of resolvers");
		conf->n_upstreams = parse_resolv(buf_str(&text), e->config.dns_upstream_port,
			conf->upstreams, ARRAY_SIZE(conf->upstreams));
	}
	for (unsigned int i = 0; !conf->n_upstreams && i < e->config.dns_upstream.n; i++)
		if (i < ARRAY_SIZE(conf->upstreams))
			conf->upstreams[i] = (struct server){
				.ip = e->config.dns_upstream.ip[i],
				.port = e->config.dns_upstream_port };
	if (!conf->n_upstreams)
		conf->n_upstreams = MIN((size_t)e->config.dns_upstream.n,
			ARRAY_SIZE(conf->upstreams));
	if (!conf->n_upstreams)
		log_event(LOG_WARN, "edge.no_upstream", "effect=\"names cannot be resolved\"");
	return 0;
}

static int open_listeners(struct edge *e, struct role *role, struct err *err)
{
	static const char *const kinds[] = { "udp4", "udp6", "tcp4", "tcp6" };
	unsigned int found = 0;

	for (int i = 0; i < 4; i++) {
		char name[32];
		int fd, r;

		snprintf(name, sizeof(name), "dns.%s.%u", kinds[i], e->worker);
		fd = role_fd(role, name);
		if (fd < 0)
			continue;
		r = i < UDP_SOCKETS ? net_udp_new(&e->loop, fd, e->resolver, &e->udp[i]) :
				      net_tcp_listen(e->tcp, fd);
		if (r < 0)
			return err_sys(err, r, "listen on %s", name);
		found++;
	}
	return found ? 0 : err_set(err, -ENOENT, ERR_INTERNAL, "no listener was handed in");
}

/* For as long as the process lives; the kernel keeps what is in it. */
static struct weir_dns_counters *counters_map(int fd)
{
	size_t size = (WEIR_SLOTS_MAX + 1) * sizeof(struct weir_dns_counters);
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	fd_close(fd);
	return p == MAP_FAILED ? NULL : p;
}

static int build(struct edge *e, struct role *role, struct err *err)
{
	struct resolver_conf conf = { 0 };
	int pins = role_fd(role, "map.weir_pins"), ports = role_fd(role, "map.weir_ports");
	int names = role_fd(role, "map.weir_names"), fd, r;
	uint8_t key[16];

	e->floor = role_fd(role, "map.weir_floor");
	e->config_map = role_fd(role, "map.weir_config");
	if (pins < 0 || ports < 0 || names < 0 || e->floor < 0 || e->config_map < 0)
		return err_set(err, -ENOENT, ERR_INTERNAL, "the kernel's maps were not handed in");
	e->floor_generation = floor_generation_kernel(e->config_map);
	random_bytes(key, sizeof(key));
	hash_seed(key);
	r = read_config(e, role, err);
	if (r == 0)
		r = read_upstreams(e, role, &conf, err);
	if (r < 0)
		return r;
	log_open("edge", (enum log_level)e->config.log_level);
	r = pinner_kernel_new(pins, ports, clock_mono_ns(), &e->pinner);
	if (r < 0)
		return err_sys(err, r, "pins");
	r = keeper_kernel_new(names, &e->keeper);
	if (r < 0)
		return err_sys(err, r, "read the names that were learned before");
	conf.keeper = keeper_kernel(e->keeper);
	conf.pinner = pinner_kernel(e->pinner);
	conf.counters = counters_map(role_fd(role, "map.weir_dns_counters"));
	if (!conf.counters)
		return err_sys(err, -errno, "map the counters");
	conf.qps = e->config.dns_qps;
	conf.overlay = e->config.net_overlay4;
	conf.cache_entries = e->config.dns_cache_entries;
	conf.pins_max = e->config.dns_pins_per_sandbox;
	conf.knobs = (struct policy_knobs){ .smtp = e->config.egress_smtp,
		.other_protocols = e->config.egress_other_protocols,
		.reject = e->config.egress_reject };
	if ((r = resolver_new(&conf, &resolver_ops, e, &e->resolver)) < 0 ||
		(r = net_tcp_new(&e->loop, e->resolver, &e->tcp)) < 0 ||
		(r = net_upstream_new(&e->loop, e->resolver, do_want, e, &e->upstream)) < 0)
		return err_sys(err, r, "build the DNS proxy");
	r = open_listeners(e, role, err);
	if (r == 0)
		r = inbound_new(&e->loop, role, &e->config, &e->inbound, err);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < HOST_SOCKS_MAX; i++) {
		char name[32];

		snprintf(name, sizeof(name), "upstream.udp.%u", i);
		fd = role_fd(role, name);
		if (fd >= 0 && net_upstream_given(e->upstream, fd, 0) < 0)
			log_event(LOG_WARN, "edge.upstream", "socket=%s error=unusable", name);
	}
	uv_prepare_init(&e->loop, &e->turn);
	uv_timer_init(&e->loop, &e->tick);
	if ((r = uv_prepare_start(&e->turn, on_turn)) < 0 ||
		(r = pulse_start(&e->loop, SWEEP_MS, on_sweep, &e->sweep)) < 0 ||
		(r = uv_signal_init(&e->loop, &e->usr1)) < 0 ||
		(r = uv_signal_start(&e->usr1, on_usr1, SIGUSR1)) < 0 ||
		(r = chan_open(&e->loop, ROLE_CHAN_FD, "host", on_host, on_host_gone, e,
			 &e->host)) < 0)
		return err_sys(err, r, "start the loop");
	fd = role_fd(role, "peer.api");
	if (fd >= 0)
		api_connect(e, fd);
	return 0;
}

/* Sockets towards resolvers and sandboxes, pairs of them for the api role, and bpf() for lookups and
 * updates on descriptors we hold. */
static const char *const syscalls[] = { "socket", "socketpair", "bind", "connect", "bpf", NULL };

int edge_run(struct role *role, struct err *err)
{
	struct edge *e = calloc(1, sizeof(*e));
	struct rlimit files;
	int r;

	if (!e || uv_loop_init(&e->loop) < 0) {
		free(e);
		role_boot_done(role);
		return err_sys(err, -ENOMEM, "edge");
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGPIPE, SIG_IGN); /* TLS writes as files are written */
	e->worker = role_info(role)->worker;
	r = build(e, role, err);
	role_boot_done(role);
	tzset(); /* the C library would open the zone's file at the first line it dates */
	/* The api role has the same user id and may open files: not our memory and descriptors. */
	if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		r = err_sys(err, -errno, "close our memory to others");
	if (r == 0)
		r = role_confine(syscalls, err);
	if (r < 0)
		return r; /* the process ends with this, and the kernel takes everything back */
	log_event(LOG_INFO, "edge.ready", "worker=%u", e->worker);
	uv_run(&e->loop, UV_RUN_DEFAULT);
	if (e->end < 0)
		return err_set(err, e->end, ERR_INTERNAL, "the host role is gone");
	return 0;
}
