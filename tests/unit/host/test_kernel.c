/*
 * The kernel's side, in namespaces of our own: a "host", a router, a slot between them.
 * Needs root; skipped without.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include "base/fd.h"
#include "bpf/maps.h"
#include "host/addrs.h"
#include "host/netns.h"
#include "host/nft.h"
#include "host/probe.h"
#include "host/resolv.h"
#include "host/slotnet.h"
#include "host/steer.h"
#include "host/sysctl.h"
#include "host/uplink.h"
#include "../unit.h"

struct lab {
	struct netns_visit away; /* the "host" namespace, for the length of a test */
	int host, router_ns;
	struct rtnl on_host, router;
	char dir[64], memo[80];
	struct prefix range4, range6;
	struct uplink up;
};

static void ok(int r, const struct err *err)
{
	if (r < 0)
		fail_msg("%s (%d)", err->text, r);
}

static struct prefix prefix(const char *s)
{
	struct prefix p;

	assert_int_equal(prefix_from(str_c(s), true, &p), 0);
	return p;
}

static int setup(void **state)
{
	struct lab *l = calloc(1, sizeof(*l));
	struct netns_visit v = NETNS_HOME;
	struct err err = { .code = 0 };

	snprintf(l->dir, sizeof(l->dir), "/tmp/weir-host-XXXXXX");
	assert_non_null(mkdtemp(l->dir));
	snprintf(l->memo, sizeof(l->memo), "%s/sysctl", l->dir);
	l->away = NETNS_HOME;
	assert_int_equal(netns_visit_new(&l->away, &l->host), 0);
	assert_int_equal(rtnl_open(&l->on_host), 0);
	assert_int_equal(netns_visit_new(&v, &l->router_ns), 0);
	ok(sysctl_router(true, &err), &err);
	assert_int_equal(rtnl_open(&l->router), 0);
	netns_leave(&v);
	l->range4 = prefix("10.77.0.0/20");
	l->range6 = prefix("fd77:1::/64");
	ok(uplink_plan("t", l->range4, l->range6, &l->up, &err), &err);
	*state = l;
	return 0;
}

static int teardown(void **state)
{
	struct lab *l = *state;

	rtnl_done(&l->router);
	rtnl_done(&l->on_host);
	netns_leave(&l->away);
	fd_close(l->router_ns);
	fd_close(l->host);
	unlink(l->memo);
	rmdir(l->dir);
	free(l);
	return 0;
}

/* An outside interface with an address; its far end lives in the router namespace, unused. */
static void outside(struct lab *l, const char *addr4, const char *addr6)
{
	struct err err = { .code = 0 };
	uint32_t i;

	ok(link_veth(&l->on_host, (struct link_end){ "out", NULL }, (struct link_end){ "far", NULL },
		   l->router_ns, 1400, &err), &err);
	i = (uint32_t)link_index(&l->on_host, "out");
	if (addr4)
		ok(link_addr(&l->on_host, i, prefix(addr4).ip, 32, false, &err), &err);
	if (addr6)
		ok(link_addr(&l->on_host, i, prefix(addr6).ip, 128, false, &err), &err);
	ok(link_up(&l->on_host, i, &err), &err);
}

static void make(struct lab *l)
{
	auto_buf struct buf script = BUF_MAX(8192);
	struct err err = { .code = 0 };

	ok(uplink_look(&l->up, &l->on_host, true, &err), &err);
	ok(uplink_make(&l->up, &l->on_host, &l->router, l->router_ns, l->range4, l->range6, l->memo, &err),
		&err);
	assert_int_equal(nft_script("t", l->up.name, l->range4, l->range6, NULL, 0, &script), 0);
	ok(nft_load(buf_str(&script), &err), &err);
}

static void test_uplink(void **state)
{
	struct lab *l = *state;
	struct err err = { .code = 0 };
	char v[16];

	outside(l, "192.0.2.7", "2001:db8::7");
	make(l);
	assert_true(l->up.ipv6);
	assert_int_equal(l->up.n_outside, 1);
	assert_string_equal(l->up.outside[0], "out");
	assert_int_equal(l->up.mtu, 1400);
	assert_int_equal(sysctl_get("net/ipv4/conf/out/forwarding", v, sizeof(v)), 0);
	assert_string_equal(v, "1");
	ok(probe_packet(&l->up, "t", &l->on_host, l->router_ns, &err), &err);
	/* Again: everything stands already. */
	make(l);
	ok(probe_packet(&l->up, "t", &l->on_host, l->router_ns, &err), &err);
	assert_int_equal(link_index(&l->on_host, "tp"), -ENODEV);

	/* What was borrowed is given back. */
	assert_int_equal(sysctl_restore(l->memo), 0);
	assert_int_equal(sysctl_get("net/ipv4/conf/out/forwarding", v, sizeof(v)), 0);
	assert_string_equal(v, "0");
	assert_int_equal(access(l->memo, F_OK), -1);
	assert_true(nft_present("t"));
	ok(nft_remove("t", &err), &err);
	ok(nft_remove("t", &err), &err);
	assert_false(nft_present("t"));
}

static void test_foreign_firewall(void **state)
{
	struct lab *l = *state;
	struct err err = { .code = 0 };

	outside(l, "192.0.2.7", NULL);
	make(l);
	assert_false(l->up.ipv6);
	ok(nft_load(STR("table ip filter { chain FORWARD { type filter hook forward priority 0; "
			"policy drop;\n}\n}\n"), &err), &err);
	assert_int_equal(probe_packet(&l->up, "t", &l->on_host, l->router_ns, &err), -EHOSTUNREACH);
	assert_non_null(strstr(err.text, "table ip filter chain FORWARD drops by policy"));
	assert_non_null(strstr(err.text, "nft insert rule ip filter FORWARD iifname t0 accept"));
	/* The advice helps. */
	ok(nft_load(STR("insert rule ip filter FORWARD iifname t0 accept\n"
			"insert rule ip filter FORWARD oifname t0 accept\n"), &err), &err);
	ok(probe_packet(&l->up, "t", &l->on_host, l->router_ns, &err), &err);
}

