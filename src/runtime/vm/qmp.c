/* QEMU's control channel: see the header. */
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fd.h"
#include "runtime/fork.h"
#include "runtime/vm/qmp.h"

/* By way of the directory's descriptor: sun_path holds 108 bytes. */
static int address(const char *dir, const char *name, int *ret_dir, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*ret_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_dir < 0)
		return -errno;
	snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%.60s.qmp", *ret_dir, name);
	return 0;
}

int qmp_listen(const char *dir, const char *name, struct err *err)
{
	auto_fd int at = -EBADF, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa;
	int r = fd < 0 ? -errno : address(dir, name, &at, &sa);

	if (r == 0) {
		unlink(sa.sun_path);
		if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || chmod(sa.sun_path, 0600) < 0 ||
			listen(fd, 1) < 0)
			r = -errno;
	}
	return r < 0 ? err_sys(err, r, "make QEMU's control channel") : take_fd(fd);
}

int qmp_connect(const char *dir, const char *name, struct err *err)
{
	auto_fd int at = -EBADF, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sa;
	int r = fd < 0 ? -errno : address(dir, name, &at, &sa);

	if (r == 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		r = -errno;
	return r < 0 ? err_sys(err, r, "connect to QEMU") : take_fd(fd);
}

void qmp_unlink(const char *dir, const char *name)
{
	auto_fd int at = -EBADF;
	struct sockaddr_un sa;

	if (address(dir, name, &at, &sa) == 0)
		unlink(sa.sun_path);
}

int qmp_go(int fd, struct err *err)
{
	static const char go[] = "{\"execute\":\"cont\"}";

	if (send(fd, go, sizeof(go) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof(go) - 1)
		return err_sys(err, errno ? -errno : -EPIPE, "speak to QEMU");
	return 0;
}

static int more(struct qmp *q, struct err *err)
{
	for (;;) {
		uint64_t now = clock_mono_ns();
		struct pollfd p = { .fd = q->fd, .events = POLLIN };
		ssize_t n;

		if (now >= q->end || poll(&p, 1, (int)((q->end - now) / NS_PER_MS) + 1) == 0)
			return err_set(err, -ETIMEDOUT, ERR_TIMEOUT, "QEMU does not answer");
		n = read(q->fd, q->text + q->used, sizeof(q->text) - 1 - q->used);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return err_set(err, -EPIPE, ERR_INTERNAL, "QEMU ended");
		q->used += (size_t)n;
		return 0;
	}
}

/* The next line into q->line, valid until the next call. */
static int next_line(struct qmp *q, struct err *err)
{
	char *end;
	int r;

	memmove(q->text, q->text + q->eaten, q->used - q->eaten);
	q->used -= q->eaten;
	q->eaten = 0;
	while (!(end = memchr(q->text, '\n', q->used))) {
		if (q->used == sizeof(q->text) - 1)
			return err_set(err, -EBADMSG, ERR_INTERNAL, "QEMU said too long a line");
		r = more(q, err);
		if (r < 0)
			return r;
	}
	*end = '\0';
	q->line = q->text;
	q->eaten = (size_t)(end - q->text) + 1;
	return 0;
}

static void take_event(struct qmp *q)
{
	if (!strstr(q->line, "\"MIGRATION\""))
		return;
	if (strstr(q->line, "\"completed\""))
		q->migration = 1;
	else if (strstr(q->line, "\"failed\"") || strstr(q->line, "\"cancelled\""))
		q->migration = -EIO;
}

int qmp_do(struct qmp *q, const char *command, int fd, struct err *err)
{
	int r = fork_send(q->fd, command, strlen(command), fd);

	if (r < 0)
		return err_sys(err, r, "speak to QEMU");
	for (;;) {
		r = next_line(q, err);
		if (r < 0)
			return r;
		if (strstr(q->line, "\"event\":"))
			take_event(q);
		else if (strstr(q->line, "\"error\":"))
			return err_set(err, -EIO, ERR_INTERNAL, "QEMU refused %.60s", command);
		else if (strstr(q->line, "\"return\":"))
			return 0;
	}
}

static uint32_t number_of(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	return at ? (uint32_t)strtoul(at + strlen(key), NULL, 10) & 0xff : 0xff;
}

int qmp_hello(struct qmp *q, struct err *err)
{
	int r = next_line(q, err);

	if (r < 0)
		return r;
	q->version = number_of(q->line, "\"major\": ") << 16 | number_of(q->line, "\"minor\": ") << 8 |
		     number_of(q->line, "\"micro\": ");
	return qmp_do(q, "{\"execute\":\"qmp_capabilities\"}", -EBADF, err);
}

int qmp_migrated(struct qmp *q, struct err *err)
{
	int r = 0;

	while (r == 0 && q->migration == 0) {
		r = next_line(q, err);
		if (r == 0 && strstr(q->line, "\"event\":"))
			take_event(q);
	}
	if (r == 0 && q->migration < 0)
		r = err_set(err, q->migration, ERR_INTERNAL, "QEMU could not carry it over");
	return r;
}
