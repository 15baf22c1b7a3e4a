/*
 * The real weir-edge between two sandboxes and a real name server (knotd), in namespaces of its
 * own; this program plays the host role and the api role.
 *
 *   sandbox 1 ---w1---.
 *                      router ---up--- host: knotd at 203.0.113.53 and 127.0.0.1
 *   sandbox 2 ---w2---'    weir-edge
 *
 * Instead of the kernel program a routing rule delivers what the links bring, whatever its
 * destination; the maps are real but nobody judges by them. The edge runs as an unprivileged user,
 * confined.
 *
 * usage: test_live PATH_OF_WEIR_EDGE. Skipped (77) without root or knotd.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "base/clock.h"
#include "base/fd.h"
#include "datapath/pins.h"
#include "event/chan_wire.h"
#include "event/role.h"
#include "wire/dns.h"
#include "../unit.h"

#define WAIT_MS 60000
#define NOBODY	65534

static const char *edge_path;
static int ns_router, ns_host, ns_box[2];
static char dir[64];
static pid_t knot, edge;
static int host_end, api_end; /* our ends of the edge's channels */
static int map_pins, map_ports, map_floor, map_config, map_names;
static uint32_t ifindex[2];
static uint32_t serial;
static struct ipc_event_dns last_event;
static unsigned int n_events, n_wants;

static void enter(int ns)
{
	assert_int_equal(setns(ns, CLONE_NEWNET), 0);
}

static void run(const char *fmt, ...) _printf_(1, 2);
static void run(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd) != 0)
		fail_msg("failed: %s", cmd);
}

static int new_ns(void)
{
	int fd;

	assert_int_equal(unshare(CLONE_NEWNET), 0);
	fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	run("ip link set lo up");
	return fd;
}

/* A socket of type bound to addr:port (either may be none) in the namespace. */
static int sock(int ns, int type, const char *addr, uint16_t port)
{
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	bool is6 = strchr(addr, ':');
	int fd, on = 1;

	enter(ns);
	fd = socket(is6 ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	inet_pton(AF_INET, addr, &a4.sin_addr);
	inet_pton(AF_INET6, addr, &a6.sin6_addr);
	if (is6) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &on, sizeof(on));
	} else {
		setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof(on));
	}
	assert_int_equal(is6 ? bind(fd, (struct sockaddr *)&a6, sizeof(a6)) :
			       bind(fd, (struct sockaddr *)&a4, sizeof(a4)), 0);
	return fd;
}

/* --- the lab --- */

static void write_file(const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(file_replace(AT_FDCWD, path, str_c(text), 0644, false), 0);
}

static void start_knot(void)
{
	char conf[512];
	struct pollfd p;
	char msg[512];
	int fd;

	snprintf(conf, sizeof(conf),
		"server:\n  listen: [ 203.0.113.53@53, 127.0.0.1@53 ]\n  rundir: %s\n"
		"database:\n  storage: %s\n"
		"zone:\n  - domain: test\n    file: %s/test.zone\n    storage: %s\n",
		dir, dir, dir, dir);
	write_file("knot.conf", conf);
	write_file("test.zone", "$ORIGIN test.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 "
				"30\n@ NS ns\nns A 203.0.113.53\n"
				"h A 198.51.100.1\nh AAAA 2001:db8::1\nalias CNAME h\n"
				"rebind A 127.0.0.1\nrebind A 10.1.1.1\nrebind A "
				"169.254.169.254\nrebind A 198.51.100.2\n"
				"svc HTTPS 1 . alpn=h2 ipv4hint=10.1.1.1\n"
				"big TXT "
				"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
				"aaaaaaaaaaaaaaaaaa\n"
				"$INCLUDE big.zone\n*.wild A 198.51.100.3\n");
	{
		auto_buf struct buf big = BUF_MAX(65536);

		for (int i = 0; i < 60; i++)
			buf_fmt(&big,
				"big.test. 60 TXT \"%03d "
				"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n",
				i);
		write_file("big.zone", buf_cstr(&big));
	}
	enter(ns_host);
	knot = fork();
	if (knot == 0) {
		char path[128];
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		snprintf(path, sizeof(path), "%s/knot.conf", dir);
		execl("/usr/sbin/knotd", "knotd", "-c", path, NULL);
		_exit(127);
	}
	/* Up when it answers. */
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	p = (struct pollfd){ .fd = fd, .events = POLLIN };
	for (int i = 0; i < 2400; i++) { /* two minutes */
		struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(53),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		auto_buf struct buf q = BUF_MAX(512);
		struct dns_name name;

		dns_name_from(STR("h.test"), &name);
		dns_put_query(&q, 1, &name, DNS_A, false, false);
		sendto(fd, q.p, q.n, 0, (struct sockaddr *)&to, sizeof(to));
		if (poll(&p, 1, 50) == 1 && recv(fd, msg, sizeof(msg), 0) > 12 &&
			(msg[3] & DNS_RCODE) == DNS_NOERROR) {
			close(fd);
			return;
		}
	}
	fail_msg("knotd does not answer");
}

