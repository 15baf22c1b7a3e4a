/*
 * The configuration: defaults, files that must be read (config/good.*), files whose every
 * complaint is written in their own first comments (config/bad.*), and the example file, which
 * must be what the table prints. `test_wire_config --example` prints it.
 */
#include "../unit.h"
#include <dirent.h>
#include <fcntl.h>
#include "base/fd.h"
#include "base/log.h"
#include "wire/config.h"

static void load(const char *path, struct buf *out)
{
	int r = file_read(AT_FDCWD, path, out);

	if (r < 0)
		fail_msg("%s: %s", path, strerror(-r));
}

/* What was accepted can be printed and read back, with the same meaning. */
static void assert_round_trip(const struct config *c)
{
	auto_buf struct buf text = BUF_MAX(1 << 20), again = BUF_MAX(1 << 20),
			    complaints = BUF_MAX(4096);
	struct config back;

	config_defaults(&back);
	assert_int_equal(config_print(c, true, &text), 0);
	assert_int_equal(config_read(&back, "printed", buf_str(&text), &complaints), 0);
	assert_int_equal(config_print(&back, true, &again), 0);
	assert_true(str_eq(buf_str(&text), buf_str(&again)));
}

static void defaults(void **state)
{
	auto_buf struct buf complaints = BUF_MAX(4096);
	struct config c;

	config_defaults(&c);
	assert_string_equal(c.daemon_name, "weir");
	assert_string_equal(c.state_dir, "/var/lib/weir");
	assert_int_equal(c.log_level, LOG_INFO);
	assert_int_equal(c.api_listen.n, 1);
	assert_int_equal(c.api_listen.at[0].port, 8080);
	assert_string_equal(c.api_listen.at[0].dialect, "all");
	assert_string_equal(prefix_text(c.net_range4).s, "10.60.0.0/16");
	assert_string_equal(prefix_text(c.net_range6).s, "fd77:6569:7200::/64");
	assert_string_equal(prefix_text(c.net_overlay4).s, "10.42.0.0/16");
	assert_true(c.net_ipv6);
	assert_int_equal(c.dns_upstream.n, 0);
	assert_int_equal(c.dns_upstream_port, 53);
	assert_true(c.egress_reject);
	assert_false(c.egress_other_protocols);
	assert_false(c.egress_smtp);
	assert_int_equal(c.uid_base, 1048576);
	assert_int_equal(c.destroyed_keep_hours, 24);
	assert_false(c.store_sync_full);
	assert_string_equal(c.disk_backend, "auto");
	assert_string_equal(c.rootfs_default, "devbox:1");
	assert_string_equal(c.runtime_default, "auto");
	assert_string_equal(c.cgroup_root, "");
	assert_int_equal(config_finish(&c, &complaints), 0);
	assert_string_equal(c.image_dir, "/var/lib/weir/images");
	assert_string_equal(c.cgroup_root, "weir");
	assert_round_trip(&c);
}

/* Every default goes through its own key's limits: read the table's output from nothing. */
static void defaults_pass_their_own_limits(void **state)
{
	auto_buf struct buf text = BUF_MAX(1 << 20), again = BUF_MAX(1 << 20),
			    complaints = BUF_MAX(65536);
	struct config c;

	config_defaults(&c);
	config_print(&c, false, &text);
	memset(&c, 0xff, sizeof(c));
	assert_int_equal(config_read(&c, "defaults", buf_str(&text), &complaints), 0);
	config_print(&c, false, &again);
	assert_true(str_eq(buf_str(&text), buf_str(&again)));
}

static void good_files(void **state)
{
	const char *dir = TEST_SOURCE_ROOT "/tests/unit/wire/config";
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned int files = 0;

	assert_non_null(d);
	while ((e = readdir(d))) {
		auto_buf struct buf text = BUF_MAX(65536), complaints = BUF_MAX(65536);
		char path[512];
		struct config c;

		if (!str_starts(str_c(e->d_name), STR("good.")))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		load(path, &text);
		config_defaults(&c);
		if (config_read(&c, e->d_name, buf_str(&text), &complaints) < 0)
			fail_msg("%s", buf_cstr(&complaints));
		assert_int_equal(complaints.n, 0);
		assert_round_trip(&c);
		files++;
	}
	closedir(d);
	assert_int_equal(files, 4);
}

