/*
 * Between fork and exec. The child gets a session and process group of its own, its three pipes,
 * no other descriptor, default signals, umask 022, its directory and its environment; then
 * argv[0] is looked up in the PATH of that environment. No shell stands in between.
 *
 * What goes wrong is written to `status`, which closes by itself when exec succeeds.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/close_range.h>
#include "agent/agent.h"

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

void spawn_child(const union frame_body *m, const int fds[3], int status)
{
	char **argv = strings(&m->exec.argv), **env = env_build(&m->exec.env);

	setsid();
	signals_reset();
	umask(022);
	for (int i = 0; i < 3; i++)
		if (dup2(fds[i], i) < 0)
			fail(status, SPAWN_MEMORY, errno);
	/* Ours all close on exec; this is for what the agent itself was started with. */
	syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
	if (!argv || !env)
		fail(status, SPAWN_MEMORY, ENOMEM);
	enter(m->exec.cwd, status);
	fail(status, SPAWN_EXEC, exec_in_path(argv, env, status));
}