static void lab_up(void)
{
	snprintf(dir, sizeof(dir), "/tmp/weir-edge-live-%d", getpid());
	assert_int_equal(mkdir(dir, 0755), 0);
	ns_host = new_ns();
	ns_box[0] = new_ns();
	ns_box[1] = new_ns();
	ns_router = new_ns();
	for (int i = 0; i < 2; i++) {
		run("ip link add w%d type veth peer name eth0 netns /proc/%d/fd/%d", i + 1,
			getpid(), ns_box[i]);
		run("ip addr add 169.254.77.1/30 dev w%d; ip addr add fe80::77:1/64 dev w%d nodad; "
		    "ip link set w%d up; ip route add 10.60.0.%d/32 dev w%d; "
		    "ip -6 route add fd77:6569:7200::%d/128 dev w%d; ip rule add iif w%d lookup "
		    "5300; "
		    "ip -6 rule add iif w%d lookup 5300",
			i + 1, i + 1, i + 1, i + 1, i + 1, i + 1, i + 1, i + 1, i + 1);
		enter(ns_box[i]);
		run("ip addr add 10.60.0.%d/32 dev eth0; ip addr add fd77:6569:7200::%d/128 dev "
		    "eth0 nodad; "
		    "ip addr add 169.254.77.2/30 dev eth0; ip addr add fe80::77:2/64 dev eth0 "
		    "nodad; "
		    "ip link set eth0 up; ip route add default via 169.254.77.1; "
		    "ip -6 route add default via fe80::77:1 dev eth0",
			i + 1, i + 1);
		enter(ns_router);
	}
	run("ip route add local 0.0.0.0/0 dev lo table 5300; ip -6 route add local ::/0 dev lo "
	    "table 5300; "
	    "ip link add uplink type veth peer name outside netns /proc/%d/fd/%d; "
	    "ip addr add 203.0.113.1/24 dev uplink; ip link set uplink up",
		getpid(), ns_host);
	run("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done");
	ifindex[0] = if_nametoindex("w1");
	ifindex[1] = if_nametoindex("w2");
	enter(ns_host);
	run("ip addr add 203.0.113.53/24 dev outside; ip link set outside up");
	start_knot();
	enter(ns_router);
}

static void lab_down(void)
{
	if (edge > 0) {
		kill(edge, SIGKILL);
		waitpid(edge, NULL, 0);
	}
	kill(knot, SIGTERM);
	waitpid(knot, NULL, 0);
	run("rm -rf %s", dir);
}

/* --- playing the host and the api role --- */

static void give(const char *name, int fd)
{
	struct chan_head h = {
		.type = IPC_BOOT_FD, .kind = CHAN_SEND, .size = sizeof(struct ipc_boot_fd)};
	struct ipc_boot_fd m = { 0 };

	snprintf(m.name, sizeof(m.name), "%s", name);
	assert_int_equal(chan_wire_send(host_end, 0, &h, &m, &fd, 1), 0);
	close(fd);
}

static int memory(const char *text)
{
	int fd = memfd_sealed("lab", str_c(text));

	assert_true(fd >= 0);
	return fd;
}

static int api_pair(int *ours)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	*ours = pair[0];
	return pair[1];
}