static void good_values(void **state)
{
	auto_buf struct buf text = BUF_MAX(65536), complaints = BUF_MAX(65536);
	struct config c;

	load(TEST_SOURCE_ROOT "/tests/unit/wire/config/good.all_kinds", &text);
	config_defaults(&c);
	assert_int_equal(config_read(&c, "f", buf_str(&text), &complaints), 0);
	assert_string_equal(c.daemon_name, "w-2");
	assert_int_equal(c.log_level, LOG_DEBUG);
	assert_int_equal(c.api_listen.n, 3);
	assert_int_equal(c.api_listen.at[0].port, 0);
	assert_string_equal(c.api_listen.at[0].dialect, "createos");
	assert_string_equal(ip_text(c.api_listen.at[1].ip).s, "::1");
	assert_string_equal(c.api_listen.at[2].dialect, "sandbox0");
	assert_false(c.net_ipv6);
	assert_int_equal(c.dns_upstream.n, 2);
	assert_string_equal(ip_text(c.dns_upstream.ip[1]).s, "2620:fe::fe");
	assert_int_equal(c.dns_upstream_port, 5353);
	assert_false(c.egress_reject);
	assert_int_equal(c.floor_deny.n, 3);
	assert_string_equal(prefix_text(c.floor_deny.p[2]).s, "198.51.100.7/32");
	assert_int_equal(c.floor_allow.n, 0);
}

/* Lines "# expect <line>: <text>" of a bad file, against the complaints, one for one. */
static void check_bad(const char *name, struct str text, struct str complaints)
{
	while (text.p) {
		struct str line = str_cut(&text, '\n'), got;
		char want[512];

		if (!str_starts(line, STR("# expect ")))
			continue;
		snprintf(want, sizeof(want), "%s:" STR_FMT, name, STR_ARG(str_skip(line, 9)));
		got = str_cut(&complaints, '\n');
		if (!str_starts(got, str_c(want)))
			fail_msg("want '%s', got '" STR_FMT "'", want, STR_ARG(got));
	}
	if (complaints.n)
		fail_msg("%s: unexpected '" STR_FMT "'", name, STR_ARG(complaints));
}

static void bad_files(void **state)
{
	const char *dir = TEST_SOURCE_ROOT "/tests/unit/wire/config";
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned int files = 0;

	assert_non_null(d);
	while ((e = readdir(d))) {
		auto_buf struct buf text = BUF_MAX(65536), complaints = BUF_MAX(65536),
				    before = BUF_MAX(65536), after = BUF_MAX(65536);
		char path[512];
		struct config c;

		if (!str_starts(str_c(e->d_name), STR("bad.")))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		load(path, &text);
		config_defaults(&c);
		config_print(&c, false, &before);
		assert_int_equal(
			config_read(&c, e->d_name, buf_str(&text), &complaints), -EINVAL);
		check_bad(e->d_name, buf_str(&text), buf_str(&complaints));
		config_print(&c, false, &after); /* what was refused changed nothing */
		assert_true(str_eq(buf_str(&before), buf_str(&after)));
		files++;
	}
	closedir(d);
	assert_int_equal(files, 6);
}

static void one_setting(void **state)
{
	struct err err = { 0 };
	struct config c;

	config_defaults(&c);
	assert_int_equal(config_set(&c, STR("pool.slots=0"), &err), 0);
	assert_int_equal(c.pool_slots, 0);
	assert_int_equal(config_set(&c, STR("pool.slots=1025"), &err), -EINVAL);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_string_equal(err.field, "pool.slots");
	assert_int_equal(c.pool_slots, 0);
	assert_int_equal(config_set(&c, STR("uid.base=35061759"), &err), 0);
	assert_int_equal(config_set(&c, STR("uid.base=35061760"), &err), -EINVAL);
	assert_int_equal(config_set(&c, STR(""), &err), -EINVAL);
	assert_int_equal(config_set(&c, STR("pool.slots"), NULL), -EINVAL);
}

static void list_limits(void **state)
{
	auto_buf struct buf b = BUF_MAX(65536);
	struct config c;

	config_defaults(&c);
	buf_add_c(&b, "floor.deny = ");
	for (int i = 0; i < CONFIG_LIST_MAX; i++)
		buf_fmt(&b, "%s10.%d.0.0/16", i ? "," : "", i);
	assert_int_equal(config_set(&c, buf_str(&b), NULL), 0);
	assert_int_equal(c.floor_deny.n, CONFIG_LIST_MAX);
	buf_add_c(&b, ",11.0.0.0/8");
	assert_int_equal(config_set(&c, buf_str(&b), NULL), -EINVAL);
	assert_int_equal(c.floor_deny.n, CONFIG_LIST_MAX);

	buf_reset(&b);
	buf_add_c(&b, "api.listen = 1.1.1.1:1");
	for (int i = 1; i < CONFIG_LISTEN_MAX; i++)
		buf_fmt(&b, ", 1.1.1.1:%d", i);
	assert_int_equal(config_set(&c, buf_str(&b), NULL), 0);
	buf_add_c(&b, ", 1.1.1.1:9");
	assert_int_equal(config_set(&c, buf_str(&b), NULL), -EINVAL);
	assert_int_equal(c.api_listen.n, CONFIG_LISTEN_MAX);
}

