/* Starting a program without our rights: see the header. */
#include <cap-ng.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/spawn.h"

#define CHAN_FD 3

static _noreturn_ void fail(const char *stage)
{
	log_event(LOG_ERROR, "role.exec", "stage=%s error=\"%s\"", stage, strerror(errno));
	_exit(126);
}

static void session(const struct spawn_as *s)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;

	sigemptyset(&none);
	/* The descriptors may overlap their targets: the channel goes out of the way first. */
	int chan = s->chan < 0 ? -1 : fcntl(s->chan, F_DUPFD_CLOEXEC, 16);

	if (setsid() < 0 || null < 0 || dup2(null, 0) < 0 || (s->chan >= 0 && chan < 0) ||
		(s->output >= 0 && (dup2(s->output, 1) < 0 || dup2(s->output, 2) < 0)) ||
		(chan >= 0 && dup2(chan, CHAN_FD) < 0) ||
		close_range(chan >= 0 ? CHAN_FD + 1 : CHAN_FD, ~0U, 0) < 0 || chdir("/") < 0 ||
		sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		fail("session");
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	umask(077);
}

static void identity(const struct spawn_as *s)
{
	/* The bounding set first: it takes the capability that stage 3 gives up. */
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			fail("bounding set");
	if (setgroups(0, NULL) < 0 || setresgid(s->gid, s->gid, s->gid) < 0 ||
		prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setresuid(s->uid, s->uid, s->uid) < 0)
		fail("identity");
	/* One right stays for one call: to find the program below a directory that is not the user's
	 * (a build in root's home). execve() takes it: nothing is inheritable, ambient or bounding. */
	capng_clear(CAPNG_SELECT_CAPS);
	if (capng_update(CAPNG_ADD, (capng_type_t)(CAPNG_EFFECTIVE | CAPNG_PERMITTED),
		    CAP_DAC_READ_SEARCH) < 0 || capng_apply(CAPNG_SELECT_CAPS) < 0)
		fail("capabilities");
}

static void no_way_back(void)
{
	static const struct rlimit no_core = { 1, 1 }; /* 0 would not stop a core_pattern with a pipe */

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &no_core) < 0)
		fail("no way back");
}

static _noreturn_ void child(
	const struct spawn_as *s, pid_t parent, char *env_daemon, char *env_passed)
{
	char *env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C",
		env_daemon, env_passed, NULL };

	int r = s->enter ? s->enter(s->arg) : 0;

	errno = -r;
	if (r < 0)
		fail("group");
	if (s->netns >= 0 && setns(s->netns, CLONE_NEWNET) < 0)
		fail("namespace");
	session(s);
	if (s->drop) {
		identity(s);
		no_way_back();
	}
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
		fail("death signal");
	execve(s->path, (char *const *)s->argv, env);
	fail(s->path);
}

pid_t spawn_program(const struct spawn_as *s, struct err *err)
{
	char env_daemon[64], env_passed[512];
	const char *value = s->pass_env ? getenv(s->pass_env) : NULL;
	pid_t parent = getpid(), pid;

	snprintf(env_daemon, sizeof(env_daemon), "WEIR_DAEMON=%s", s->daemon);
	if (value)
		snprintf(env_passed, sizeof(env_passed), "%s=%s", s->pass_env, value);
	pid = fork();
	if (pid < 0)
		return err_sys(err, -errno, "fork");
	if (pid == 0)
		child(s, parent, env_daemon, value ? env_passed : NULL);
	return pid;
}