static int map_new(enum bpf_map_type type, const char *name, uint32_t key, uint32_t value)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts,
		.map_flags = type == BPF_MAP_TYPE_LPM_TRIE ? BPF_F_NO_PREALLOC : 0);
	int fd = bpf_map_create(type, name, key, value, 4096, &opts);

	assert_true(fd >= 0);
	return fd;
}

static void floor_add(const char *prefix, uint32_t kind)
{
	struct weir_floor_key key = { 0 };
	struct prefix p;

	assert_int_equal(prefix_from(str_c(prefix), true, &p), 0);
	key.prefixlen = 32u + p.len;
	key.family = p.ip.family;
	memcpy(key.addr.a, p.ip.a, 16);
	assert_int_equal(bpf_map_update_elem(map_floor, &key, &kind, BPF_ANY), 0);
}

/* As the host role does after a change of the floor. */
static void floor_announce(void)
{
	struct weir_config config = { 0 };
	uint32_t zero = 0;

	bpf_map_lookup_elem(map_config, &zero, &config);
	config.floor++;
	assert_int_equal(bpf_map_update_elem(map_config, &zero, &config, BPF_ANY), 0);
}

static void edge_start(const char *resolv)
{
	struct chan_head h = { .type = IPC_BOOT_DONE, .kind = CHAN_SEND,
		.size = sizeof(struct ipc_boot_done) };
	struct ipc_boot_done done = { .version = IPC_VERSION };
	int child = api_pair(&host_end), tcp, counters;

	enter(ns_router);
	edge = fork();
	if (edge == 0) {
		dup2(child, ROLE_CHAN_FD);
		fcntl(ROLE_CHAN_FD, F_SETFD, 0);
		if (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
			_exit(126);
		execl(edge_path, "weir-edge", NULL);
		_exit(127);
	}
	close(child);
	give("dns.udp4.0", sock(ns_router, SOCK_DGRAM, "0.0.0.0", 53));
	give("dns.udp6.0", sock(ns_router, SOCK_DGRAM, "::", 53));
	tcp = sock(ns_router, SOCK_STREAM, "0.0.0.0", 53);
	assert_int_equal(listen(tcp, 16), 0);
	give("dns.tcp4.0", tcp);
	tcp = sock(ns_router, SOCK_STREAM, "::", 53);
	assert_int_equal(listen(tcp, 16), 0);
	give("dns.tcp6.0", tcp);
	give("map.weir_pins", dup(map_pins));
	give("map.weir_ports", dup(map_ports));
	give("map.weir_floor", dup(map_floor));
	give("map.weir_config", dup(map_config));
	give("map.weir_names", dup(map_names));
	counters = memfd_create("counters", MFD_CLOEXEC); /* to the edge it is memory like the map */
	assert_int_equal(ftruncate(counters, (WEIR_SLOTS_MAX + 1) * sizeof(struct weir_dns_counters)), 0);
	give("map.weir_dns_counters", counters);
	give("config", memory("dns.qps = 100000\n"));
	give("resolv", memory(resolv));
	give("peer.api", api_pair(&api_end));
	assert_int_equal(chan_wire_send(host_end, 0, &h, &done, NULL, 0), 0);
}

static void edge_stop(void)
{
	struct chan_head h = { .type = IPC_SHUTDOWN, .kind = CHAN_SEND };
	int status;

	assert_int_equal(chan_wire_send(host_end, 0, &h, NULL, NULL, 0), 0);
	assert_int_equal(waitpid(edge, &status, 0), edge);
	edge = 0;
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(host_end);
	close(api_end);
}

/* A call of the edge's to the host role: sockets of the host's namespace. */
static void serve_host(void)
{
	static struct chan_packet p;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(53),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct ipc_upstream req;
	int fds[IPC_FDS_MAX];

	assert_int_equal(chan_wire_recv(host_end, 0, &p), 1);
	assert_int_equal(p.head.type, IPC_HOST_UPSTREAM);
	memcpy(&req, p.payload, sizeof(req));
	n_wants++;
	enter(ns_host);
	for (uint32_t i = 0; i < req.count; i++) {
		fds[i] = socket(AF_INET,
			(req.tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (connect(fds[i], (struct sockaddr *)&to, sizeof(to)) < 0)
			assert_int_equal(errno, EINPROGRESS);
	}
	enter(ns_router);
	p.head.kind = CHAN_REPLY;
	p.head.size = 0;
	assert_int_equal(chan_wire_send(host_end, 0, &p.head, NULL, fds, req.count), 0);
	for (uint32_t i = 0; i < req.count; i++)
		close(fds[i]);
}

/* Wait for fd while serving the edge. */
static bool wait_for(int fd, int ms)
{
	uint64_t end = clock_mono_ns() + (uint64_t)ms * NS_PER_MS;

	for (;;) {
		struct pollfd p[] = {
			{.fd = fd, .events = POLLIN}, {.fd = host_end, .events = POLLIN}};
		uint64_t now = clock_mono_ns();

		if (now >= end || poll(p, 2, (int)((end - now) / NS_PER_MS) + 1) < 0)
			return false;
		if (p[1].revents & POLLHUP)
			fail_msg("weir-edge ended");
		if (p[1].revents & POLLIN)
			serve_host();
		if (p[0].revents)
			return true;
	}
}

static int32_t api_call(uint16_t type, const void *payload, size_t n, int fd)
{
	struct chan_head h = {
		.type = type, .kind = CHAN_CALL, .serial = ++serial, .size = (uint32_t)n};
	static struct chan_packet p;

	assert_int_equal(chan_wire_send(api_end, 0, &h, payload, &fd, fd >= 0), 0);
	for (;;) {
		assert_true(wait_for(api_end, WAIT_MS));
		assert_int_equal(chan_wire_recv(api_end, 0, &p), 1);
		if (p.head.kind == CHAN_REPLY && p.head.serial == serial)
			return p.head.status;
		assert_int_equal(p.head.type, IPC_EVENT_DNS);
		memcpy(&last_event, p.payload, sizeof(last_event));
		n_events++;
	}
}

static int32_t api_set(uint32_t slot, uint32_t policy_id, const char *name, uint16_t port)
{
	struct ipc_edge_set set = { .slot = slot, .ifindex = ifindex[slot - 1], .policy = policy_id,
		.has_ipv6 = 1 };
	auto_policy struct policy *p = policy_new(POLICY_CREATEOS, name ? WEIR_DENY : WEIR_ALLOW);
	auto_buf struct buf blob = BUF_MAX(65536);
	struct name_pattern pattern;
	auto_fd int fd = -EBADF;

	snprintf(set.id, sizeof(set.id), "sb-%u", slot);
	if (name) {
		policy_add_rule(p, WEIR_ALLOW);
		name_pattern_from(str_c(name), false, &pattern, NULL);
		policy_add_name(p, pattern);
		if (port)
			policy_add_port(p, POLICY_TCP_UDP, port, port);
	}
	assert_int_equal(policy_encode(p, &blob), 0);
	fd = memfd_sealed("policy", buf_str(&blob));
	return api_call(IPC_EDGE_SET, &set, sizeof(set), fd);
}

/* --- playing a sandbox --- */

static struct buf answer = { .max = DNS_MSG_MAX };

static const char *words(struct str msg)
{
	static char text[4096];
	struct dns_name name;
	uint16_t type, qclass;
	struct dns_walk w;
	struct dns_rr rr;
	size_t n;

	assert_int_equal(dns_walk_from(msg, &w), 0);
	n = (size_t)snprintf(
		text, sizeof(text), "%s%u", w.flags & DNS_TC ? "TC " : "", w.flags & 15);
	assert_int_equal(dns_walk_question(&w, &name, &type, &qclass), 0);
	while (dns_walk_next(&w, &rr) > 0 && rr.section == 1) {
		char value[64] = "";

		if (rr.type == DNS_A || rr.type == DNS_AAAA)
			inet_ntop(rr.type == DNS_A ? AF_INET : AF_INET6, rr.rdata.p, value,
				sizeof(value));
		n += (size_t)snprintf(text + n, sizeof(text) - n, " %s%s%s", dns_type_name(rr.type),
			value[0] ? "=" : "", value);
		if (n > sizeof(text) / 2)
			break;
	}
	return text;
}

static socklen_t address(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *a4 = (struct sockaddr_in *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &a4->sin_addr) == 1) {
		a4->sin_family = AF_INET;
		a4->sin_port = htons(port);
		return sizeof(*a4);
	}
	assert_int_equal(inet_pton(AF_INET6, text, &a6->sin6_addr), 1);
	a6->sin6_family = AF_INET6;
	a6->sin6_port = htons(port);
	if (IN6_IS_ADDR_LINKLOCAL(&a6->sin6_addr)) {
		enter(ns_box[0]);
		a6->sin6_scope_id = 2; /* eth0, the first after lo */
	}
	return sizeof(*a6);
}

/* Ask `server` from sandbox `box` (0 or 1), by its own address; the answer as words, or "silence".
 */
static const char *ask(
	int box, bool tcp, const char *server, const char *name, uint16_t type, int wait_ms)
{
	bool is6 = strchr(server, ':');
	char own[64];
	struct sockaddr_storage to;
	socklen_t n = address(server, 53, &to);
	auto_buf struct buf q = BUF_MAX(512);
	auto_fd int fd = -EBADF;
	struct dns_name wire;
	const char *ret = "silence";

	snprintf(own, sizeof(own), is6 ? "fd77:6569:7200::%d" : "10.60.0.%d", box + 1);
	fd = sock(ns_box[box], tcp ? SOCK_STREAM : SOCK_DGRAM, own, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, n), 0);
	enter(ns_router);
	dns_name_from(str_c(name), &wire);
	if (tcp)
		buf_be16(&q, 0);
	dns_put_query(&q, 0x4242, &wire, type, false, false);
	if (tcp)
		dns_store16(q.p, (uint16_t)(q.n - 2));
	assert_int_equal(send(fd, q.p, q.n, 0), q.n);
	buf_reset(&answer);
	buf_room(&answer, 60000);
	while (wait_for(fd, wait_ms)) {
		ssize_t k = recv(fd, answer.p + answer.n, 60000 - answer.n, 0);

		if (k <= 0)
			break;
		answer.n += (size_t)k;
		if (!tcp) {
			ret = words(buf_str(&answer));
			break;
		}
		if (answer.n >= 2 && answer.n >= 2u + dns_load16(answer.p)) {
			ret = words(str_skip(buf_str(&answer), 2));
			break;
		}
	}
	return ret;
}

static bool pinned(uint32_t policy, const char *text)
{
	struct pins maps = { map_pins, map_ports };
	struct ip ip;

	assert_int_equal(ip_from(str_c(text), &ip), 0);
	return pin_last_used(&maps, policy, ip) != 0;
}

/* --- the tests --- */

static void names_and_addresses(void **state)
{
	edge_start("nameserver 203.0.113.53 53\n");
	assert_int_equal(api_set(1, 11, "*.test", 443), 0);
	assert_int_equal(api_set(2, 12, "h.test", 0), 0);
	assert_int_equal(api_call(IPC_EDGE_SYNCED, NULL, 0, -1), 0);

	assert_string_equal(
		ask(0, false, "169.254.77.1", "h.test", DNS_A, WAIT_MS), "0 A=198.51.100.1");
	assert_true(pinned(11, "198.51.100.1"));
	assert_false(pinned(12, "198.51.100.1"));
	assert_string_equal(
		ask(1, false, "169.254.77.1", "h.test", DNS_A, WAIT_MS), "0 A=198.51.100.1");
	assert_true(pinned(12, "198.51.100.1"));
	assert_string_equal(
		ask(0, false, "8.8.8.8", "h.test", DNS_AAAA, WAIT_MS), "0 AAAA=2001:db8::1");
	assert_true(pinned(11, "2001:db8::1"));
	/* The same by TCP and by IPv6, to the gateway and past it. */
	assert_string_equal(
		ask(1, true, "169.254.77.1", "h.test", DNS_A, WAIT_MS), "0 A=198.51.100.1");
	assert_string_equal(ask(0, true, "8.8.8.8", "alias.test", DNS_A, WAIT_MS),
		"0 CNAME A=198.51.100.1");
	assert_string_equal(ask(1, false, "2001:4860:4860::8888", "h.test", DNS_A, WAIT_MS),
		"0 A=198.51.100.1");
	assert_string_equal(ask(1, true, "2001:4860:4860::8888", "h.test", DNS_A, WAIT_MS),
		"0 A=198.51.100.1");
	assert_string_equal(
		ask(0, false, "fe80::77:1", "h.test", DNS_A, WAIT_MS), "0 A=198.51.100.1");
	/* Each link has its own policy, by either protocol. */
	assert_string_equal(ask(1, false, "169.254.77.1", "alias.test", DNS_A, WAIT_MS), "3");
	assert_string_equal(ask(1, true, "169.254.77.1", "alias.test", DNS_A, WAIT_MS), "3");
	assert_string_equal(
		ask(1, true, "2001:4860:4860::8888", "alias.test", DNS_A, WAIT_MS), "3");
	assert_string_equal(ask(0, false, "169.254.77.1", "evil.example", DNS_TXT, WAIT_MS), "3");
	assert_int_equal(api_set(1, 11, "*.test", 443), 0); /* told again; brings the events */
	assert_true(n_events >= 4);
	assert_string_equal(last_event.name, "evil.example");
	/* What an answer must not say. */
	assert_string_equal(ask(0, false, "169.254.77.1", "rebind.test", DNS_A, WAIT_MS),
		"0 A=198.51.100.2");
	assert_string_equal(ask(0, false, "169.254.77.1", "no.test", DNS_A, WAIT_MS), "3");
	assert_string_equal(
		ask(0, false, "169.254.77.1", "svc.test", DNS_HTTPS, WAIT_MS), "0 HTTPS");
	assert_null(memmem(answer.p, answer.n, "\12\1\1\1", 4)); /* the hint 10.1.1.1 */
	/* Longer than UDP carries: upstream by TCP, to the client truncated, then by TCP. */
	assert_string_equal(ask(0, false, "169.254.77.1", "big.test", DNS_TXT, WAIT_MS), "TC 0");
	assert_int_equal(
		strncmp(ask(0, true, "169.254.77.1", "big.test", DNS_TXT, WAIT_MS), "0 TXT", 5), 0);
	assert_true(answer.n > 2000);
	/* A new policy: pinned before SET is answered; the old ones leave with RETIRE and DEL. */
	assert_int_equal(api_set(2, 22, "h.test", 443), 0);
	assert_true(pinned(22, "198.51.100.1") && pinned(12, "198.51.100.1"));
	{
		struct ipc_edge_retire retire = { .slot = 2, .policy = 12 };

		assert_int_equal(api_call(IPC_EDGE_RETIRE, &retire, sizeof(retire), -1), 0);
		assert_false(pinned(12, "198.51.100.1"));
		assert_true(pinned(22, "198.51.100.1"));
		assert_int_equal(api_call(IPC_EDGE_DEL, &retire, sizeof(retire), -1), 0);
		assert_false(pinned(22, "198.51.100.1"));
	}
	assert_string_equal(ask(1, false, "169.254.77.1", "h.test", DNS_A, 300), "silence");
	edge_stop();
}

/* Resolvers that only the host's namespace reaches; and the pins a former edge left behind. */
static void host_resolver_and_restart(void **state)
{
	assert_true(pinned(11, "198.51.100.1")); /* left by the edge that ended */
	edge_start("nameserver 127.0.0.1 53 host\n");
	assert_int_equal(api_set(1, 31, "*.test", 0), 0);
	assert_int_equal(api_call(IPC_EDGE_SYNCED, NULL, 0, -1), 0);
	/* The first question finds no socket yet; clients ask again. */
	for (int i = 0; i < 10; i++) {
		if (strcmp(ask(0, false, "169.254.77.1", "h.test", DNS_A, WAIT_MS),
			    "0 A=198.51.100.1") == 0)
			break;
		wait_for(-1, 100);
	}
	assert_string_equal(
		ask(0, false, "169.254.77.1", "h.test", DNS_A, WAIT_MS), "0 A=198.51.100.1");
	for (int i = 0; i < 300; i++) { /* sockets are renewed on the way */
		char name[32];

		snprintf(name, sizeof(name), "n%d.wild.test", i);
		assert_string_equal(
			ask(0, false, "169.254.77.1", name, DNS_A, WAIT_MS), "0 A=198.51.100.3");
	}
	assert_true(n_wants >= 2);
	assert_int_equal(
		strncmp(ask(0, true, "169.254.77.1", "big.test", DNS_TXT, WAIT_MS), "0 TXT", 5), 0);
	{ /* its memory is no business of whoever else has its user id */
		char path[32];
		struct stat st;

		snprintf(path, sizeof(path), "/proc/%d/mem", edge);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_uid, 0);
	}
	/* A new api role: its channel replaces the old one. */
	close(api_end);
	give("peer.api", api_pair(&api_end));
	assert_int_equal(api_set(1, 31, "*.test", 0), 0);
	assert_int_equal(api_call(IPC_EDGE_SYNCED, NULL, 0, -1), 0);
	assert_string_equal(
		ask(0, false, "169.254.77.1", "h.test", DNS_A, WAIT_MS), "0 A=198.51.100.1");
	/* Pins of a policy that nobody has are collected. */
	for (int i = 0; i < 100 && pinned(11, "198.51.100.1"); i++)
		wait_for(-1, 100);
	assert_false(pinned(11, "198.51.100.1"));
	assert_false(pinned(11, "2001:db8::1"));
	assert_true(pinned(31, "198.51.100.1"));
	for (int i = 0; i < 100; i++) { /* and the port tables they named */
		struct weir_port_key key;

		if (bpf_map_get_next_key(map_ports, NULL, &key) < 0)
			break;
		wait_for(-1, 100);
	}
	{
		struct weir_port_key key;

		assert_true(bpf_map_get_next_key(map_ports, NULL, &key) < 0);
	}
	/* The floor rises, and the next sweep finds it: well before what is remembered of it ends. */
	floor_add("198.51.100.1/32", WEIR_FLOOR_OPERATOR);
	floor_announce();
	for (int i = 0; i < 80; i++) {
		if (strcmp(ask(0, false, "169.254.77.1", "h.test", DNS_A, WAIT_MS), "0") == 0)
			break;
		wait_for(-1, 100);
	}
	assert_string_equal(ask(0, false, "169.254.77.1", "h.test", DNS_A, WAIT_MS), "0");
	edge_stop();
}

