/*
 * Names in the file system: looking at them, listing, finding, making, moving, changing, removing,
 * and replacing text inside a file. Each in a child (worker.h), which answers with ENTRY for each
 * name that was asked for and then OK with their number, or with ERROR.
 *
 * Links are looked at, never followed, below the path that was asked for; removing walks by
 * descriptors, so that a directory which becomes a link meanwhile leads nowhere.
 */
#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <grp.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "agent/file.h"
#include "base/fd.h"

#define DEPTH_MAX   64u	     /* directories below each other that are walked: descriptors and stack */
#define ENTRIES_MAX 100000u  /* told of one request */
#define SAY_AT_ONCE 32768u   /* bytes of entries that are sent together */

static struct buf out;
static uint64_t told;

/* --- entries --- */

static void send_out(void)
{
	if (fd_write_all(WORKER_FD, out.p, out.n) < 0)
		_exit(1);
	buf_reset(&out);
}

_noreturn_ static void done(uint64_t n)
{
	send_out();
	worker_say(FRAME_OK, &(union frame_body){ .ok = { .bytes = n } });
	worker_leave();
}

_printf_(2, 3) _noreturn_ static void fail(int error, const char *fmt, ...)
{
	char text[FRAME_SENTENCE_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	send_out();
	worker_refuse(error, "%s", text);
}

/* The names of the last user and group asked for: in a tree they are mostly the same. */
static struct str user_name(uid_t uid)
{
	static char name[FRAME_OWNER_MAX + 1];
	static uid_t last;

	if (!name[0] || uid != last) {
		const struct passwd *pw = getpwuid(uid);

		if (!pw || str_copy(name, sizeof(name), str_c(pw->pw_name)) < 0 || !name[0])
			snprintf(name, sizeof(name), "%u", uid);
		last = uid;
	}
	return str_c(name);
}

static struct str group_name(gid_t gid)
{
	static char name[FRAME_OWNER_MAX + 1];
	static gid_t last;

	if (!name[0] || gid != last) {
		const struct group *gr = getgrgid(gid);

		if (!gr || str_copy(name, sizeof(name), str_c(gr->gr_name)) < 0 || !name[0])
			snprintf(name, sizeof(name), "%u", gid);
		last = gid;
	}
	return str_c(name);
}

static uint64_t nanoseconds(struct timespec t)
{
	return t.tv_sec < 0 ? 0 : (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void tell(const char *path, const struct stat *st)
{
	char target[FRAME_PATH_MAX + 1];
	ssize_t n = S_ISLNK(st->st_mode) ? readlink(path, target, sizeof(target) - 1) : 0;
	union frame_body m = { .entry = { .path = str_c(path),
		.kind = S_ISREG(st->st_mode) ? FRAME_FILE : S_ISDIR(st->st_mode) ? FRAME_DIR :
			S_ISLNK(st->st_mode) ? FRAME_LINK : FRAME_OTHER,
		.mode = st->st_mode & 07777, .bytes = (uint64_t)st->st_size,
		.modified_ns = nanoseconds(st->st_mtim), .created_ns = nanoseconds(st->st_ctim),
		.owner = user_name(st->st_uid), .group = group_name(st->st_gid),
		.target = str_n(target, (size_t)MAX(n, (ssize_t)0)) } };

	if (told == ENTRIES_MAX)
		fail(EFBIG, "more than %u names", ENTRIES_MAX);
	/* A name that frames cannot carry: one over the longest path. */
	if (frame_encode(&out, FRAME_ENTRY, &m) < 0) {
		if (buf_failed(&out))
			_exit(1);
		return;
	}
	told++;
	if (out.n >= SAY_AT_ONCE)
		send_out();
}

/* --- looking --- */

static void stat_or_fail(const char *path, struct stat *st)
{
	if (lstat(path, st) < 0)
		fail(errno, "%.200s: %s", path, strerror(errno));
}

struct walk {
	char path[2 * FRAME_PATH_MAX + 2];
	const char *pattern; /* files whose name fits; NULL: every name */
	unsigned int depth;
};

static bool no_dots(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static int no_dots_filter(const struct dirent *e)
{
	return no_dots(e);
}

/* In the order of bytes, whatever the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void walk(struct walk *w, size_t n, unsigned int depth)
{
	struct dirent **names = NULL;
	int count = scandir(w->path, &names, no_dots_filter, by_name);

	if (count < 0 && depth == 1)
		fail(errno, "%.200s: %s", w->path, strerror(errno));
	for (int i = 0; i < count; i++) {
		size_t k = strlen(names[i]->d_name), end = n + (n > 1) + k;
		struct stat st;

		if (end > FRAME_PATH_MAX)
			continue;
		if (n > 1)
			w->path[n] = '/';
		memcpy(w->path + end - k, names[i]->d_name, k + 1);
		if (lstat(w->path, &st) == 0) { /* else it has gone meanwhile */
			if (!w->pattern || (S_ISREG(st.st_mode) &&
						   fnmatch(w->pattern, names[i]->d_name, 0) == 0))
				tell(w->path, &st);
			if (S_ISDIR(st.st_mode) && depth < w->depth)
				walk(w, end, depth + 1);
		}
		w->path[n] = '\0';
		free(names[i]);
	}
	free(names);
}

static void do_list(const union frame_body *m, struct walk *w)
{
	struct stat st;

	stat_or_fail(w->path, &st);
	if (S_ISLNK(st.st_mode) && !(m->tree.flags & FRAME_TREE_DIR) && stat(w->path, &st) < 0)
		fail(errno, "%.200s: %s", w->path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		fail(ENOTDIR, "%.200s is not a directory", w->path);
	w->depth = m->tree.depth ? MIN(m->tree.depth, DEPTH_MAX) : DEPTH_MAX;
	walk(w, file_without_slashes(w->path), 1);
	done(told);
}

/* --- removing --- */

static uint64_t removed;

static void remove_below(int dirfd, const char *name, unsigned int depth)
{
	int fd;
	DIR *d;

	if (unlinkat(dirfd, name, 0) == 0) {
		removed++;
		return;
	}
	if (errno == ENOENT)
		return;
	if (errno != EISDIR && errno != EPERM)
		fail(errno, "%.200s: %s", name, strerror(errno));
	if (depth == DEPTH_MAX * 8)
		fail(ELOOP, "more than %u directories below each other", DEPTH_MAX * 8);
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		fail(errno, "%.200s: %s", name, strerror(errno));
	for (struct dirent *e; (e = readdir(d));)
		if (no_dots(e))
			remove_below(fd, e->d_name, depth + 1);
	closedir(d);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		fail(errno, "%.200s: %s", name, strerror(errno));
	removed++;
}

static void do_remove(const union frame_body *m, char *path)
{
	struct stat st;

	if (file_without_slashes(path) == 1)
		fail(EBUSY, "the root directory cannot be removed");
	if (lstat(path, &st) < 0) {
		if (errno != ENOENT && errno != ENOTDIR)
			fail(errno, "%.200s: %s", path, strerror(errno));
		done(0);
	}
	if (S_ISDIR(st.st_mode) && m->tree.flags & FRAME_TREE_FILES)
		fail(EISDIR, "%.200s is a directory", path);
	if (!S_ISDIR(st.st_mode) && !(m->tree.flags & FRAME_TREE_FILES) &&
		m->tree.flags & FRAME_TREE_DIR)
		fail(ENOTDIR, "%.200s is not a directory", path);
	if (S_ISDIR(st.st_mode) && !(m->tree.flags & FRAME_TREE_ALL) && rmdir(path) < 0)
		fail(errno, "%.200s: %s", path, strerror(errno));
	remove_below(AT_FDCWD, path, 0);
	done(MAX(removed, UINT64_C(1)));
}

/* --- changing --- */

static void do_move(const union frame_body *m, const char *path)
{
	char target[FRAME_PATH_MAX + 1];
	struct stat st;

	worker_path(target, sizeof(target), m->tree.target);
	stat_or_fail(path, &st);
	if (file_without_slashes(target) == 1)
		fail(EBUSY, "nothing takes the place of the root directory");
	if (m->tree.flags & FRAME_TREE_ALL)
		file_parents(target);
	if (syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, target,
		    m->tree.flags & FRAME_TREE_KEEP ? 1u /* RENAME_NOREPLACE */ : 0u) < 0)
		fail(errno, "%.150s to %.150s: %s", path, target, strerror(errno));
	done(1);
}

static void change(const union frame_body *m, const char *path)
{
	uid_t uid = m->tree.owner.n ? file_id(m->tree.owner, false) : (uid_t)-1;
	gid_t gid = m->tree.group.n ? file_id(m->tree.group, true) : (gid_t)-1;

	if ((m->tree.owner.n || m->tree.group.n) && chown(path, uid, gid) < 0)
		fail(errno, "%.200s: %s", path, strerror(errno));
	/* Behind the owner, whose change takes set-id bits away. */
	if (m->tree.flags & FRAME_TREE_MODE && chmod(path, m->tree.mode) < 0)
		fail(errno, "%.200s: %s", path, strerror(errno));
}

static void do_mkdir(const union frame_body *m, char *path)
{
	struct stat st;

	if (file_without_slashes(path) > 1 && m->tree.flags & FRAME_TREE_ALL)
		file_parents(path);
	if (mkdir(path, 0755) < 0) {
		if (errno != EEXIST || m->tree.flags & FRAME_TREE_KEEP)
			fail(errno, "%.200s: %s", path, strerror(errno));
		if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
			fail(EEXIST, "%.200s is there and is no directory", path);
	}
	change(m, path);
	done(1);
}

static void do_change(const union frame_body *m, const char *path)
{
	change(m, path);
	done(1);
}

static void do_replace(const union frame_body *m, const char *given)
{
	char path[FRAME_PATH_MAX + 1], tmp[FRAME_PATH_MAX + 32] = "", fd_path[FD_PATH];
	struct str text = STR_NONE, old = m->tree.old;
	struct file_mark mark;
	const char *at, *end, *hit;
	uint64_t count = 0;
	struct stat st;
	int fd;

	if (!realpath(given, path))
		fail(errno, "%.200s: %s", given, strerror(errno));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		fail(errno, "%.200s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		fail(S_ISDIR(st.st_mode) ? EISDIR : EINVAL, "%.200s is not a regular file", path);
	if (!old.n || st.st_size < (off_t)old.n)
		done(0);
	text = str_n(mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0),
		(size_t)st.st_size);
	if (text.p == MAP_FAILED)
		fail(errno, "%.200s: %s", path, strerror(errno));
	if (!memmem(text.p, text.n, old.p, old.n))
		done(0);
	close(fd);
	fd = file_temporary(path, tmp, sizeof(tmp), fd_path);
	for (at = text.p, end = at + text.n;
		(hit = memmem(at, (size_t)(end - at), old.p, old.n)); at = hit + old.n) {
		int r = fd_write_all(fd, at, (size_t)(hit - at));

		if (r == 0)
			r = fd_write_all(fd, m->tree.new.p, m->tree.new.n);
		if (r < 0)
			file_abort(tmp, -r, "write");
		count++;
	}
	if (fd_write_all(fd, at, (size_t)(end - at)) < 0)
		file_abort(tmp, errno, "write");
	mark = (struct file_mark){ st.st_mode & 07777, st.st_uid, st.st_gid, false };
	file_place(fd, fd_path, tmp, sizeof(tmp), path, &mark);
	done(count);
}

_noreturn_ static void tree_child(const union frame_body *m)
{
	char path[FRAME_PATH_MAX + 1], pattern[FRAME_PATH_MAX + 1];
	struct walk w = { 0 };
	struct stat st;

	out = BUF_MAX(SAY_AT_ONCE + 2 * FRAME_MAX);
	worker_path(path, sizeof(path), m->tree.path);
	worker_path(pattern, sizeof(pattern), m->tree.pattern);
	memcpy(w.path, path, sizeof(path));
	switch ((enum frame_tree)m->tree.op) {
	case FRAME_TREE_STAT:
		stat_or_fail(path, &st);
		tell(path, &st);
		done(1);
	case FRAME_TREE_FIND:
		w.pattern = pattern[0] ? pattern : "*";
		do_list(m, &w);
		break;
	case FRAME_TREE_LIST:
		do_list(m, &w);
		break;
	case FRAME_TREE_REMOVE:
		do_remove(m, path);
		break;
	case FRAME_TREE_MOVE:
		do_move(m, path);
		break;
	case FRAME_TREE_MKDIR:
		do_mkdir(m, path);
		break;
	case FRAME_TREE_CHANGE:
		do_change(m, path);
		break;
	case FRAME_TREE_REPLACE:
		do_replace(m, path);
		break;
	}
	fail(EINVAL, "no such operation");
}

void tree_start(struct conn *c, const union frame_body *m)
{
	worker_start(c, m, tree_child, "weir-tree", &file_workers);
}
