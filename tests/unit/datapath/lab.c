/*
 * datapath-lab NAME: the datapath without a daemon, driven by lines on standard input, for
 * tests/netlab/test_datapath.py. Run it in a router namespace. Each command is answered by one
 * line, "ok …" or "error …".
 *
 *	slot SLOT LINK IP4 IP6		take the link in, quarantined; IP6 may be "-"
 *	clear SLOT
 *	attach LINK | detach LINK
 *	commit SLOT ID MODE RULE…	MODE: reject | drop, with "+other", "+smtp"; CreateOS rules
 *	quarantine SLOT
 *	ingress SLOT 0|1		may the gateway connect to its address?
 *	pin ID IP NAME			what the DNS proxy does after an answer, under the last policy
 *	used ID IP			nanoseconds since the pin was last used
 *	floor [PREFIX…]			the default floor and these as operator's deny
 *	counters SLOT | events | collect SECONDS-FROM-NOW | sweep
 *	dns				make the proxy's sockets and answer with what was asked
 *	dnslog				what came in: "udp4 8.8.8.8 3" (family, original address, interface)
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include "base/clock.h"
#include "datapath/datapath.h"
#include "ring.h"
#include "datapath/pins.h"
#include "policy/createos.h"

#define WORDS_MAX 300

static struct datapath *dp;
static struct policy_floor floor_list;
static struct policy *last_policy;
static struct policy_knobs last_knobs;
static struct events_ring *ring;
static struct buf events = { .max = 1 << 20 }, dnslog = { .max = 1 << 20 };
static int udp4 = -1, udp6 = -1, tcp4 = -1, tcp6 = -1;

static void on_event(const struct weir_event *e, void *arg)
{
	struct ip ip = ip_raw(e->family == 6 ? 6 : 4, e->remote.a);

	buf_fmt(&events, "%s{\"slot\":%u,\"reason\":\"%s\",\"floor\":\"%s\",\"proto\":%u,"
		"\"rule\":%u,\"inbound\":%u,\"remote\":\"%s\",\"port\":%u}", events.n ? "," : "",
		e->slot, policy_reason_name(e->reason), policy_floor_name(e->detail), e->proto,
		e->rule, e->inbound, e->family ? ip_text(ip).s : "", e->remote_port);
}

static void answer(const char *fmt, ...) _printf_(1, 2);
static void answer(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static void answer_err(int r, const struct err *err)
{
	if (r < 0)
		answer("error %s", err->text);
	else
		answer("ok");
}

static struct ip ip_arg(const char *s)
{
	struct ip ip = { 0 };

	ip_from(str_c(s), &ip);
	return ip;
}

static uint32_t u32_arg(const char *s)
{
	uint64_t v = 0;

	str_u64(str_c(s), UINT32_MAX, &v);
	return (uint32_t)v;
}

static int set_floor(char **word, size_t n, struct err *err)
{
	struct prefix deny[WORDS_MAX];
	struct policy_floor_spec spec = { .deny = deny, .n_deny = n };

	prefix_from(STR("10.60.0.0/16"), true, &spec.range4);
	prefix_from(STR("fd77:6569:7200::/64"), true, &spec.range6);
	prefix_from(STR("10.42.0.0/16"), true, &spec.overlay4);
	for (size_t i = 0; i < n; i++)
		if (prefix_from(str_c(word[i]), true, &deny[i]) < 0)
			return err_set(err, -EINVAL, ERR_INVALID, "not a prefix: %s", word[i]);
	policy_floor_build(&spec, &floor_list, err);
	return datapath_floor_set(dp, &floor_list, err);
}

static int do_commit(char **word, size_t n, struct err *err)
{
	struct str rules[WORDS_MAX];
	int r;

	for (size_t i = 3; i < n; i++)
		rules[i - 3] = str_c(word[i]);
	last_policy = policy_free(last_policy);
	last_knobs = (struct policy_knobs){ .reject = str_starts(str_c(word[2]), STR("reject")),
		.smtp = strstr(word[2], "+smtp"), .other_protocols = strstr(word[2], "+other") };
	r = createos_policy(rules, n - 3, &floor_list, &last_policy, err);
	if (r < 0)
		return r;
	return datapath_commit(dp, u32_arg(word[0]), u32_arg(word[1]), last_policy, &last_knobs,
		err);
}

static int do_pin(char **word, struct err *err)
{
	struct pins pins = { datapath_fd(dp, "weir_pins"), datapath_fd(dp, "weir_ports") };
	static uint32_t table = 0x80000000u;
	struct policy_pin_image img;
	struct name name;
	int r;

	if (name_from(str_c(word[2]), &name, NULL) < 0)
		return err_set(err, -EINVAL, ERR_INVALID, "not a name");
	r = policy_pin(last_policy, &last_knobs, ip_arg(word[1]), &name, 1, table++, &img);
	if (r == 0) {
		r = pin_set_image(&pins, u32_arg(word[0]), ip_arg(word[1]), &img, clock_mono_ns());
		policy_pin_image_done(&img);
	}
	return r < 0 ? err_sys(err, r, "pin") : 0;
}

static int dns_socket(int family, int type, uint8_t proto, struct err *err)
{
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htons(53) };
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(53) };
	bool v4 = family == AF_INET;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!v4)
		setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	setsockopt(fd, v4 ? SOL_IP : SOL_IPV6, v4 ? IP_TRANSPARENT : IPV6_TRANSPARENT, &one,
		sizeof(one));
	if (type == SOCK_DGRAM) {
		setsockopt(fd, v4 ? SOL_IP : SOL_IPV6, v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, &one,
			sizeof(one));
		setsockopt(fd, v4 ? SOL_IP : SOL_IPV6,
			v4 ? IP_RECVORIGDSTADDR : IPV6_RECVORIGDSTADDR, &one, sizeof(one));
	}
	if (bind(fd, v4 ? (struct sockaddr *)&sin : (struct sockaddr *)&sin6,
			v4 ? sizeof(sin) : sizeof(sin6)) < 0 ||
		(type == SOCK_STREAM && listen(fd, 16) < 0)) {
		err_sys(err, -errno, "socket");
		return -1;
	}
	if (datapath_dns_socket(dp, 0, proto, v4 ? 4 : 6, fd, err) < 0)
		return -1;
	return fd;
}

static int do_dns(struct err *err)
{
	udp4 = dns_socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP, err);
	udp6 = dns_socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP, err);
	tcp4 = dns_socket(AF_INET, SOCK_STREAM, IPPROTO_TCP, err);
	tcp6 = dns_socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP, err);
	if (udp4 < 0 || udp6 < 0 || tcp4 < 0 || tcp6 < 0)
		return -1;
	return datapath_dns_workers(dp, 1, err);
}

/* Answer a datagram from the address it was sent to, out of the link it came in by. */
static void serve_udp(int fd, bool v4)
{
	char data[2048], control[512], to[INET6_ADDRSTRLEN] = "?";
	struct sockaddr_storage from;
	struct iovec iov = { data, sizeof(data) };
	struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov,
		.msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &m, 0);
	struct in_pktinfo info = { 0 };
	struct in6_pktinfo info6 = { 0 };

	if (n < 0)
		return;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO)
			info.ipi_ifindex = ((struct in_pktinfo *)CMSG_DATA(c))->ipi_ifindex;
		if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_ORIGDSTADDR)
			info.ipi_spec_dst = ((struct sockaddr_in *)CMSG_DATA(c))->sin_addr;
		if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_PKTINFO)
			info6.ipi6_ifindex = ((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_ifindex;
		if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_ORIGDSTADDR)
			info6.ipi6_addr = ((struct sockaddr_in6 *)CMSG_DATA(c))->sin6_addr;
	}
	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? (void *)&info.ipi_spec_dst : (void *)&info6.ipi6_addr,
		to, sizeof(to));
	buf_fmt(&dnslog, "%sudp%d %s %d", dnslog.n ? "," : "", v4 ? 4 : 6, to,
		v4 ? info.ipi_ifindex : (int)info6.ipi6_ifindex);
	memset(control, 0, sizeof(control));
	m.msg_controllen = v4 ? CMSG_SPACE(sizeof(info)) : CMSG_SPACE(sizeof(info6));
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = v4 ? SOL_IP : SOL_IPV6;
	c->cmsg_type = v4 ? IP_PKTINFO : IPV6_PKTINFO;
	c->cmsg_len = v4 ? CMSG_LEN(sizeof(info)) : CMSG_LEN(sizeof(info6));
	memcpy(CMSG_DATA(c), v4 ? (void *)&info : (void *)&info6, v4 ? sizeof(info) : sizeof(info6));
	/* a question that begins with "big" gets an answer that must be fragmented */
	static char big[4000];
	memset(big, 'b', sizeof(big));
	iov = n >= 3 && memcmp(data, "big", 3) == 0 ? (struct iovec){ big, sizeof(big) } :
						       (struct iovec){ to, strlen(to) };
	sendmsg(fd, &m, 0);
}