static int up(void **state)
{
	map_pins = map_new(
		BPF_MAP_TYPE_HASH, "pins", sizeof(struct weir_pin_key), sizeof(struct weir_pin));
	map_ports = map_new(BPF_MAP_TYPE_LPM_TRIE, "ports", sizeof(struct weir_port_key),
		sizeof(struct weir_port));
	map_names = map_new(BPF_MAP_TYPE_HASH, "names", sizeof(struct weir_name_key),
		sizeof(struct weir_name));
	map_floor = map_new(
		BPF_MAP_TYPE_LPM_TRIE, "floor", sizeof(struct weir_floor_key), sizeof(uint32_t));
	map_config = map_new(BPF_MAP_TYPE_HASH, "config", sizeof(uint32_t),
		sizeof(struct weir_config));
	floor_add("127.0.0.0/8", WEIR_FLOOR_LOOPBACK);
	floor_add("169.254.0.0/16", WEIR_FLOOR_LINKLOCAL);
	floor_add("10.60.0.0/16", WEIR_FLOOR_SANDBOX);
	lab_up();
	return 0;
}

static int down(void **state)
{
	lab_down();
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_addresses),
		cmocka_unit_test(host_resolver_and_restart),
	};

	if (argc != 2 || geteuid() != 0 || access("/usr/sbin/knotd", X_OK) < 0) {
		fprintf(stderr, "skipped: needs root, knotd and the path of weir-edge\n");
		return 77;
	}
	edge_path = argv[1];
	return cmocka_run_group_tests(tests, up, down);
}
