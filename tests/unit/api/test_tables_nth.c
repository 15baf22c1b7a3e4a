/*
 * The api role's tables: without memory for one more, that one is refused, and all others are found
 * as before. Enough of them that the tables grow several times.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include "api/auth.h"
#include "api/box.h"
#include "base/fd.h"
#include "../nth.h"

#define BOXES 700
#define KEYS  300

static struct box *box_of(struct api *a, unsigned int i, bool make)
{
	char id[IPC_ID_LEN];

	snprintf(id, sizeof(id), "sb-%u", i);
	return make ? box_new(a, id) : box_find(a, id);
}

static int boxes(void *arg)
{
	static struct api a;
	unsigned int n = 0;

	while (n < BOXES && box_of(&a, n, true))
		n++;
	nth_stop();
	assert_int_equal(HASH_COUNT(a.boxes), n);
	assert_null(box_of(&a, n, false));
	for (unsigned int i = 0; i < n; i++) {
		assert_non_null(box_of(&a, i, false));
		box_forget(box_of(&a, i, false));
	}
	assert_null(a.boxes);
	return n == BOXES ? 0 : -ENOMEM;
}

static void a_box_that_finds_no_memory_fails_alone(void **state)
{
	nth_each("boxes", boxes, NULL, BOXES + 3);
}

static int count_key(const struct key_row *k, void *arg)
{
	++*(unsigned int *)arg;
	return 0;
}

static int keys(void *arg)
{
	auto_secret struct secret text = SECRET_NONE;
	struct store *s = arg;
	struct keyring *k = NULL;
	struct err err = { 0 };
	struct principal p;
	struct key_row row;
	unsigned int stored = 0;
	bool created = false;
	int r = keyring_open(s, -1, &k, &created, &err);

	assert_false(created);
	if (r == 0)
		r = keyring_add(k, STR("one more"), "", false, &row, &text, &err);
	nth_stop();
	assert_int_equal(store_keys(s, UINT32_MAX, 0, count_key, &stored, NULL, NULL), 0);
	assert_int_equal(stored, KEYS + (r == 0));
	if (k)
		assert_int_equal(keyring_check(k, secret_reveal(&text), &p), r == 0 ? 0 : -ENOENT);
	if (r == 0)
		assert_int_equal(keyring_revoke(k, row.id, &err), 0);
	else
		assert_true(err.text[0]);
	keyring_free(k);
	return r;
}

static void a_key_that_finds_no_memory_is_nobodys(void **state)
{
	char dir[] = "/dev/shm/weir-tables-XXXXXX", path[64];
	auto_fd int fd = mkdtemp(dir) ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	struct store_spec spec = { .dir = fd, .name = "t.db" };
	struct store *s;

	assert_int_equal(store_open(&spec, &s, NULL), 0);
	assert_int_equal(store_begin(s, NULL), 0);
	assert_int_equal(store_user_add(s, "usr-1", "one", NULL), 0);
	for (unsigned int i = 0; i < KEYS; i++) {
		struct key_row row = { .admin = i == 0, .user = "usr-1", .name = "k", .hint = "h" };

		snprintf(row.id, sizeof(row.id), "key-%u", i);
		memcpy(row.hash, &i, sizeof(i));
		assert_int_equal(store_key_add(s, &row, NULL), 0);
	}
	assert_int_equal(store_commit(s, NULL), 0);
	nth_each("keys", keys, s, KEYS + 1);
	store_close(s);
	for (const char *const *end = (const char *const[]){ "", "-wal", "-shm", NULL }; *end; end++) {
		snprintf(path, sizeof(path), "%s/t.db%s", dir, *end);
		unlink(path);
	}
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_box_that_finds_no_memory_fails_alone),
		cmocka_unit_test(a_key_that_finds_no_memory_is_nobodys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
