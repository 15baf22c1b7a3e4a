/*
 * str_eq_const_time() takes as many instructions wherever its texts differ. They are counted one by one,
 * in a child, rather than timed; the control is a comparison that stops at the first difference.
 */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/str.h"
#include "../unit.h"

#define LEN 256

typedef bool (*equal_fn)(struct str a, struct str b);

static bool early(struct str a, struct str b)
{
	for (size_t i = 0; i < MIN(a.n, b.n); i++)
		if (a.p[i] != b.p[i])
			return false;
	return a.n == b.n;
}

static void child(equal_fn equal, struct str a, struct str b)
{
	volatile bool same;

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(1);
	raise(SIGSTOP);
	same = equal(a, b);
	(void)same;
	raise(SIGSTOP);
	_exit(0);
}

/* Instructions from one SIGSTOP to the other; 0: nobody may count here. */
static unsigned long steps(equal_fn equal, struct str a, struct str b)
{
	unsigned long n = 0;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		child(equal, a, b);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		return 0;
	do {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSTOPPED(status));
		n++;
	} while (WSTOPSIG(status) == SIGTRAP);
	assert_int_equal(WSTOPSIG(status), SIGSTOP);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return n;
}

static void counted(void **state)
{
	static char text[LEN], other[LEN];
	struct str a = str_n(text, LEN), b = str_n(other, LEN);
	unsigned long same, early_same;

	memset(text, 'x', LEN);
	memset(other, 'x', LEN);
	steps(str_eq_const_time, a, b); /* what is bound at the first call */
	same = steps(str_eq_const_time, a, b);
	early_same = steps(early, a, b);
	if (!same)
		skip(); /* the kernel lets nobody trace */
	assert_true(same > LEN);
	for (size_t at = 0; at < LEN; at += 51) {
		other[at] ^= 1;
		assert_int_equal(steps(str_eq_const_time, a, b), same);
		assert_true(at > LEN - 52 || steps(early, a, b) < early_same - 51);
		other[at] ^= 1;
	}
	memset(other, 'y', LEN);
	assert_int_equal(steps(str_eq_const_time, a, b), same);
}

static void meaning(void **state)
{
	assert_true(str_eq_const_time(STR("secret"), STR("secret")));
	assert_true(str_eq_const_time(STR(""), STR("")));
	assert_false(str_eq_const_time(STR("secret"), STR("secreT")));
	assert_false(str_eq_const_time(STR("secret"), STR("secre")));
	assert_false(str_eq_const_time(STR("secret"), STR("")));
	assert_false(str_eq_const_time(STR("secret"), STR("secret\0")));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(counted), cmocka_unit_test(meaning) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