static void keys_together(void **state)
{
	auto_buf struct buf complaints = BUF_MAX(4096);
	struct config c;

	config_defaults(&c);
	assert_int_equal(config_set(&c, STR("net.overlay4 = 10.60.4.0/24"), NULL), 0);
	assert_int_equal(config_finish(&c, &complaints), -EINVAL);
	assert_true(str_starts(buf_str(&complaints), STR("net.overlay4: 10.60.4.0/24 overlaps")));
	config_defaults(&c);
	assert_int_equal(config_set(&c, STR("cgroup.root = boxes"), NULL), 0);
	assert_int_equal(config_set(&c, STR("daemon.image_dir = /srv/images"), NULL), 0);
	assert_int_equal(config_finish(&c, &complaints), 0);
	assert_string_equal(c.cgroup_root, "boxes");
	assert_string_equal(c.image_dir, "/srv/images");
}

/* Where clients are told to go is a place that the proxy takes for none of a sandbox's names. */
static void an_address_for_each_mode(void **state)
{
	static const struct {
		const char *mode, *address, *says;
	} v[] = {
		{ "wildcard", "", NULL }, { "wildcard", "*.box.test", NULL }, { "wildcard", "*.box.test:8443", NULL },
		{ "header", "", NULL }, { "header", "gate.test", NULL }, { "uri", "10.1.2.3:8081", NULL },
		{ "uri", "[::1]:8081", NULL }, { "header", "[2001:db8::1]", NULL }, { "uri", "box.test", NULL },
		{ "uri", "a.b.box.test", NULL }, { "off", "*.other.test", NULL },
		{ "wildcard", "box.test", "gateway.address: with gateway.mode = wildcard expected *.box.test" },
		{ "wildcard", "*.other.test", "gateway.address: with gateway.mode = wildcard expected *.box.test" },
		{ "wildcard", "*.a.box.test", "gateway.address: with gateway.mode = wildcard expected *.box.test" },
		{ "header", "*.box.test", "gateway.address: with gateway.mode = header expected a host without *." },
		{ "uri", "gate.box.test:1", "gateway.address: names right below ingress.domain box.test are" },
	};
	static const char *const wrong[] = { "gateway.address = http://x", "gateway.address = x/y",
		"gateway.address = x:", "gateway.address = x:0", "gateway.address = x:65536",
		"gateway.address = x:080", "gateway.address = [::1", "gateway.address = ::1",
		"gateway.address = [10.1.2.3]", "gateway.address = [::1]x", "gateway.address = *.",
		"gateway.address = *", "gateway.address = a..b", "gateway.address = *.[::1", "gateway.mode = host",
		"gateway.mode =", "gateway.keys = relative" };

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		auto_buf struct buf complaints = BUF_MAX(4096), mode = BUF_MAX(300), address = BUF_MAX(300);
		struct config c;

		config_defaults(&c);
		buf_fmt(&mode, "gateway.mode = %s", v[i].mode);
		buf_fmt(&address, "gateway.address = %s", v[i].address);
		assert_int_equal(config_set(&c, STR("ingress.domain = box.test"), NULL), 0);
		assert_int_equal(config_set(&c, buf_str(&mode), NULL), 0);
		assert_int_equal(config_set(&c, buf_str(&address), NULL), 0);
		assert_int_equal(config_finish(&c, &complaints), v[i].says ? -EINVAL : 0);
		if (v[i].says && !str_starts(buf_str(&complaints), str_c(v[i].says)))
			fail_msg("%zu: " STR_FMT, i, STR_ARG(buf_str(&complaints)));
		assert_round_trip(&c);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct config c;

		config_defaults(&c);
		if (config_set(&c, str_c(wrong[i]), NULL) != -EINVAL)
			fail_msg("%s", wrong[i]);
	}
}

static void print_example(struct buf *out)
{
	struct config c;

	config_defaults(&c);
	assert_int_equal(config_print(&c, true, out), 0);
}

static void example_is_current(void **state)
{
	auto_buf struct buf want = BUF_MAX(65536), have = BUF_MAX(65536);

	print_example(&want);
	load(TEST_SOURCE_ROOT "/doc/weird.conf.example", &have);
	if (!str_eq(buf_str(&want), buf_str(&have)))
		fail_msg("%s", "doc/weird.conf.example is old: test_wire_config --example prints it");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(defaults_pass_their_own_limits),
		cmocka_unit_test(good_files),
		cmocka_unit_test(good_values),
		cmocka_unit_test(bad_files),
		cmocka_unit_test(one_setting),
		cmocka_unit_test(list_limits),
		cmocka_unit_test(keys_together), cmocka_unit_test(an_address_for_each_mode),
		cmocka_unit_test(example_is_current),
	};

	if (argc == 2 && str_eq_c(STR("--example"), argv[1])) {
		auto_buf struct buf out = BUF_MAX(65536);

		print_example(&out);
		fwrite(out.p, 1, out.n, stdout);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
