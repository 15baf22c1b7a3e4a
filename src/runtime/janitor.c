/*
 * Discarding layers: see janitor.h. A layer is discarded by giving it a name that nobody owns;
 * the janitor, a child of the host role, removes whatever has such a name each time it is told to
 * look. So a lost message is harmless, and so is the janitor's end at any moment: the next one
 * finds the same names.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "base/ulid.h"
#include "runtime/janitor.h"
#include "runtime/sys.h"

#define GONE	     LAYER_SPARE "gone-"
#define END_LIMIT_MS 1000 /* at a clean end; what is left then, the next start finds */

/*
 * Nothing in there can be trusted to be shallow: a directory inside another is first moved up to
 * the top, under a number, so that depth stays at two whatever a tenant built.
 */
static int empty_dir(int top)
{
	unsigned int moved = 0;

	for (bool again = true; again;) {
		int fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *d = fd < 0 ? NULL : fdopendir(fd);
		struct dirent *e;

		again = false;
		if (!d) {
			fd_close(fd);
			return -errno;
		}
		while ((e = readdir(d))) {
			int inner_fd;
			DIR *inner;
			struct dirent *f;

			if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
				continue;
			if (unlinkat(top, e->d_name, 0) == 0)
				continue;
			if (errno != EISDIR && errno != EPERM) {
				int r = -errno;

				closedir(d);
				return r;
			}
			inner_fd = openat(top, e->d_name,
				O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			inner = inner_fd < 0 ? NULL : fdopendir(inner_fd);
			if (!inner) {
				fd_close(inner_fd);
				closedir(d);
				return -errno;
			}
			while ((f = readdir(inner))) {
				char name[32];

				if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, ".."))
					continue;
				if (unlinkat(dirfd(inner), f->d_name, 0) == 0 ||
					unlinkat(dirfd(inner), f->d_name, AT_REMOVEDIR) == 0)
					continue;
				do
					snprintf(name, sizeof(name), ".gone-%u", moved++);
				while (renameat2(dirfd(inner), f->d_name, top, name,
					       RENAME_NOREPLACE) < 0 &&
					errno == EEXIST);
				again = true;
			}
			closedir(inner);
			if (unlinkat(top, e->d_name, AT_REMOVEDIR) < 0) {
				int r = -errno;

				closedir(d);
				return r;
			}
		}
		closedir(d);
	}
	return 0;
}

static void each(int home, const char *prefix, void (*fn)(void *arg, const char *name), void *arg)
{
	int fd = openat(home, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		fd_close(fd);
		return;
	}
	while ((e = readdir(d)))
		if (str_starts(str_c(e->d_name), str_c(prefix)))
			fn(arg, e->d_name);
	closedir(d);
}

/* --- the janitor --- */

static void remove_layer(void *arg, const char *name)
{
	int home = *(int *)arg;
	auto_fd int dir = openat(home, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (dir < 0)
		unlinkat(home, name, 0); /* a file that was discarded */
	else if (empty_dir(dir) == 0)
		unlinkat(home, name, AT_REMOVEDIR);
}

static _noreturn_ void janitor_main(int home, int chan)
{
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "weir-janitor");
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	/* What it needs is put out of the way of what it must not keep. */
	if (dup2(home, 3) < 0 || dup2(chan, 4) < 0 || close_range(5, ~0u, 0) < 0)
		_exit(1);
	home = 3;
	while (read(4, &byte, 1) == 1)
		each(home, GONE, remove_layer, &home);
	_exit(0);
}

/* --- in the host role --- */

static int janitor_start(struct layers *ls)
{
	int pair[2], home;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	home = fcntl(layers_home(ls), F_DUPFD_CLOEXEC, 8);
	ls->janitor.pid = home < 0 ? -1 : fork();
	if (ls->janitor.pid == 0) {
		int chan = fcntl(pair[1], F_DUPFD_CLOEXEC, 8);

		janitor_main(home, chan);
	}
	fd_close(pair[1]);
	fd_close(home);
	if (ls->janitor.pid < 0) {
		fd_close(pair[0]);
		return -ECHILD;
	}
	ls->janitor.chan = pair[0];
	return 0;
}

static void janitor_reap(struct layers *ls, int patience_ms)
{
	auto_fd int pidfd = ls->janitor.chan < 0 ? -EBADF : pidfd_open(ls->janitor.pid, 0);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	if (ls->janitor.chan < 0)
		return;
	ls->janitor.chan = fd_close(ls->janitor.chan); /* end of file: it ends when it is done */
	if (pidfd < 0 || poll(&p, 1, patience_ms) != 1)
		kill(ls->janitor.pid, SIGKILL);
	while (waitpid(ls->janitor.pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void janitor_look(struct layers *ls)
{
	bool told = false;

	pthread_mutex_lock(&ls->janitor.lock);
	for (int tries = 0; !told && tries < 2; tries++) {
		if (ls->janitor.chan < 0 && janitor_start(ls) < 0)
			break; /* the next discard, or the next start, tries again */
		/* Full means that it has messages to read yet, and will look after each. */
		told = send(ls->janitor.chan, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 || errno == EAGAIN;
		if (!told)
			janitor_reap(ls, 0);
	}
	pthread_mutex_unlock(&ls->janitor.lock);
}

void janitor_end(struct layers *ls)
{
	janitor_reap(ls, END_LIMIT_MS);
}

static int set_aside(struct layers *ls, int dir, const char *name)
{
	char gone[LAYER_NAME_MAX + 16];
	uint64_t random;

	random_bytes(&random, sizeof(random));
	snprintf(gone, sizeof(gone), GONE "%016" PRIx64, random);
	return renameat(dir, name, layers_home(ls), gone) < 0 ? -errno : 0;
}

void layer_discard_file(struct layers *ls, int dir, const char *name)
{
	int r = set_aside(ls, dir, name);

	if (r == 0)
		janitor_look(ls);
	else if (r != -ENOENT)
		unlinkat(dir, name, 0); /* on another file system, or out of room: it takes its time */
}

int layer_discard(struct layers *ls, const char *name, struct err *err)
{
	int r = set_aside(ls, layers_home(ls), name);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_sys(err, r, "remove the writable layer %s", name);
	janitor_look(ls);
	return 0;
}

static void sweep_one(void *arg, const char *name)
{
	struct layers *ls = arg;

	set_aside(ls, layers_home(ls), name);
}

void layers_sweep(struct layers *ls)
{
	each(layers_home(ls), LAYER_SPARE "box-", sweep_one, ls);
	janitor_look(ls);
}
