/*
 * store: whatever allocation or system call of SQLite's or ours fails, a change is answered by
 * success or a sentence, and the next process finds either all of it or nothing.
 *
 * Memory: SQLite takes the test's allocator. Disk: its write, read, truncate and open are replaced
 * where its own table of system calls allows, fsync and fdatasync by being defined here.
 */
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "api/store.h"
#include "base/fd.h"
#include "../nth.h"

static char dir[] = "/dev/shm/weir-nth-XXXXXX";
static int dir_fd = -EBADF;
static unsigned int databases;
static char name[32];

/* --- SQLite's memory: it asks for the size of what it has --- */

static void *mem_malloc(int n)
{
	int *p = nth_malloc((size_t)n + 16);

	if (p)
		*p = n;
	return p ? (char *)p + 16 : NULL;
}

static void mem_free(void *p)
{
	nth_free(p ? (char *)p - 16 : NULL);
}

static void *mem_realloc(void *p, int n)
{
	int *q = nth_realloc((char *)p - 16, (size_t)n + 16);

	if (q)
		*q = n;
	return q ? (char *)q + 16 : NULL;
}

static int mem_size(void *p)
{
	return p ? *(int *)(void *)((char *)p - 16) : 0;
}

static int mem_round(int n)
{
	return (n + 7) & ~7;
}

static int mem_init(void *arg)
{
	return SQLITE_OK;
}

static void mem_end(void *arg)
{
}

/* --- system calls --- */

static unsigned int calls, failing_call;
static int failing_with;

static bool call_fails(void)
{
	if (++calls != failing_call)
		return false;
	errno = failing_with;
	return true;
}

static ssize_t bad_pwrite(int fd, const void *p, size_t n, off_t at)
{
	return call_fails() ? -1 : pwrite(fd, p, n, at);
}

static ssize_t bad_pread(int fd, void *p, size_t n, off_t at)
{
	return call_fails() ? -1 : pread(fd, p, n, at);
}

static int bad_ftruncate(int fd, off_t n)
{
	return call_fails() ? -1 : ftruncate(fd, n);
}

static int bad_open(const char *path, int flags, int mode)
{
	return call_fails() ? -1 : open(path, flags, mode);
}

int fsync(int fd)
{
	return call_fails() ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return call_fails() ? -1 : (int)syscall(SYS_fdatasync, fd);
}

static void replace(const char *call, sqlite3_syscall_ptr with)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	vfs->xSetSystemCall(vfs, call, with);
}

static void replace_calls(bool on)
{
	replace("pwrite", on ? (sqlite3_syscall_ptr)bad_pwrite : NULL);
	replace("pwrite64", on ? (sqlite3_syscall_ptr)bad_pwrite : NULL);
	replace("pread", on ? (sqlite3_syscall_ptr)bad_pread : NULL);
	replace("pread64", on ? (sqlite3_syscall_ptr)bad_pread : NULL);
	replace("ftruncate", on ? (sqlite3_syscall_ptr)bad_ftruncate : NULL);
	replace("open", on ? (sqlite3_syscall_ptr)bad_open : NULL);
}

/* --- the scenario --- */

static struct store_spec spec_of(void)
{
	return (struct store_spec){ .dir = dir_fd, .name = name, .sync_full = true };
}

static struct sandbox_row row_of(enum life_state state, uint32_t version)
{
	struct sandbox_row r = { .state = state, .created_ms = 1, .slot = 7, .policy = version,
		.policy_version = version, .policy_json = (char *)"[\"a.example\"]",
		.envs = (char *)"{}", .ssh_keys = (char *)"[]", .reason = (char *)"" };

	snprintf(r.id, sizeof(r.id), "sb-1");
	snprintf(r.user, sizeof(r.user), "u1");
	snprintf(r.name, sizeof(r.name), "one");
	return r;
}

/* A row and its version in one transaction, as a create and a policy change do. */
static int put(struct store *s, enum life_state state, uint32_t version, struct err *err)
{
	struct version_row v = { .sandbox = "sb-1", .version = version, .policy = version,
		.json = STR("[]"), .at_ms = 1 };
	struct sandbox_row row = row_of(state, version);
	int r = store_begin(s, err);

	if (r == 0)
		r = version == 1 ? store_sandbox_add(s, &row, err) : store_sandbox_save(s, &row, err);
	if (r == 0)
		r = store_version_add(s, &v, err);
	if (r == 0)
		r = store_commit(s, err);
	store_rollback(s);
	return r;
}

static uint32_t acked; /* the version that was answered with success last */

