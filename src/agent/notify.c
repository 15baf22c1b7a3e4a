/*
 * Telling of changes to names: of one file, of a directory and what is in it, or of all directories
 * below it too. A child per request (worker.h) with an inotify of its own answers OK when it looks,
 * then a CHANGE for each thing that happens, until the client leaves or the name it began with is gone
 * (END).
 *
 * A directory that comes later is looked at from then on, and what is in it by then is told as made:
 * a name may be told twice, none is left out. What the kernel could not remember for us, because the
 * client reads too slowly, and what is over DIRS_MAX, is told as one FRAME_INVALIDATED.
 *
 * Links are followed where the path leads, never below it. What an upload is before it takes its place
 * (file.h) is not told; it taking its place is.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include "agent/file.h"
#include "base/fd.h"

#define DIRS_MAX  8192u	 /* directories that one request looks at */
#define DEPTH_MAX 64u	 /* below each other: descriptors and stack */
#define EVENTS	  (IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | \
		IN_DELETE_SELF | IN_MOVE_SELF)

struct dir {
	int wd;
	char *path;
};

static struct dir dirs[DIRS_MAX]; /* the first is what was asked for */
static unsigned int n_dirs;
static int inotify = -EBADF;
static bool all, full; /* full: of something that could not be looked at, which was told */
static struct buf out;

static void send_out(void)
{
	if (fd_write_all(WORKER_FD, out.p, out.n) < 0)
		_exit(1);
	buf_reset(&out);
}

static void tell(enum frame_change what, const char *path)
{
	union frame_body m = { .change = { .path = str_c(path), .what = what } };

	if (out.n >= FRAME_MAX)
		send_out();
	frame_encode(&out, FRAME_CHANGE, &m); /* a path that frames cannot carry is not told */
	if (buf_failed(&out))
		_exit(1);
}

_noreturn_ static void over(enum frame_change what)
{
	tell(what, dirs[0].path);
	frame_add(&out, FRAME_END, 0, STR_NONE);
	send_out();
	worker_leave();
}

/* --- what is looked at --- */

static struct dir *dir_find(int wd)
{
	for (unsigned int i = 0; i < n_dirs; i++)
		if (dirs[i].wd == wd)
			return &dirs[i];
	return NULL;
}

static void dir_drop(struct dir *d)
{
	free(d->path);
	*d = dirs[--n_dirs];
}

static bool is_below(const char *path, const char *top)
{
	size_t n = strlen(top);

	return n == 1 || (strncmp(path, top, n) == 0 && (path[n] == '/' || !path[n]));
}

/* A directory that was moved away is still there, under a name that we do not know. */
static void dirs_forget(const char *top)
{
	for (unsigned int i = n_dirs; i-- > 1;)
		if (is_below(dirs[i].path, top)) {
			inotify_rm_watch(inotify, dirs[i].wd);
			dir_drop(&dirs[i]);
		}
}

static int dir_add(const char *path)
{
	uint32_t below = n_dirs ? IN_DONT_FOLLOW | IN_ONLYDIR : 0;
	int wd = inotify_add_watch(inotify, path, EVENTS | below);
	struct dir *d = wd < 0 ? NULL : dir_find(wd);
	char *copy;

	if (wd < 0)
		return -errno;
	if (!d && n_dirs == DIRS_MAX) {
		inotify_rm_watch(inotify, wd);
		return -E2BIG;
	}
	copy = str_dup(str_c(path));
	if (!copy)
		return -ENOMEM;
	if (d)
		free(d->path);
	else
		d = &dirs[n_dirs++];
	*d = (struct dir){ wd, copy };
	return 0;
}

/* false: the name is too long to be told of. */
static bool join(char path[FRAME_PATH_MAX + 1], const char *dir, const char *name)
{
	return (size_t)snprintf(path, FRAME_PATH_MAX + 1, "%s%s%s", dir,
		       dir[1] ? "/" : "", name) <= FRAME_PATH_MAX;
}

static bool is_upload(const char *name)
{
	return str_starts(str_c(name), STR(FILE_UPLOAD));
}

static bool is_dir(DIR *d, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN)
		return e->d_type == DT_DIR;
	return fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* Look at it first and read it then: what comes in between is found by both. */
static int tree_add(const char *path, bool told, unsigned int depth)
{
	int r = dir_add(path);
	char name[FRAME_PATH_MAX + 1];
	DIR *d;

	if (r == 0 && depth > DEPTH_MAX)
		r = -ELOOP;
	if (r < 0 || !(all || told))
		return r == -ENOENT || r == -ENOTDIR ? 0 : r;
	d = opendir(path);
	for (struct dirent *e; r == 0 && d && (e = readdir(d));) {
		if (str_eq_c(STR("."), e->d_name) || str_eq_c(STR(".."), e->d_name) ||
			is_upload(e->d_name) || !join(name, path, e->d_name))
			continue;
		if (told)
			tell(FRAME_CREATED, name);
		if (is_dir(d, e))
			r = tree_add(name, told, depth + 1);
	}
	if (d)
		closedir(d);
	return r;
}

