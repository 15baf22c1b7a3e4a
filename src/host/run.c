/* Run a program: see the header. */
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "host/run.h"

#define IN_MAX 65536

static int find_program(const char *name, char *ret, size_t size)
{
	static const char *const dirs[] = { "/usr/sbin", "/sbin", "/usr/bin", "/bin",
		"/usr/local/sbin" };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(ret, size, "%s/%s", dirs[i], name);
		if (access(ret, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

static _noreturn_ void child(const char *path, const char *const *argv, int in, int out, int err)
{
	static char *const env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		(char *)"LC_ALL=C", NULL };

	if (dup2(in, 0) >= 0 && dup2(out, 1) >= 0 && dup2(err, 2) >= 0)
		execve(path, (char *const *)argv, env);
	_exit(127);
}

/* Read both outputs until both end; what does not fit is dropped. */
static void drain(int out_fd, struct buf *out, int err_fd, struct buf *err)
{
	struct pollfd p[2] = { { .fd = out_fd, .events = POLLIN },
		{ .fd = err_fd, .events = POLLIN } };
	struct buf *to[2] = { out, err };
	char chunk[4096];

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return;
		for (int i = 0; i < 2; i++) {
			ssize_t k;

			if (p[i].fd < 0 || !p[i].revents)
				continue;
			k = read(p[i].fd, chunk, sizeof(chunk));
			if (k > 0 && to[i])
				buf_add(to[i], chunk, (size_t)k);
			else if (k == 0 || (k < 0 && errno != EINTR))
				p[i].fd = -1;
		}
	}
}

int run_program(const char *const *argv, struct str in, struct buf *out, struct err *err)
{
	int in_p[2], out_p[2], err_p[2], status;
	auto_buf struct buf said = BUF_MAX(512);
	char path[128];
	pid_t pid;

	if (find_program(argv[0], path, sizeof(path)) < 0)
		return err_set(err, -ENOENT, ERR_INTERNAL, "%s is not installed", argv[0]);
	if (in.n > IN_MAX)
		return err_set(err, -E2BIG, ERR_INTERNAL, "too much input for %s", argv[0]);
	if (pipe2(in_p, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "pipe");
	auto_fd int in_r = in_p[0], in_w = in_p[1];
	if (pipe2(out_p, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "pipe");
	auto_fd int out_r = out_p[0], out_w = out_p[1];
	if (pipe2(err_p, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "pipe");
	auto_fd int err_r = err_p[0], err_w = err_p[1];

	fcntl(in_w, F_SETPIPE_SZ, IN_MAX);
	fd_nonblock(in_w, true);
	if (in.n && write(in_w, in.p, in.n) != (ssize_t)in.n)
		return err_set(err, -EIO, ERR_INTERNAL, "cannot feed %s", argv[0]);
	in_w = fd_close(in_w);
	pid = fork();
	if (pid < 0)
		return err_sys(err, -errno, "fork");
	if (pid == 0)
		child(path, argv, in_r, out_w, err_w);
	out_w = fd_close(out_w);
	err_w = fd_close(err_w);
	drain(out_r, out, err_r, &said);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "wait for %s", argv[0]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	while (said.n && said.p[said.n - 1] == '\n')
		said.n--;
	for (size_t i = 0; i < said.n; i++)
		if (said.p[i] == '\n')
			said.p[i] = ' ';
	return err_set(
		err, -EIO, ERR_INTERNAL, "%s failed: " STR_FMT, argv[0], STR_ARG(buf_str(&said)));
}
