/* sandbox/record: what is written is read back; everything else is refused. */
#include <fcntl.h>
#include "base/fd.h"
#include "sandbox/record.h"
#include "../unit.h"

#define ID "sb-01hv3x5f9k8m7n6p5q4r3s2t1v"

static struct record sample(void)
{
	struct record r = { .id = ID, .boot = 77, .slot = 9, .ifindex = 12, .link = "w41",
		.runtime = "container", .rt = "pid=4711\nlayer=a=b\n" };

	ip_from(STR("10.60.0.9"), &r.ip4);
	ip_from(STR("fd77::9"), &r.ip6);
	return r;
}

static void same(const struct record *a, const struct record *b)
{
	assert_string_equal(a->id, b->id);
	assert_string_equal(a->link, b->link);
	assert_string_equal(a->runtime, b->runtime);
	assert_string_equal(a->rt, b->rt);
	assert_true(a->boot == b->boot && a->slot == b->slot && a->ifindex == b->ifindex);
	assert_true(a->dead == b->dead && a->exit_status == b->exit_status);
	assert_true(ip_eq(a->ip4, b->ip4) && ip_eq(a->ip6, b->ip6));
}

static void test_round_trip(void **state)
{
	struct record r = sample(), back;
	auto_buf struct buf b = BUF_MAX(RECORD_MAX);
	struct err err;

	assert_int_equal(record_encode(&r, &b), 0);
	assert_int_equal(record_decode(buf_str(&b), &back, &err), 0);
	same(&r, &back);

	r.dead = true;
	r.exit_status = -1;
	r.ip6.family = 0;
	memset(r.ip6.a, 0, 16);
	buf_reset(&b);
	assert_int_equal(record_encode(&r, &b), 0);
	assert_int_equal(record_decode(buf_str(&b), &back, &err), 0);
	same(&r, &back);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"id=" ID "\n",
		"id=../../etc/passwd\nboot=1\nslot=1\nifindex=1\nlink=w1\nruntime=container\nip4=10.0.0.1\n",
		"id=" ID "\nboot=1\nslot=1x\nifindex=1\nlink=w1\nruntime=container\nip4=10.0.0.1\n",
		"id=" ID "\nboot=1\nslot=1\nifindex=1\nlink=w1\nruntime=container\nip4=fd77::1\n",
		"id=" ID "\nboot=1\nslot=1\nifindex=1\nlink=w1\nruntime=container\nip4=10.0.0.1\nnew=1\n",
		"id=" ID "\nboot=1\nslot=1\nifindex=1\nlink=an-interface-too-long\nruntime=container\n"
		"ip4=10.0.0.1\n",
	};
	struct record r;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(record_decode(str_c(bad[i]), &r, &err), -EBADMSG);
}

static int count(const char *id, void *arg)
{
	assert_string_equal(id, ID);
	++*(int *)arg;
	return 0;
}

static void test_directory(void **state)
{
	char path[] = "/tmp/weir-record-XXXXXX";
	struct record r = sample(), back;
	struct err err;
	int n = 0, dir;

	assert_non_null(mkdtemp(path));
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(record_save(dir, &r, &err), 0);
	/* What a killed save leaves is cleared away. */
	assert_int_equal(file_replace(dir, ID ".ne", STR("half"), 0600, false), 0);
	assert_int_equal(record_each(dir, count, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(record_load(dir, ID, &back, &err), 0);
	same(&r, &back);
	assert_int_equal(record_remove(dir, ID), 0);
	assert_int_equal(record_remove(dir, ID), 0);
	close(dir);
	assert_int_equal(rmdir(path), 0);
}

static void test_ids(void **state)
{
	assert_true(record_id_ok(ID));
	assert_false(record_id_ok("sb-"));
	assert_false(record_id_ok("sb-01HV3X5F9K8M7N6P5Q4R3S2T1V")); /* one spelling only */
	assert_false(record_id_ok(ID ".new"));
	assert_false(record_id_ok("../" ID));
	assert_true(record_boot() == record_boot() && record_boot() != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_directory),
		cmocka_unit_test(test_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
