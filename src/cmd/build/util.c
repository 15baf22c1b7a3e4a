/* What the parts of weir-build share: a line of the log, paths, programs. */
#include <sys/wait.h>
#include "base/clock.h"
#include "cmd/build/build.h"

void say(const char *fmt, ...)
{
	static uint64_t start;
	uint64_t now = clock_mono_ns();
	va_list ap;

	if (!start)
		start = now;
	printf("[%5.1f s] ", (double)(now - start) / (double)NS_PER_SEC);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

int path_fmt(char *dst, size_t size, struct err *err, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(dst, size, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= size)
		return err_set(err, -ENAMETOOLONG, ERR_INVALID, "a path is too long: %s", dst);
	return 0;
}

int run(const char *const *argv)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status ? -EIO : 0;
}

int remove_tree(const char *path)
{
	const char *argv[] = { "rm", "-rf", "--one-file-system", "--", path, NULL };

	return run(argv);
}