static void serve_tcp(int fd, bool v4)
{
	char to[INET6_ADDRSTRLEN] = "?";
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	int c = accept(fd, NULL, NULL);

	if (c < 0)
		return;
	getsockname(c, (struct sockaddr *)&a, &len);
	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? (void *)&((struct sockaddr_in *)&a)->sin_addr :
		(void *)&((struct sockaddr_in6 *)&a)->sin6_addr, to, sizeof(to));
	buf_fmt(&dnslog, "%stcp%d %s", dnslog.n ? "," : "", v4 ? 4 : 6, to);
	if (write(c, to, strlen(to)) < 0)
		perror("write");
	close(c);
}

static void show_counters(uint32_t slot)
{
	struct weir_counters c;
	struct weir_slot s = { 0 };
	struct buf out = BUF_MAX(4096);

	if (datapath_counters(dp, slot, &c) < 0) {
		answer("error counters");
		return;
	}
	datapath_slot_get(dp, slot, &s);
	buf_fmt(&out, "{\"out_packets\":%llu,\"out_bytes\":%llu,\"in_packets\":%llu,\"in_bytes\":%llu,"
		"\"dns\":%llu,\"ingress_out\":%llu,\"ingress_in\":%llu,\"suppressed\":%llu,\"flows\":%u,\"denied\":{", c.out_packets,
		c.out_bytes, c.in_packets, c.in_bytes, c.dns_packets, c.ingress_out_bytes,
		c.ingress_in_bytes, c.events_suppressed, s.flows);
	for (unsigned int i = 0; i < WEIR_R_MAX; i++)
		buf_fmt(&out, "%s\"%s\":%llu", i ? "," : "", policy_reason_name(i), c.denied[i]);
	answer("ok " STR_FMT "}}", STR_ARG(buf_str(&out)));
	buf_done(&out);
}

