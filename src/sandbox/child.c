/* A child process: see the header. */
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "sandbox/child.h"

struct child {
	uv_poll_t poll;
	int pidfd;
	pid_t pid;
	child_fn on_exit;
	void *arg;
};

static void closed(uv_handle_t *h)
{
	struct child *c = container_of((uv_poll_t *)h, struct child, poll);

	fd_close(c->pidfd);
	free(c);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct child *c = container_of(poll, struct child, poll);
	int how = 0;

	if (waitpid(c->pid, &how, WNOHANG) == 0)
		return;
	uv_poll_stop(poll);
	c->on_exit(c, how, c->arg);
	uv_close((uv_handle_t *)poll, closed);
}

int child_watch(uv_loop_t *loop, pid_t pid, child_fn on_exit, void *arg, struct child **ret)
{
	struct child *c = calloc(1, sizeof(*c));
	int fd = c ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	if (fd < 0 || uv_poll_init(loop, &c->poll, fd) != 0) {
		int r = c ? -errno : -ENOMEM;

		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		fd_close(fd);
		free(c);
		return r;
	}
	c->pidfd = fd;
	c->pid = pid;
	c->on_exit = on_exit;
	c->arg = arg;
	uv_poll_start(&c->poll, UV_READABLE, on_readable);
	*ret = c;
	return 0;
}

pid_t child_pid(const struct child *c)
{
	return c->pid;
}

void child_kill(struct child *c, int signal)
{
	if (c)
		syscall(SYS_pidfd_send_signal, c->pidfd, signal, NULL, 0);
}
