/*
 * Running a recipe: a child that leaves the machine's namespaces, becomes root of a user namespace
 * whose range nothing else has, covers what it is not to see (view.c) and runs the script as pid 2 of
 * a pid namespace, which ends with it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "cmd/build/build.h"

#define RECIPE_MAX (1u << 20)

/* --- staging --- */

/* Recipes may lie where only root may look (a clone below /root): run copies that their user can
 * read. All of them, because one calls another. */
static int copy_recipes(const struct job *job, const char *to, struct err *err)
{
	DIR *dir = opendir(job->recipes);
	struct dirent *e;
	int r = 0;

	if (!dir)
		return err_sys(err, -errno, "open %s", job->recipes);
	while (r == 0 && (e = readdir(dir))) {
		auto_buf struct buf text = BUF_MAX(RECIPE_MAX);
		char path[1400];

		if (e->d_name[0] == '.' || e->d_type == DT_DIR)
			continue;
		r = file_read(dirfd(dir), e->d_name, &text);
		if (r == 0)
			r = path_fmt(path, sizeof(path), err, "%s/%s", to, e->d_name);
		if (r == 0)
			r = file_replace(AT_FDCWD, path, buf_str(&text), 0755, false);
		if (r == 0 && chmod(path, 0755) < 0)
			r = -errno;
		if (r < 0)
			err_sys(err, r, "copy the recipe %s", e->d_name);
	}
	closedir(dir);
	return r;
}

/* The directories of the disk; all but the recipes belong to the recipe's root. */
int recipe_stage(struct job *job, struct err *err)
{
	static const char *const dirs[] = { "recipes", "work", "tmp", "rootfs" };
	char path[1100];
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(dirs); i++) {
		r = path_fmt(path, sizeof(path), err, "%s/%s", job->staging, dirs[i]);
		if (r == 0)
			r = path_mkdirs(path, 0755);
		if (r == 0 && i && chown(path, job->uid_base, job->uid_base) < 0)
			r = -errno;
		if (r < 0)
			return err_sys(err, r, "make %s", path);
	}
	r = path_mkdirs(job->cache, 0755);
	if (r == 0 && chown(job->cache, job->uid_base, job->uid_base) < 0)
		r = -errno;
	if (r < 0)
		return err_sys(err, r, "make %s", job->cache);
	r = path_fmt(path, sizeof(path), err, "%s/recipes", job->staging);
	return r < 0 ? r : copy_recipes(job, path, err);
}

/* --- the child --- */

static void environment(const struct job *job)
{
	static const char *const drop[] = { "TMPDIR", "http_proxy", "https_proxy", "HTTP_PROXY",
		"HTTPS_PROXY", "all_proxy", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"NODE_EXTRA_CA_CERTS", "REGISTRY_AUTH_FILE", "DBUS_SESSION_BUS_ADDRESS",
		"XDG_RUNTIME_DIR", "SSH_AUTH_SOCK" };
	char mib[16];

	/* By hand on the machine's own network its proxies are meant too. */
	for (size_t i = 0; i < ARRAY_SIZE(drop); i++)
		if (i == 0 || job->net != BUILD_NET_HOST)
			unsetenv(drop[i]);
	setenv("HOME", VIEW_STAGING "/work", 1);
	setenv("LC_ALL", "C.UTF-8", 1);
	if (job->from) {
		snprintf(mib, sizeof(mib), "%u", job->layers_mib);
		setenv("WEIR_IMAGE", job->from, 1);
		setenv("WEIR_IMAGE_MAX_MIB", mib, 1);
		if (!secret_empty(&job->auth))
			setenv("WEIR_IMAGE_AUTH", VIEW_AUTH, 1);
		if (job->check)
			setenv("WEIR_IMAGE_CHECK", "1", 1);
	}
	if (job->proxy) {
		setenv("http_proxy", job->proxy, 1);
		setenv("https_proxy", job->proxy, 1);
	}
	if (job->ca.n) {
		setenv("SSL_CERT_FILE", VIEW_CA, 1);
		setenv("NODE_EXTRA_CA_CERTS", VIEW_CA, 1);
	}
}

