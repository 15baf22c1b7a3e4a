/* store: what is committed is read back after a crash; names, ids and versions keep their rules. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "api/store/db.h"
#include "base/fd.h"
#include "../unit.h"

static char dir[] = "/tmp/weir-store-XXXXXX";
static int dir_fd = -EBADF;
static unsigned int databases;
static char name[32];

static struct store *open_it(void)
{
	struct store_spec spec = { .dir = dir_fd, .name = name };
	struct store *s;
	struct err err;

	if (store_open(&spec, &s, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

static int fresh(void **state)
{
	snprintf(name, sizeof(name), "t%u.db", databases++);
	return 0;
}

static struct sandbox_row row_of(const char *id, const char *user, const char *label,
	enum life_state state, uint64_t created)
{
	struct sandbox_row r = { .state = state, .created_ms = created, .slot = 7,
		.policy_json = (char *)"[\"a.example\"]", .envs = (char *)"{}", .ssh_keys = (char *)"[]",
		.reason = (char *)"", .out_base = -5, .out_used = 1ull << 52 };

	snprintf(r.id, sizeof(r.id), "%s", id);
	snprintf(r.user, sizeof(r.user), "%s", user);
	snprintf(r.name, sizeof(r.name), "%s", label);
	return r;
}

static int add(struct store *s, const char *id, const char *user, const char *label,
	enum life_state state, uint64_t created)
{
	struct sandbox_row r = row_of(id, user, label, state, created);
	struct err err;

	return store_sandbox_add(s, &r, &err);
}

static void rows_come_back_whole(void **state)
{
	struct store *s = open_it();
	struct sandbox_row got;
	struct err err;

	assert_int_equal(store_user_add(s, "u1", "one", &err), 0);
	assert_int_equal(add(s, "sb-1", "u1", "a", LIFE_RUNNING, 10), 0);
	store_close(s);
	s = open_it(); /* migrations know that they were applied */
	assert_int_equal(store_sandbox_get(s, "sb-1", &got, &err), 0);
	assert_string_equal(got.name, "a");
	assert_string_equal(got.policy_json, "[\"a.example\"]");
	assert_int_equal(got.state, LIFE_RUNNING);
	assert_int_equal(got.slot, 7);
	assert_true(got.out_base == -5 && got.out_used == 1ull << 52);
	sandbox_row_done(&got);
	assert_int_equal(store_sandbox_get(s, "sb-2", &got, &err), -ENOENT);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	store_close(s);
}

static void names_are_unique_among_the_living(void **state)
{
	struct store *s = open_it();
	struct sandbox_row r;
	struct err err;

	store_user_add(s, "u1", "one", &err);
	store_user_add(s, "u2", "two", &err);
	assert_int_equal(add(s, "sb-1", "u1", "a", LIFE_RUNNING, 1), 0);
	assert_int_equal(add(s, "sb-2", "u1", "a", LIFE_CREATING, 2), -EEXIST);
	assert_int_equal(add(s, "sb-2", "u2", "a", LIFE_CREATING, 2), 0);
	r = row_of("sb-1", "u1", "a", LIFE_DESTROYING, 1);
	assert_int_equal(store_sandbox_save(s, &r, &err), 0);
	assert_int_equal(add(s, "sb-3", "u1", "a", LIFE_CREATING, 3), 0);
	/* and a foreign key holds */
	assert_int_equal(add(s, "sb-4", "nobody", "b", LIFE_CREATING, 3), -EEXIST);
	r = row_of("sb-9", "u1", "z", LIFE_RUNNING, 1);
	assert_int_equal(store_sandbox_save(s, &r, &err), -ENOENT);
	store_close(s);
}

