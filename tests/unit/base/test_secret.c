/*
 * secret: what is written never moves and is erased before it is freed, whatever ended it; an empty one
 * is nothing. The file is in here with a free() that looks at what it is given.
 */
#include <fcntl.h>
#include "base/fd.h"

static void seen_free(void *p);
#define free seen_free
#include "../../../src/base/secret.c"
#undef free
#include "../unit.h"

static char *watched; /* the memory that seen_free() looks at */
static size_t watched_n;
static unsigned int freed, left; /* how often, and bytes that were not erased */

static void seen_free(void *p)
{
	if (p && p == watched) {
		freed++;
		left = 0;
		for (size_t i = 0; i < watched_n; i++)
			left += watched[i] != 0;
	}
	free(p);
}

static void watch(const struct secret *s)
{
	watched = s->hidden.p;
	watched_n = s->hidden.cap + 1;
	freed = 0;
	left = UINT32_MAX;
}

static void erased_at_the_end_of_its_scope(void **state)
{
	char *plain;

	{
		auto_secret struct secret s = SECRET_NONE;

		assert_int_equal(secret_copy(&s, STR("weir_0123456789")), 0);
		watch(&s);
		assert_memory_equal(watched, "weir_0123456789", 16);
	}
	assert_int_equal(freed, 1);
	assert_int_equal(left, 0);

	plain = strdup("weir_0123456789"); /* the control: what is only freed is seen */
	watched = plain;
	watched_n = 16;
	seen_free(plain);
	assert_int_equal(left, 15);
}

static void erased_by_what_replaces_it(void **state)
{
	auto_secret struct secret s = SECRET_NONE;

	for (int how = 0; how < 4; how++) {
		assert_int_equal(secret_copy(&s, STR("before")), 0);
		watch(&s);
		if (how == 0)
			assert_int_equal(secret_copy(&s, STR("after")), 0);
		else if (how == 1)
			assert_int_equal(secret_room(&s, 10), 0);
		else if (how == 2)
			assert_int_equal(secret_random(&s, STR("p_")), 0);
		else
			assert_int_equal(secret_room(&s, SECRET_MAX + 1), -EFBIG);
		assert_int_equal(freed, 1);
		assert_int_equal(left, 0);
	}
	assert_true(secret_empty(&s));
}

static void what_was_cut_is_erased_too(void **state)
{
	auto_secret struct secret s = SECRET_NONE;

	assert_int_equal(secret_copy(&s, STR("prefix:rest")), 0);
	buf_consume(secret_writer(&s), 7);
	assert_string_equal(secret_reveal(&s).p, "rest");
	watch(&s);
	secret_done(&s);
	assert_int_equal(left, 0);
	secret_done(&s); /* again is well */
	assert_int_equal(freed, 1);
}

static void it_does_not_move_and_does_not_grow(void **state)
{
	auto_secret struct secret s = SECRET_NONE;
	const char *at;

	assert_int_equal(secret_room(&s, 1000), 0);
	at = s.hidden.p;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf_add(secret_writer(&s), "x", 1), 0);
	assert_ptr_equal(secret_reveal(&s).p, at);
	assert_int_equal(secret_reveal(&s).n, 1000);
	assert_int_equal(buf_add(secret_writer(&s), "xx", 2), -EFBIG);
	assert_ptr_equal(s.hidden.p, at);

	assert_int_equal(secret_room(&s, 5), 0); /* buf_fmt()'s NUL has its place */
	assert_int_equal(buf_fmt(secret_writer(&s), "%05d", 7), 0);
	assert_string_equal(secret_reveal(&s).p, "00007");
	assert_int_equal(buf_fmt(secret_writer(&s), "8"), -EFBIG);
}

static void a_file_fits_to_the_byte(void **state)
{
	auto_secret struct secret s = SECRET_NONE;
	auto_fd int fd = memfd_sealed("secret", STR("12345678"));
	char path[40];

	assert_true(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(secret_room(&s, 8), 0);
	assert_int_equal(file_read(AT_FDCWD, path, secret_writer(&s)), 0);
	assert_true(secret_is(&s, STR("12345678")));
	assert_int_equal(secret_room(&s, 7), 0);
	assert_int_equal(file_read(AT_FDCWD, path, secret_writer(&s)), -EFBIG);
}

static void only_the_same_is_the_same(void **state)
{
	auto_secret struct secret s = SECRET_NONE;

	assert_false(secret_is(&s, STR(""))); /* no secret fits nothing */
	assert_int_equal(secret_copy(&s, STR("")), 0);
	assert_false(secret_is(&s, STR("")));
	assert_int_equal(secret_copy(&s, STR("weir_abc")), 0);
	assert_true(secret_is(&s, STR("weir_abc")));
	assert_false(secret_is(&s, STR("weir_abd")));
	assert_false(secret_is(&s, STR("weir_ab")));
	assert_false(secret_is(&s, STR("weir_abcd")));
	assert_false(secret_is(&s, STR_NONE));
}

static void handed_over_it_is_one_still(void **state)
{
	auto_secret struct secret a = SECRET_NONE, b = SECRET_NONE;

	assert_int_equal(secret_copy(&a, STR("one")), 0);
	watch(&a);
	b = secret_take(&a);
	assert_true(secret_empty(&a));
	assert_true(secret_is(&b, STR("one")));
	secret_done(&a);
	assert_int_equal(freed, 0);
	assert_int_equal(secret_copy(&b, secret_reveal(&b)), 0); /* of itself */
	assert_int_equal(freed, 1);
	assert_int_equal(left, 0);
	assert_true(secret_is(&b, STR("one")));
}

static void random_ones_differ(void **state)
{
	auto_secret struct secret a = SECRET_NONE, b = SECRET_NONE;
	struct str text;

	assert_int_equal(secret_random(&a, STR("weir_")), 0);
	assert_int_equal(secret_random(&b, STR("weir_")), 0);
	assert_false(secret_is(&a, secret_reveal(&b)));
	text = secret_reveal(&a);
	assert_int_equal(text.n, 5 + SECRET_RANDOM_LEN);
	assert_true(str_starts(text, STR("weir_")));
	for (size_t i = 5; i < text.n; i++)
		assert_non_null(strchr("0123456789abcdef", text.p[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(erased_at_the_end_of_its_scope),
		cmocka_unit_test(erased_by_what_replaces_it),
		cmocka_unit_test(what_was_cut_is_erased_too),
		cmocka_unit_test(it_does_not_move_and_does_not_grow),
		cmocka_unit_test(a_file_fits_to_the_byte),
		cmocka_unit_test(only_the_same_is_the_same),
		cmocka_unit_test(handed_over_it_is_one_still),
		cmocka_unit_test(random_ones_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