/* Pid 1 of the recipe's pid namespace: mounts proc, runs the script, reaps. */
static _noreturn_ void recipe_init(const struct job *job)
{
	char script[300];
	int status, result = 1;
	pid_t child, pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
		perror("mount /proc");
		_exit(1);
	}
	child = fork();
	if (child == 0) {
		dup2(STDOUT_FILENO, STDERR_FILENO);
		environment(job);
		umask(022);
		snprintf(script, sizeof(script), VIEW_STAGING "/recipes/%s", job->script_name);
		if (chdir(VIEW_STAGING "/work") == 0)
			execl(script, script, VIEW_STAGING "/rootfs", VIEW_CACHE, (char *)NULL);
		perror(script);
		_exit(127);
	}
	while ((pid = wait(&status)) > 0 || errno == EINTR)
		if (pid == child) {
			result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			break; /* the rest dies with this namespace */
		}
	_exit(result);
}

/* Leave the machine's namespaces, wait for the id map, become its root. */
static _noreturn_ void recipe_child(const struct job *job, int ready, int mapped)
{
	int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
	struct view view;
	int status;
	char go;
	pid_t init;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (job->uid_base)
		flags |= CLONE_NEWUSER;
	if (job->net == BUILD_NET_NONE)
		flags |= CLONE_NEWNET;
	if (unshare(flags) < 0) {
		perror("unshare");
		_exit(1);
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || view_take(job, &view) < 0) {
		perror("take what the recipe may see");
		_exit(1);
	}
	fd_close(ready); /* tells the parent */
	if (read(mapped, &go, 1) != 1)
		_exit(1);
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) {
		perror("become root of the user namespace");
		_exit(1);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* cleared by the change of ids */
	if (view_make(job, &view) < 0) {
		perror("cover what the recipe is not to see");
		_exit(1);
	}
	init = fork();
	if (init == 0)
		recipe_init(job);
	while (waitpid(init, &status, 0) < 0)
		if (errno != EINTR)
			_exit(1);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* --- the parent --- */

static int map_write(pid_t pid, const char *file, uint32_t base)
{
	char path[64], text[64];
	int n = snprintf(text, sizeof(text), "0 %u %u\n", base, UID_COUNT);

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	return file_write_kernel(AT_FDCWD, path, str_n(text, (size_t)n));
}

static int map_ids(const struct job *job, pid_t pid, struct err *err)
{
	int r = job->uid_base ? map_write(pid, "uid_map", job->uid_base) : 0;

	if (r == 0 && job->uid_base)
		r = map_write(pid, "gid_map", job->uid_base);
	return r < 0 ? err_sys(err, r, "map user ids (try --uid-base 0 where user namespaces are off)")
		     : 0;
}

int recipe_run(const struct job *job, struct err *err)
{
	int ready[2], mapped[2], status, r = 0;
	char c;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "pipe");
	if (pipe2(mapped, O_CLOEXEC) < 0) {
		r = err_sys(err, -errno, "pipe");
		fd_close(ready[0]);
		fd_close(ready[1]);
		return r;
	}
	pid = fork();
	if (pid == 0) {
		fd_close(ready[0]);
		fd_close(mapped[1]);
		recipe_child(job, ready[1], mapped[0]);
	}
	fd_close(ready[1]);
	fd_close(mapped[0]);
	if (pid < 0)
		r = err_sys(err, -errno, "fork");
	else if (read(ready[0], &c, 1) < 0)
		r = err_sys(err, -errno, "wait for the recipe's namespaces");
	else
		r = map_ids(job, pid, err);
	if (r == 0 && write(mapped[1], "g", 1) != 1)
		r = err_sys(err, -errno, "start the recipe");
	fd_close(ready[0]);
	fd_close(mapped[1]);
	if (pid < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "wait for the recipe");
	if (r == 0 && status)
		r = err_set(err, -EIO, ERR_INTERNAL, "the recipe %s failed (status %d)%s",
			job->script_name, WIFEXITED(status) ? WEXITSTATUS(status) :
			128 + WTERMSIG(status), disk_full(job) ? ": its disk is full" : "");
	return r;
}