/* A connection from the router to the agent's socket, bound to one of two identical links. */
static bool reaches(struct lab *l, const char *link, struct slotnet *net)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(WEIR_AGENT_PORT),
		.sin_addr.s_addr = htonl(WEIR_LINK_SANDBOX) };
	auto_fd int s = -EBADF, c = -EBADF;
	struct pollfd p = { .fd = net->agent_fd, .events = POLLIN };

	assert_int_equal(netns_visit(&v, l->router_ns), 0);
	s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, link, (socklen_t)strlen(link)), 0);
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		return false;
	if (poll(&p, 1, 60000) != 1)
		return false;
	c = accept4(net->agent_fd, NULL, NULL, SOCK_CLOEXEC);
	return c >= 0;
}

static void test_slots(void **state)
{
	struct lab *l = *state;
	struct slotnet net[2];
	struct err err = { .code = 0 };

	ok(slotnet_gateway(&l->router, &err), &err);
	ok(slotnet_gateway(&l->router, &err), &err); /* stands already */
	for (uint32_t i = 0; i < 2; i++) {
		char name[16];

		snprintf(name, sizeof(name), "w%u", i + 1);
		ok(slotnet_make(&l->router, l->router_ns,
			   &(struct slotnet_plan){ .link = name, .mtu = 1400,
				   .ip4 = ip_plus(l->range4.ip, i + 1),
				   .ip6 = ip_plus(l->range6.ip, i + 1),
				   .overlay = ip_v4(0x0a2a0000u + i + 1),
				   .overlays = prefix_of(ip_v4(0x0a2a0000u), 16) }, &net[i], &err), &err);
	}
	assert_true(reaches(l, "w1", &net[0]));
	assert_true(reaches(l, "w2", &net[1]));
	/* A batch of deletions by group; nothing of the links is left. */
	for (int i = 0; i < 2; i++) {
		ok(link_set_group(&l->router, net[i].ifindex, 77, &err), &err);
		fd_close(net[i].ns);
		fd_close(net[i].agent_fd);
	}
	ok(link_del_group(&l->router, 77, &err), &err);
	assert_int_equal(link_index(&l->router, "w1"), -ENODEV);
	assert_int_equal(link_index(&l->router, "w2"), -ENODEV);
}

/* The priorities of this namespace's rules in their order, and that the local one is where it shall be. */
static void rules_are(const char *family, const char *expected)
{
	char command[64], line[256], got[128] = "";
	unsigned int priority;
	FILE *f;

	snprintf(command, sizeof(command), "ip %s rule show", family);
	f = popen(command, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		assert_int_equal(sscanf(line, "%u:", &priority), 1);
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%u ", priority);
		assert_int_equal(strstr(line, "lookup local") != NULL, priority == 60);
	}
	assert_int_equal(pclose(f), 0);
	assert_string_equal(got, expected);
}

static void test_steering(void **state)
{
	struct lab *l = *state;
	struct steer_sockets one = STEER_NONE, two = STEER_NONE;
	struct netns_visit v = NETNS_HOME;
	struct err err = { .code = 0 };

	ok(steer_routes(&l->router, true, &err), &err);
	ok(steer_routes(&l->router, true, &err), &err); /* stands already */
	assert_int_equal(netns_visit(&v, l->router_ns), 0);
	rules_are("-4", "50 60 100 32766 32767 ");
	rules_are("-6", "50 60 100 32766 ");
	ok(steer_open(true, &one, &err), &err);
	ok(steer_open(true, &two, &err), &err); /* a second worker */
	netns_leave(&v);
	steer_close(&one);
	steer_close(&two);
}

static void test_pin(void **state)
{
	struct lab *l = *state;
	char path[80];
	auto_fd int ns = -EBADF, again = -EBADF;

	snprintf(path, sizeof(path), "%s/router.ns", l->dir);
	assert_int_equal(netns_pinned(path), -ENOENT);
	ns = netns_pin(path);
	assert_true(ns >= 0);
	again = netns_pinned(path);
	assert_true(again >= 0);
	assert_int_equal(netns_inode(ns), netns_inode(again));
	assert_int_equal(netns_unpin(path), 0);
	assert_int_equal(netns_unpin(path), 0);
	assert_int_equal(netns_pinned(path), -ENOENT);
}

static void test_addresses(void **state)
{
	struct lab *l = *state;
	auto_fd int watch = addrs_watch();
	auto_free struct addrs *a = calloc(1, sizeof(*a));
	struct resolv r;
	struct ip own = prefix("192.0.2.7").ip;
	struct err err = { .code = 0 };

	assert_true(watch >= 0);
	assert_false(addrs_changed(watch));
	outside(l, "192.0.2.7", NULL);
	assert_true(addrs_changed(watch));
	assert_false(addrs_changed(watch));
	assert_int_equal(addrs_read(&l->on_host, a), 0);
	assert_true(a->n >= 1 && ip_eq(a->ip[0], own));
	ok(resolv_find((struct ip[]){ own, prefix("127.0.0.53").ip, prefix("192.0.2.8").ip }, 3, 53,
		   "/nonexistent", &l->on_host, &r, &err), &err);
	assert_true(r.n == 3 && r.r[0].in_host && r.r[1].in_host && !r.r[2].in_host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_uplink, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_firewall, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_steering, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_addresses, setup, teardown),
	};

	if (geteuid() != 0) {
		fprintf(stderr, "skipped: needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