_noreturn_ static void refuse(int error, const char *path)
{
	if (error == E2BIG)
		worker_refuse(error, "%.200s: more than %u directories", path, DIRS_MAX);
	if (error == ELOOP)
		worker_refuse(error, "%.200s: more than %u directories below each other", path,
			DEPTH_MAX);
	if (error == ENOSPC)
		worker_refuse(error, "the kernel's limit of watched directories is reached");
	if (error == EMFILE)
		worker_refuse(error, "the kernel's limit of watchers is reached");
	worker_refuse(error, "%.200s: %s", path, strerror(error));
}

static void tree_came(const char *path)
{
	if (tree_add(path, true, 1) == 0 || full)
		return;
	full = true;
	tell(FRAME_INVALIDATED, path);
}

/* --- what happens --- */

/* Directories may have come that we did not hear of. */
static void lost(void)
{
	char path[FRAME_PATH_MAX + 1];

	snprintf(path, sizeof(path), "%s", dirs[0].path); /* adding makes it anew */
	tell(FRAME_INVALIDATED, path);
	dirs_forget(path);
	tree_add(path, false, 1);
}

/* To what is looked at itself; of all but the first its parent says so, too. */
static void on_self(const struct inotify_event *e, struct dir *d)
{
	if (e->mask & IN_IGNORED && d != dirs)
		dir_drop(d);
	if (d != dirs)
		return;
	if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT))
		over(e->mask & IN_MOVE_SELF ? FRAME_RENAMED : FRAME_REMOVED);
	if (e->mask & IN_ATTRIB)
		tell(FRAME_ATTRIBUTES, d->path);
	if (e->mask & IN_MODIFY)
		tell(FRAME_WRITTEN, d->path);
}

/* A file of no name is told of as "#" and its number. */
static bool is_nameless(const char *name, const char *path)
{
	struct stat st;

	return name[0] == '#' && !name[1 + strspn(name + 1, "0123456789")] && lstat(path, &st) < 0;
}

static void on_name(const struct inotify_event *e, const char *path)
{
	static uint32_t upload; /* what takes its place next */
	bool dir = all && e->mask & IN_ISDIR;

	if (e->mask & (IN_MODIFY | IN_ATTRIB) && is_nameless(e->name, path))
		return;
	if (is_upload(e->name)) {
		upload = e->mask & IN_MOVED_FROM ? e->cookie : upload;
		return;
	}
	if (e->mask & IN_MOVED_TO && upload && e->cookie == upload)
		tell(FRAME_WRITTEN, path);
	else if (e->mask & (IN_CREATE | IN_MOVED_TO))
		tell(FRAME_CREATED, path);
	else if (e->mask & IN_MODIFY)
		tell(FRAME_WRITTEN, path);
	else if (e->mask & IN_ATTRIB)
		tell(FRAME_ATTRIBUTES, path);
	else if (e->mask & IN_DELETE)
		tell(FRAME_REMOVED, path);
	else if (e->mask & IN_MOVED_FROM)
		tell(FRAME_RENAMED, path);
	if (dir && e->mask & (IN_CREATE | IN_MOVED_TO))
		tree_came(path);
	else if (dir && e->mask & IN_MOVED_FROM)
		dirs_forget(path);
}

static void on_event(const struct inotify_event *e)
{
	struct dir *d = dir_find(e->wd);
	char path[FRAME_PATH_MAX + 1];

	if (e->mask & IN_Q_OVERFLOW)
		lost();
	else if (d && !e->len)
		on_self(e, d);
	else if (d && join(path, d->path, e->name))
		on_name(e, path);
}

static void read_events(void)
{
	ssize_t n = read(inotify, scratch, sizeof(scratch));

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		_exit(1);
	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *e = (const void *)(scratch + at);

		at += (ssize_t)(sizeof(*e) + e->len);
		on_event(e);
	}
	send_out();
}

_noreturn_ static void notify_child(const union frame_body *m)
{
	struct pollfd fds[] = { { .events = POLLIN }, { .fd = WORKER_FD, .events = POLLIN } };
	char path[FRAME_PATH_MAX + 1];
	int r;

	out = BUF_MAX(3 * FRAME_MAX);
	worker_path(path, sizeof(path), m->notify.path);
	file_without_slashes(path);
	all = m->notify.flags & FRAME_NOTIFY_ALL;
	file_parents(path);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		refuse(errno, path);
	fds[0].fd = inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (inotify < 0)
		refuse(errno, path);
	r = tree_add(path, false, 1);
	if (r < 0 || !n_dirs)
		refuse(r < 0 ? -r : ENOENT, path);
	worker_say(FRAME_OK, &(union frame_body){ 0 });
	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			_exit(1);
		if (fds[1].revents) /* whatever the client says now, it is that it has left */
			_exit(0);
		if (fds[0].revents)
			read_events();
	}
}

void notify_start(struct conn *c, const union frame_body *m)
{
	static struct workers notifiers = { .max = NOTIFIERS_MAX,
		.full = "too many watches of files at the same time" };

	worker_start(c, m, notify_child, "weir-notify", &notifiers);
}
