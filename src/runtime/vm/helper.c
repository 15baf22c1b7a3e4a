/* Programs that a starter runs: see the header. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "runtime/fork.h"
#include "runtime/vm/helper.h"
#include "runtime/sys.h"

#define TEXT_MAX 4096 /* of each stream: what comes after is read, and dropped */

struct stream {
	char text[TEXT_MAX];
	size_t n;
};

_noreturn_ static void become(const char *const *argv, int out, int err)
{
	static char *const env[] = { (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		(char *)"LANG=C.UTF-8", NULL };

	dup2(open("/dev/null", O_RDONLY), 0);
	dup2(out, 1);
	dup2(err, 2);
	close_range(3, ~0u, 0);
	execve(argv[0], (char *const *)(uintptr_t)argv, env);
	dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* False at its end. */
static bool take_some(int fd, struct stream *s)
{
	char rest[512];
	bool full = s->n == sizeof(s->text);
	ssize_t k = full ? read(fd, rest, sizeof(rest)) : read(fd, s->text + s->n, sizeof(s->text) - s->n);

	if (k > 0 && !full)
		s->n += (size_t)k;
	return k > 0 || (k < 0 && errno == EINTR);
}

static void hear(int out, int err, struct stream said[2])
{
	struct pollfd p[2] = { { .fd = out, .events = POLLIN }, { .fd = err, .events = POLLIN } };

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return;
		for (int i = 0; i < 2; i++)
			if (p[i].fd >= 0 && p[i].revents && !take_some(p[i].fd, &said[i]))
				p[i].fd = -1;
	}
}

static struct str first_line(const struct stream *s)
{
	struct str rest = str_n(s->text, s->n);

	return str_cut(&rest, '\n');
}

static struct str last_line(const struct stream *s)
{
	struct str rest = str_n(s->text, s->n), last = STR_NONE;

	while (rest.n) {
		struct str line = str_cut(&rest, '\n');

		if (line.n)
			last = line;
	}
	return last;
}

int helper_run(const char *const *argv, char *ret, size_t size, struct err *err)
{
	struct stream said[2] = { { .n = 0 }, { .n = 0 } };
	int out[2], errs[2], status, pidfd = -EBADF;
	struct str line;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(errs, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "make a pipe");
	pid = sys_clone3(0, SIGCHLD, -1, &pidfd);
	if (pid == 0)
		become(argv, out[1], errs[1]);
	fd_close(pidfd);
	fd_close(out[1]);
	fd_close(errs[1]);
	if (pid > 0)
		hear(out[0], errs[0], said);
	fd_close(out[0]);
	fd_close(errs[0]);
	if (pid < 0)
		return err_sys(err, pid, "run %s", argv[0]);
	status = fork_status(pid, argv[0], err);
	if (status < 0)
		return status;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return ret ? str_copy(ret, size, first_line(&said[0])) : 0;
	line = last_line(&said[1]);
	if (!line.n)
		return err_set(err, -EIO, ERR_INTERNAL, "%s ended with status %d", argv[0], status);
	return err_set(err, -EIO, ERR_UNSUPPORTED, STR_FMT, STR_ARG(line));
}