static int changes(void *arg)
{
	struct store_spec spec = spec_of();
	struct err err = { 0 };
	struct store *s = NULL;
	const char *step = "open";
	uint32_t first;
	int r = store_open(&spec, &s, &err);

	acked = 0;
	if (r == 0 && (step = "user"))
		r = store_user_add(s, "u1", "one", &err);
	if (r == 0 && (step = "ids"))
		r = store_policy_ids(s, 10, &first, &err);
	if (r == 0 && (step = "create"))
		r = put(s, LIFE_CREATING, 1, &err);
	if (r == 0)
		acked = 1;
	if (r == 0 && (step = "change"))
		r = put(s, LIFE_RUNNING, 2, &err);
	if (r == 0)
		acked = 2;
	if (r == 0 && (step = "note"))
		r = store_note(s, "sb-1", "policy", "", &err);
	store_close(s);
	if (r < 0 && !err.text[0])
		fail_msg("%s: failed without a sentence: %d", step, r);
	return r;
}

static int count_version(const struct version_row *v, void *arg)
{
	uint32_t *newest = arg;

	*newest = MAX(*newest, v->version);
	return 0;
}

/* The next process: all of the last change that it finds, or nothing of it. */
static void look(unsigned int n)
{
	struct store_spec spec = spec_of();
	struct sandbox_row row = { .policy_version = 0 };
	uint32_t newest = 0;
	struct store *s;
	struct err err;
	uint64_t total;
	int r;

	if (store_open(&spec, &s, &err) < 0)
		fail_msg("failure %u: the store does not open again: %s", n, err.text);
	r = store_sandbox_get(s, "sb-1", &row, &err);
	if (r < 0 && r != -ENOENT)
		fail_msg("failure %u: %s", n, err.text);
	assert_int_equal(store_versions(s, "sb-1", 10, 0, count_version, &newest, &total, &err), 0);
	if (row.policy_version != newest || total != newest)
		fail_msg("failure %u: the row has version %u, the versions %u (of %" PRIu64 ")", n,
			row.policy_version, newest, total);
	/* A commit whose answer was an error may be found done; one answered is never lost. */
	if (newest < acked || newest > acked + 1)
		fail_msg("failure %u: version %u was answered, %u is there", n, acked, newest);
	sandbox_row_done(&row);
	store_close(s);
}

static int fresh(void)
{
	snprintf(name, sizeof(name), "t%u.db", databases++);
	return 0;
}

static int with_memory(void *arg)
{
	int r;

	fresh();
	r = changes(NULL);
	nth_stop();
	look(databases);
	return r;
}

static void each_allocation(void **state)
{
	/* Most of them are SQLite's own while it makes the tables; steps of a prime meet each kind. */
	nth_some("store", with_memory, NULL, 100, 40, 83);
}

static void each_call(int error, unsigned int least)
{
	unsigned int n = 0, failed = 0;
	bool more = true;

	replace_calls(true);
	failing_with = error;
	while (more) {
		int r;

		fresh();
		calls = 0;
		failing_call = ++n;
		r = changes(NULL);
		more = calls >= n;
		failing_call = 0;
		failed += r < 0;
		if (!more)
			assert_int_equal(r, 0);
		look(n);
	}
	replace_calls(false);
	printf("store, errno %d: %u calls, %u of them needed\n", error, n - 1, failed);
	assert_true(n > least && failed > least / 2);
}

static void disk_full(void **state)
{
	each_call(ENOSPC, 20);
}

static void disk_broken(void **state)
{
	each_call(EIO, 20);
}

static int group_open(void **state)
{
	static const sqlite3_mem_methods mem = { mem_malloc, mem_free, mem_realloc, mem_size,
		mem_round, mem_init, mem_end, NULL };

	if (sqlite3_config(SQLITE_CONFIG_MALLOC, &mem) != SQLITE_OK)
		return -1;
	assert_int_equal(sqlite3_initialize(), SQLITE_OK); /* what it keeps for good is not counted */
	assert_non_null(mkdtemp(dir));
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0;
}

static int group_close(void **state)
{
	static const char *const ends[] = { "", "-wal", "-shm", "-journal" };

	for (unsigned int i = 0; i < databases; i++)
		for (size_t k = 0; k < ARRAY_SIZE(ends); k++) {
			char file[48];

			snprintf(file, sizeof(file), "t%u.db%s", i, ends[k]);
			unlinkat(dir_fd, file, 0);
		}
	fd_close(dir_fd);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(each_allocation),
		cmocka_unit_test(disk_full), cmocka_unit_test(disk_broken) };

	return cmocka_run_group_tests_name("api/store_nth", tests, group_open, group_close);
}