static void command(char **word, size_t n)
{
	struct err err = { 0 };
	struct weir_collect result;
	const char *verb = word[0];
	int r = 0;

	if (!strcmp(verb, "slot")) {
		struct datapath_slot s = { u32_arg(word[1]), if_nametoindex(word[2]),
			ip_arg(word[3]), ip_arg(word[4]), false };

		answer_err(datapath_slot_set(dp, &s, &err), &err);
	} else if (!strcmp(verb, "clear")) {
		datapath_slot_clear(dp, u32_arg(word[1]));
		answer("ok");
	} else if (!strcmp(verb, "attach")) {
		answer_err(datapath_attach(dp, if_nametoindex(word[1]), &err), &err);
	} else if (!strcmp(verb, "detach")) {
		answer_err(datapath_detach(dp, if_nametoindex(word[1]), &err), &err);
	} else if (!strcmp(verb, "commit")) {
		answer_err(do_commit(word + 1, n - 1, &err), &err);
	} else if (!strcmp(verb, "quarantine")) {
		datapath_quarantine(dp, u32_arg(word[1]));
		answer("ok");
	} else if (!strcmp(verb, "ingress")) {
		answer_err(datapath_ingress_set(dp, u32_arg(word[1]), u32_arg(word[2]), &err), &err);
	} else if (!strcmp(verb, "pin")) {
		answer_err(do_pin(word + 1, &err), &err);
	} else if (!strcmp(verb, "used")) {
		struct pins pins = { datapath_fd(dp, "weir_pins"), -1 };

		answer("ok %" PRIu64, clock_mono_ns() -
			pin_last_used(&pins, u32_arg(word[1]), ip_arg(word[2])));
	} else if (!strcmp(verb, "floor")) {
		answer_err(set_floor(word + 1, n - 1, &err), &err);
	} else if (!strcmp(verb, "counters")) {
		show_counters(u32_arg(word[1]));
	} else if (!strcmp(verb, "events")) {
		events_ring_read(ring);
		answer("ok [" STR_FMT "]", STR_ARG(buf_str(&events)));
		buf_reset(&events);
	} else if (!strcmp(verb, "collect")) {
		datapath_purge(dp);
		r = datapath_collect(dp, clock_mono_ns() + u32_arg(word[1]) * NS_PER_SEC, &result);
		answer(r < 0 ? "error %d" : "ok %d %u %u", r, result.live, result.removed);
	} else if (!strcmp(verb, "sweep")) {
		answer("ok %d", datapath_sweep(dp));
	} else if (!strcmp(verb, "dns")) {
		answer_err(do_dns(&err), &err);
	} else if (!strcmp(verb, "dnslog")) {
		answer("ok " STR_FMT, STR_ARG(buf_str(&dnslog)));
		buf_reset(&dnslog);
	} else {
		answer("error unknown command");
	}
}