static void a_killed_writer_loses_only_what_it_did_not_commit(void **state)
{
	int status, ready[2];
	struct sandbox_row got;
	struct store *s;
	struct err err;
	char c;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		s = open_it();
		store_user_add(s, "u1", "one", &err);
		add(s, "sb-1", "u1", "a", LIFE_RUNNING, 1);
		store_begin(s, &err);
		add(s, "sb-2", "u1", "b", LIFE_RUNNING, 2);
		(void)!write(ready[1], "x", 1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	s = open_it();
	assert_int_equal(store_sandbox_get(s, "sb-1", &got, &err), 0);
	sandbox_row_done(&got);
	assert_int_equal(store_sandbox_get(s, "sb-2", &got, &err), -ENOENT);
	store_close(s);
}

static int count_row(struct sandbox_row *r, void *arg)
{
	char *order = arg;
	size_t n = strlen(order);

	order[n] = r->id[3];
	order[n + 1] = '\0';
	return 0;
}

static void lists(void **state)
{
	uint64_t total, counts[LIFE_STATES];
	struct store *s = open_it();
	char order[16] = "";
	struct err err;

	store_user_add(s, "u1", "one", &err);
	store_user_add(s, "u2", "two", &err);
	add(s, "sb-1", "u1", "a", LIFE_RUNNING, 1);
	add(s, "sb-2", "u1", "b", LIFE_PAUSED, 2);
	add(s, "sb-3", "u1", "c", LIFE_DESTROYED, 3);
	add(s, "sb-4", "u2", "d", LIFE_RUNNING, 4);
	assert_int_equal(store_sandboxes(s, "u1", UINT32_MAX, 2, 0, count_row, order, &total, &err), 0);
	assert_string_equal(order, "32");
	assert_int_equal(total, 3);
	order[0] = '\0';
	assert_int_equal(store_sandboxes(s, NULL, 1u << LIFE_RUNNING, 9, 0, count_row, order, &total,
				 &err), 0);
	assert_string_equal(order, "41");
	order[0] = '\0';
	assert_int_equal(store_sandboxes(s, "u1", 0, 9, 0, count_row, order, &total, &err), 0);
	assert_int_equal(total, 0);
	assert_int_equal(store_sandbox_counts(s, "u1", counts, &err), 0);
	assert_int_equal(counts[LIFE_PAUSED], 1);
	assert_int_equal(counts[LIFE_ERROR], 0);
	store_close(s);
}

struct asker {
	struct store *s;
	int seen;
};

/* A row is shown: meanwhile more lists are asked for than statements are kept. */
static int ask_more(struct sandbox_row *r, void *arg)
{
	struct asker *a = arg;
	char order[16] = "";
	uint64_t total;
	struct err err;

	a->seen++;
	for (uint32_t states = 1; states < 2 * DB_MADE_MAX; states++) {
		uint64_t running = states >> LIFE_RUNNING & 1;

		order[0] = '\0';
		assert_int_equal(store_sandboxes(a->s, NULL, states, 9, 0, count_row, order, &total, &err),
			0);
		assert_int_equal(total, 2 * running);
		assert_string_equal(order, running ? "21" : "");
	}
	return 0;
}

static void lists_of_many_kinds_at_once(void **state)
{
	struct asker a = { open_it(), 0 };
	struct err err;

	_Static_assert(1u << LIFE_RUNNING < 2 * DB_MADE_MAX, "some of the lists have rows");
	store_user_add(a.s, "u1", "one", &err);
	add(a.s, "sb-1", "u1", "a", LIFE_RUNNING, 1);
	add(a.s, "sb-2", "u1", "b", LIFE_RUNNING, 2);
	for (int again = 0; again < 2; again++)
		assert_int_equal(store_sandboxes(a.s, "u1", UINT32_MAX, 9, 0, ask_more, &a, NULL, &err), 0);
	assert_int_equal(a.seen, 4);
	store_close(a.s);
}

static void policy_ids_are_never_used_twice(void **state)
{
	struct store *s = open_it();
	uint32_t a, b, c;
	struct err err;

	assert_int_equal(store_policy_ids(s, 10, &a, &err), 0);
	store_close(s);
	s = open_it();
	assert_int_equal(store_policy_ids(s, 1, &b, &err), 0);
	assert_true(b >= a + 10);
	assert_int_equal(store_policy_seen(s, 500, &err), 0);
	assert_int_equal(store_policy_seen(s, 3, &err), 0);
	assert_int_equal(store_policy_ids(s, 1, &c, &err), 0);
	assert_true(c > 500);
	store_close(s);
}

static int count_version(const struct version_row *v, void *arg)
{
	uint32_t *n = arg;

	assert_true(str_eq_c(v->json, "[]"));
	(*n)++;
	return 0;
}

static void versions_and_sweeping(void **state)
{
	struct version_row v = { .sandbox = "sb-1", .json = STR("[]"), .at_ms = 1 };
	struct store *s = open_it();
	struct sandbox_row r, got;
	uint64_t total;
	uint32_t n = 0;
	struct err err;

	store_user_add(s, "u1", "one", &err);
	add(s, "sb-1", "u1", "a", LIFE_RUNNING, 1);
	for (v.version = 1; v.version <= 150; v.version++) {
		v.policy = v.version;
		assert_int_equal(store_version_add(s, &v, &err), 0);
	}
	assert_int_equal(store_versions(s, "sb-1", 500, 0, count_version, &n, &total, &err), 0);
	assert_true(n == total && n == STORE_VERSIONS_KEPT); /* bounded */
	v.version = 200;
	v.policy = 150;
	assert_int_equal(store_version_add(s, &v, &err), -EEXIST); /* a policy id, again */
	assert_int_equal(store_note(s, "sb-1", "pause", "why", &err), 0);
	assert_int_equal(store_sweep(s, 100, &err), 0);
	r = row_of("sb-1", "u1", "a", LIFE_DESTROYED, 1);
	r.destroyed_ms = 99;
	store_sandbox_save(s, &r, &err);
	assert_int_equal(store_sweep(s, 99, &err), 0);
	assert_int_equal(store_sweep(s, 100, &err), 1);
	assert_int_equal(store_sandbox_get(s, "sb-1", &got, &err), -ENOENT);
	store_close(s);
}

static int same_key(const struct key_row *k, void *arg)
{
	const struct key_row *want = arg;

	assert_string_equal(k->id, want->id);
	assert_string_equal(k->user, want->user);
	assert_string_equal(k->name, want->name);
	assert_string_equal(k->hint, want->hint);
	assert_memory_equal(k->hash, want->hash, sizeof(k->hash));
	assert_true(k->admin == want->admin && k->created_ms == want->created_ms);
	return 0;
}

static int same_token(const struct token_row *t, void *arg)
{
	const struct token_row *want = arg;

	assert_string_equal(t->id, want->id);
	assert_string_equal(t->sandbox, want->sandbox);
	assert_string_equal(t->name, want->name);
	assert_string_equal(t->hint, want->hint);
	assert_memory_equal(t->digest, want->digest, sizeof(t->digest));
	assert_true(t->port == want->port && t->created_ms == want->created_ms &&
		t->expires_ms == want->expires_ms);
	return -ECANCELED; /* seen */
}

static void keys_and_tokens_come_back_whole(void **state)
{
	struct key_row key = { .id = "key-1", .user = "u1", .name = "mine", .hint = "weir_12…",
		.hash = { 0, 0x9a, 0xff }, .admin = true, .created_ms = 1ull << 41 };
	struct token_row token = { .id = "tok-1", .sandbox = "sb-1", .name = "visitor", .hint = "wit_",
		.port = 65535, .digest = { 0xf0, 1 }, .created_ms = 5, .expires_ms = 1ull << 42 };
	struct store *s = open_it();
	struct err err;
	uint64_t total;

	store_user_add(s, "u1", "one", &err);
	add(s, "sb-1", "u1", "a", LIFE_RUNNING, 1);
	assert_int_equal(store_key_add(s, &key, &err), 0);
	assert_int_equal(store_token_add(s, &token, &err), 0);
	store_close(s);
	s = open_it();
	assert_int_equal(store_keys(s, 9, 0, same_key, &key, &total, &err), 0);
	assert_int_equal(total, 1);
	assert_int_equal(store_tokens(s, same_token, &token, &err), -ECANCELED);

	snprintf(key.id, sizeof(key.id), "key-2"); /* the same digest: the same key */
	assert_int_equal(store_key_add(s, &key, &err), -EEXIST);
	assert_int_equal(store_key_delete(s, "key-2", &err), -ENOENT);
	assert_int_equal(store_key_delete(s, "key-1", &err), 0);
	assert_int_equal(store_keys(s, 9, 0, same_key, NULL, &total, &err), 0);
	assert_int_equal(total, 0);
	assert_int_equal(store_user_exists(s, "u1", &err), 1);
	assert_int_equal(store_user_exists(s, "u2", &err), 0);
	store_close(s);
}

static int stop_at_second(const struct network_row *n, void *arg)
{
	return ++*(int *)arg == 2 ? -ECANCELED : 0;
}

static int member(const char *network, const char *sandbox, void *arg)
{
	assert_string_equal(network, "net-1");
	++*(int *)arg;
	return 0;
}

static void networks_and_members(void **state)
{
	struct network_row n = { .user = "u1", .created_ms = 1 };
	uint32_t first, second;
	struct store *s = open_it();
	struct err err;
	uint64_t total;
	int seen = 0;

	store_user_add(s, "u1", "one", &err);
	add(s, "sb-1", "u1", "a", LIFE_RUNNING, 1);
	assert_int_equal(store_network_number(s, &first, &err), 0);
	assert_int_equal(store_network_number(s, &second, &err), 0);
	assert_int_equal(second, first + 1);
	for (char i = '1'; i <= '3'; i++) {
		n.number = (uint32_t)i;
		snprintf(n.id, sizeof(n.id), "net-%c", i);
		snprintf(n.name, sizeof(n.name), "n%c", i);
		assert_int_equal(store_network_add(s, &n, &err), 0);
	}
	assert_int_equal(store_network_add(s, &n, &err), -EEXIST);
	assert_int_equal(store_networks(s, "u1", 9, 0, stop_at_second, &seen, &total, &err),
		-ECANCELED);
	assert_int_equal(seen, 2);
	seen = 2;
	assert_int_equal(store_networks(s, "u1", 1, 1, stop_at_second, &seen, &total, &err), 0);
	assert_true(seen == 3 && total == 3);

	assert_int_equal(store_member_add(s, "net-1", "sb-1", &err), 0);
	assert_int_equal(store_member_add(s, "net-1", "sb-9", &err), -EEXIST); /* nobody */
	assert_int_equal(store_network_drop(s, "net-1", &err), -EEXIST); /* somebody is in it */
	seen = 0;
	assert_int_equal(store_members(s, member, &seen, &err), 0);
	assert_int_equal(seen, 1);
	assert_int_equal(store_member_clear(s, "sb-1", &err), 0);
	assert_int_equal(store_network_drop(s, "net-1", &err), 0);
	store_close(s);
}

/* A failed sweep's transaction is its own: one that was open before stays open. */
static void a_sweep_inside_a_transaction_is_refused(void **state)
{
	struct store *s = open_it();
	struct err err;

	assert_int_equal(store_begin(s, &err), 0);
	assert_int_equal(store_user_add(s, "u1", "one", &err), 0);
	assert_true(store_sweep(s, 100, &err) < 0);
	assert_int_equal(store_commit(s, &err), 0);
	assert_int_equal(store_user_exists(s, "u1", &err), 1);
	store_close(s);
}

static int start(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0;
}

static int end(void **state)
{
	char path[80];
	static const char *const kinds[] = { "", "-wal", "-shm", "-journal" };

	for (unsigned int i = 0; i < databases; i++)
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
			snprintf(path, sizeof(path), "t%u.db%s", i, kinds[k]);
			unlinkat(dir_fd, path, 0);
		}
	close(dir_fd);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_setup(rows_come_back_whole, fresh),
		cmocka_unit_test_setup(names_are_unique_among_the_living, fresh),
		cmocka_unit_test_setup(a_killed_writer_loses_only_what_it_did_not_commit, fresh),
		cmocka_unit_test_setup(lists, fresh),
		cmocka_unit_test_setup(lists_of_many_kinds_at_once, fresh),
		cmocka_unit_test_setup(policy_ids_are_never_used_twice, fresh),
		cmocka_unit_test_setup(versions_and_sweeping, fresh),
		cmocka_unit_test_setup(keys_and_tokens_come_back_whole, fresh),
		cmocka_unit_test_setup(networks_and_members, fresh),
		cmocka_unit_test_setup(a_sweep_inside_a_transaction_is_refused, fresh) };

	return cmocka_run_group_tests_name("api/store", tests, start, end);
}
