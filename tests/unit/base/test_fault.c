/*
 * base/fault: points count, act at the passing that was armed and once only, and are shared with
 * whoever has the file. Compiled with the points in, whatever the build says.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/fault.h"
#include "../unit.h"

static struct fault *points;
static size_t n_points;
static char dir[] = "/tmp/weir-fault-XXXXXX";

static int steps(void)
{
	int r;

	FAULT("unit.first");
	r = FAULT_ERROR("unit.step");
	FAULT("unit.last");
	return r;
}

static struct fault *point(const char *name)
{
	for (size_t i = 0; i < n_points; i++)
		if (strcmp(points[i].name, name) == 0)
			return &points[i];
	fail_msg("no point is called %s", name);
	return NULL;
}

static void arm(struct fault *f, enum fault_action action, uint32_t error, uint32_t left)
{
	f->action = action;
	f->error = error;
	__atomic_store_n(&f->left, left, __ATOMIC_RELEASE);
}

static int open_points(void **state)
{
	char path[64];
	struct stat st;
	int fd;

	assert_non_null(mkdtemp(dir));
	fault_open(dir, "unit");
	snprintf(path, sizeof(path), "%s/unit.faults", dir);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	n_points = (size_t)st.st_size / sizeof(*points);
	points = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(points != MAP_FAILED);
	close(fd);
	return 0;
}

static int close_points(void **state)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/unit.faults", dir);
	unlink(path);
	return rmdir(dir);
}

static void counts(void **state)
{
	uint64_t before = point("unit.last")->passed;

	assert_int_equal(n_points, 3);
	assert_int_equal(point("unit.step")->fails, 1);
	assert_int_equal(point("unit.last")->fails, 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(steps(), 0);
	assert_int_equal(point("unit.last")->passed, before + 5);
}

static void fails_once(void **state)
{
	struct fault *f = point("unit.step");
	uint64_t acted = f->acted;

	arm(f, FAULT_FAIL, ENOSPC, 3);
	errno = EXDEV;
	assert_int_equal(steps(), 0);
	assert_int_equal(steps(), 0);
	assert_int_equal(steps(), -ENOSPC);
	assert_int_equal(steps(), 0);
	assert_int_equal(f->acted, acted + 1);
	assert_int_equal(errno, EXDEV);
}

static void only_what_can_fail_fails(void **state)
{
	arm(point("unit.first"), FAULT_FAIL, EIO, 1);
	assert_int_equal(steps(), 0);
}

static void kills(void **state)
{
	struct fault *f = point("unit.last");
	uint64_t before = f->passed;
	int status;
	pid_t pid;

	arm(f, FAULT_KILL, 0, 2);
	pid = fork();
	if (pid == 0) {
		steps();
		steps();
		_exit(7);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(f->passed, before + 2); /* the child's passings are in the file */
	pid = fork();
	if (pid == 0)
		_exit(steps() ? 1 : 7);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void holds(void **state)
{
	struct fault *f = point("unit.first");
	uint32_t held;
	int status;
	pid_t pid;

	arm(f, FAULT_HOLD, 0, 1);
	pid = fork();
	if (pid == 0)
		_exit(steps() ? 1 : 7);
	while (!(held = __atomic_load_n(&f->held, __ATOMIC_ACQUIRE)))
		usleep(1000);
	assert_int_equal(held, pid);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	__atomic_store_n(&f->held, 0, __ATOMIC_RELEASE);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void another_life_goes_on_counting(void **state)
{
	uint64_t before = point("unit.last")->passed;

	fault_open(dir, "unit");
	assert_int_equal(point("unit.last")->passed, before);
	steps();
	assert_int_equal(point("unit.last")->passed, before + 1);
}

static void no_directory_is_no_failure(void **state)
{
	fault_open(NULL, "unit");
	fault_open("/nonexistent", "unit");
	assert_int_equal(steps(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(counts), cmocka_unit_test(fails_once),
		cmocka_unit_test(only_what_can_fail_fails), cmocka_unit_test(kills),
		cmocka_unit_test(holds), cmocka_unit_test(another_life_goes_on_counting),
		cmocka_unit_test(no_directory_is_no_failure) };

	return cmocka_run_group_tests_name("base/fault", tests, open_points, close_points);
}