static bool read_command(void)
{
	static char line[65536];
	char *word[WORDS_MAX], *save = NULL;
	size_t n = 0;

	if (!fgets(line, sizeof(line), stdin))
		return false;
	for (char *w = strtok_r(line, " \n", &save); w && n < WORDS_MAX; w = strtok_r(NULL, " \n", &save))
		word[n++] = w;
	if (n)
		command(word, n);
	return true;
}

int main(int argc, char **argv)
{
	struct err err = { 0 };

	if (argc != 2)
		return 2;
	setvbuf(stdin, NULL, _IONBF, 0); /* poll() must see every line */
	if (datapath_open("/sys/fs/bpf", argv[1], &dp, &err) < 0 ||
		events_ring_open(datapath_fd(dp, "weir_events"), on_event, NULL, &ring, &err) < 0 ||
		(!datapath_adopted(dp) && set_floor(NULL, 0, &err) < 0)) {
		answer("error %s", err.text);
		return 1;
	}
	policy_floor_build(&(struct policy_floor_spec){ 0 }, &floor_list, NULL);
	answer("ok %s", datapath_adopted(dp) ? "adopted" : "new");
	for (;;) {
		struct pollfd p[] = { { 0, POLLIN, 0 }, { udp4, POLLIN, 0 }, { udp6, POLLIN, 0 },
			{ tcp4, POLLIN, 0 }, { tcp6, POLLIN, 0 } };

		if (poll(p, ARRAY_SIZE(p), -1) < 0)
			return 1;
		if (p[1].revents)
			serve_udp(udp4, true);
		if (p[2].revents)
			serve_udp(udp6, false);
		if (p[3].revents)
			serve_tcp(tcp4, true);
		if (p[4].revents)
			serve_tcp(tcp6, false);
		if (p[0].revents && !read_command())
			break;
	}
	events_ring_free(ring);
	datapath_free(dp);
	policy_free(last_policy);
	return 0;
}
