/*
 * A new process. Between fork and exec the child gets a session and process group of its own (and
 * its terminal, if it has one), its three descriptors and perhaps a fourth, no other, default
 * signals, umask 022, its user, its directory and its environment; then argv[0] is looked up in the
 * PATH of that environment. No shell stands in between.
 *
 * What goes wrong is written to the status pipe, which closes by itself when exec succeeds.
 */
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/close_range.h>
#include "agent/agent.h"
#include "agent/machine.h"

#define GROUPS_MAX 64

/* --- in the child --- */

_noreturn_ static void fail(int status, int stage, int error)
{
	struct spawn_failure f = { stage, error };

	(void)!write(status, &f, sizeof(f));
	_exit(127);
}

static char **strings(const struct frame_list *l)
{
	char **v = calloc(l->n + 1, sizeof(*v));

	for (size_t i = 0; v && i < l->n; i++) {
		v[i] = str_dup(l->v[i]);
		if (!v[i])
			return NULL;
	}
	return v;
}

static void enter(struct str cwd, int status)
{
	auto_free char *path = NULL;

	if (cwd.n == 0) {
		if (chdir("/root") < 0 && chdir("/") < 0)
			fail(status, SPAWN_CWD, errno);
		return;
	}
	path = str_dup(cwd);
	if (!path)
		fail(status, SPAWN_MEMORY, ENOMEM);
	if (chdir(path) < 0)
		fail(status, SPAWN_CWD, errno);
}

/* execve() says ENOENT also for a script whose interpreter is missing. */
static int try_exec(const char *path, char **argv, char **env, int status)
{
	struct stat st;

	execve(path, argv, env);
	if (errno == ENOENT && stat(path, &st) == 0)
		fail(status, SPAWN_INTERPRETER, ENOENT);
	return errno;
}

static int exec_in_path(char **argv, char **env, int status)
{
	struct str dirs = str_c(env_get(env, "PATH"));
	int error = ENOENT;

	if (!argv[0][0])
		return ENOENT;
	if (strchr(argv[0], '/'))
		return try_exec(argv[0], argv, env, status);
	while (dirs.p) {
		struct str dir = str_cut(&dirs, ':');
		char path[FRAME_PATH_MAX + 1];
		int e;

		if ((size_t)snprintf(path, sizeof(path), STR_FMT "%s%s", STR_ARG(dir),
			    dir.n ? "/" : "./", argv[0]) >= sizeof(path))
			continue;
		e = try_exec(path, argv, env, status);
		if (e == EACCES)
			error = e; /* remembered: a later directory may still have it */
		else if (e != ENOENT && e != ENOTDIR)
			return e;
	}
	return error;
}

/* The groups that the sandbox's own files give the user; one that they do not know has the group
 * of its own number. */
static void become(const struct spawn *s, int status)
{
	const struct passwd *pw = s->uid ? getpwuid(s->uid) : NULL;
	gid_t gid = s->group ? s->gid : pw ? pw->pw_gid : s->uid, groups[GROUPS_MAX] = { gid };
	int n = GROUPS_MAX;

	if (!s->uid && !s->group)
		return;
	if (!pw || getgrouplist(pw->pw_name, gid, groups, &n) < 0)
		n = 1;
	if (setgroups((size_t)n, groups) < 0 || setgid(gid) < 0 || setuid(s->uid) < 0)
		fail(status, SPAWN_USER, errno);
}

_noreturn_ static void child(const struct spawn *s, int status)
{
	char **argv = strings(s->argv), **env = env_build(s->env);
	int keep = s->fds[3] < 0 ? 3 : 4;

	held_join();
	setsid();
	signals_reset();
	umask(022);
	if (s->tty && ioctl(s->fds[0], TIOCSCTTY, 0) < 0)
		fail(status, SPAWN_MEMORY, errno);
	/* All of them are above 3: 0 to 2 are /dev/null, and 3 is what the agent opened first. */
	for (int i = 0; i < keep; i++)
		if (dup2(s->fds[i], i) < 0)
			fail(status, SPAWN_MEMORY, errno);
	/* Ours all close on exec; this is for what the agent itself was started with. */
	syscall(SYS_close_range, keep, ~0u, CLOSE_RANGE_CLOEXEC);
	if (!argv || !env)
		fail(status, SPAWN_MEMORY, ENOMEM);
	become(s, status);
	enter(s->cwd, status);
	fail(status, SPAWN_EXEC, exec_in_path(argv, env, status));
}

/* --- in the agent --- */

int spawn_pipe(int *ours, int *theirs, bool ours_reads)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	*ours = p[!ours_reads];
	*theirs = p[ours_reads];
	fcntl(*ours, F_SETFL, O_NONBLOCK);
	return 0;
}

int spawn_run(const struct spawn *s, int *ret_status)
{
	int ours, theirs, r = spawn_pipe(&ours, &theirs, true);
	pid_t pid;

	if (r < 0)
		return r;
	pid = fork();
	if (pid == 0)
		child(s, theirs);
	r = pid < 0 ? -errno : pid;
	close(theirs);
	if (r < 0)
		close(ours);
	else
		*ret_status = ours;
	return r;
}

void spawn_done(struct spawn *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(s->fds); i++)
		if (s->fds[i] >= 0)
			close(take_fd(s->fds[i]));
}

const char *spawn_refusal(int error)
{
	if (error == EAGAIN)
		return "cannot start a process: the sandbox's limit of processes is reached";
	if (error == EMFILE || error == ENFILE)
		return "cannot start a process: too many descriptors are open";
	if (error == ENOMEM)
		return "cannot start a process: out of memory";
	return "cannot start a process: the sandbox has no terminals";
}

int spawn_sentence(const struct spawn_failure *f, const char *name, char *text, size_t size)
{
	const char *why = strerror(f->error);

	switch (f->stage) {
	case SPAWN_CWD:
		snprintf(text, size, "cannot enter the working directory: %s", why);
		return 126;
	case SPAWN_USER:
		snprintf(text, size, "cannot become the user: %s", why);
		return 126;
	case SPAWN_INTERPRETER:
		snprintf(text, size, "%s: its interpreter or loader is missing", name);
		return 127;
	case SPAWN_EXEC:
		if (f->error != ENOENT && f->error != ENOTDIR) {
			snprintf(text, size, "%s: cannot be executed: %s", name, why);
			return 126;
		}
		snprintf(text, size, "%s: not found", name);
		return 127;
	default:
		snprintf(text, size, "cannot start the command: %s", why);
		return 126;
	}
}
