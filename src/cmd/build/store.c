/*
 * The image store, writing side. Three locks: `lock` is shared by everybody who stages, and who gets
 * it alone knows that what lies in tmp/ is litter; `publish` is held while names change, so that what
 * is dropped is nobody's; locks/<name> makes the second who wants an image wait for the first.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/fd.h"
#include "cmd/build/build.h"

static int lock_open(const struct job *job, const char *file, int *ret, struct err *err)
{
	char path[1100];
	int r = path_fmt(path, sizeof(path), err, "%s/%s", job->store, file);

	if (r < 0)
		return r;
	*ret = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return *ret < 0 ? err_sys(err, -errno, "open %s", path) : 0;
}

static int lock_wait(int fd, int how)
{
	while (flock(fd, how) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* Alone here? Then what lies in tmp/ is of builds that were killed. */
static int join(struct job *job, struct err *err)
{
	char tmp[1100];
	int r = path_fmt(tmp, sizeof(tmp), err, "%s/tmp", job->store);

	if (r < 0)
		return r;
	if (flock(job->build_lock, LOCK_EX | LOCK_NB) == 0) {
		remove_tree(tmp);
		r = path_mkdirs(tmp, 0755);
	}
	r = r < 0 ? r : lock_wait(job->build_lock, LOCK_SH);
	return r < 0 ? err_sys(err, r, "lock %s", job->store) : 0;
}

int store_open(struct job *job, struct err *err)
{
	static const char *const dirs[] = { "", "/tmp", "/images", "/names", "/locks" };
	char path[1100];
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		r = path_fmt(path, sizeof(path), err, "%s%s", job->store, dirs[i]);
		if (r == 0)
			r = path_mkdirs(path, 0755);
		if (r < 0)
			return err_sys(err, r, "make %s", path);
	}
	r = path_fmt(path, sizeof(path), err, "locks/%s", job->name);
	if (r == 0)
		r = lock_open(job, path, &job->name_lock, err);
	if (r == 0)
		r = lock_open(job, "publish", &job->publish_lock, err);
	if (r == 0)
		r = lock_open(job, "lock", &job->build_lock, err);
	if (r < 0)
		return r;
	if (flock(job->name_lock, LOCK_EX | LOCK_NB) < 0) {
		say("waiting for another build of %s", job->name);
		r = lock_wait(job->name_lock, LOCK_EX);
		if (r < 0)
			return err_sys(err, r, "lock %s", path);
	}
	return join(job, err);
}

void store_close(struct job *job)
{
	job->build_lock = fd_close(job->build_lock);
	job->publish_lock = fd_close(job->publish_lock);
	job->name_lock = fd_close(job->name_lock);
}

bool store_has(const struct job *job)
{
	auto_buf struct buf meta = BUF_MAX(4096);
	char path[1100];
	struct str text, line;

	if (path_fmt(path, sizeof(path), NULL, "%s/names/%s/meta", job->store, job->name) < 0 ||
	    file_read(AT_FDCWD, path, &meta) < 0)
		return false;
	for (text = buf_str(&meta); text.p;) {
		line = str_cut(&text, '\n');
		if (!str_starts(line, STR("digest=")))
			continue;
		say("%s is there: " STR_FMT, job->name, STR_ARG(str_skip(line, strlen("digest="))));
		return true;
	}
	return false;
}

/* --- publishing --- */

/* The tree and its meta in a directory of the store's own file system: `new`. */
static int bring(const struct job *job, const char *new, const char *hex, uint64_t bytes,
	struct err *err)
{
	char rootfs[1200], path[1200];
	const char *copy[] = { "cp", "-a", "--one-file-system", "--", job->rootfs, rootfs, NULL };
	auto_buf struct buf meta = BUF_MAX(4096);
	int r = path_fmt(rootfs, sizeof(rootfs), err, "%s/rootfs", new);

	if (r == 0)
		r = path_fmt(path, sizeof(path), err, "%s/meta", new);
	if (r == 0)
		r = path_mkdirs(new, 0755);
	if (r < 0)
		return err_sys(err, r, "make %s", new);
	if (!job->disk_mib ? rename(job->rootfs, rootfs) < 0 : run(copy) < 0)
		return err_set(err, -EIO, ERR_INTERNAL, "cannot copy the image into %s", job->store);
	buf_fmt(&meta, "name=%s\ndigest=sha256:%s\nbytes=%" PRIu64 "\nuid_base=%u\ncreated=%s\n",
		job->name, hex, bytes, job->uid_base, rfc3339_from(clock_wall_ns()).s);
	r = buf_failed(&meta) ?: file_replace(AT_FDCWD, path, buf_str(&meta), 0644, true);
	return r < 0 ? err_sys(err, r, "write %s", path) : 0;
}

static int sync_store(const struct job *job, struct err *err)
{
	auto_fd int store = open(job->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (store < 0 || syncfs(store) < 0) /* a name must never lead to half an image */
		return err_sys(err, -errno, "sync %s", job->store);
	return 0;
}

static int set_name(const struct job *job, const char *hex, struct err *err)
{
	char path[1200], target[128], link[1200];
	int r;

	snprintf(target, sizeof(target), "../images/%s", hex);
	r = path_fmt(link, sizeof(link), err, "%s/tmp/%d.name", job->store, (int)getpid());
	if (r == 0)
		r = path_fmt(path, sizeof(path), err, "%s/names/%s", job->store, job->name);
	if (r < 0)
		return r;
	unlink(link);
	if (symlink(target, link) < 0 || rename(link, path) < 0)
		return err_sys(err, -errno, "name it %s", path);
	return 0;
}

int store_publish(struct job *job, const char *hex, uint64_t bytes, struct err *err)
{
	char path[1200], new[1100];
	struct stat st;
	int r = path_fmt(path, sizeof(path), err, "%s/images/%s", job->store, hex);

	if (r == 0)
		r = path_fmt(new, sizeof(new), err, "%s/tmp/%d.new", job->store, (int)getpid());
	if (r < 0)
		return r;
	/* The same content may be there already, under another name; or go while we copy. */
	if (stat(path, &st) == 0) {
		r = lock_wait(job->publish_lock, LOCK_EX);
		if (r == 0 && stat(path, &st) == 0)
			return set_name(job, hex, err);
		flock(job->publish_lock, LOCK_UN);
	}
	r = bring(job, new, hex, bytes, err);
	if (r == 0)
		r = sync_store(job, err);
	if (r == 0 && (r = lock_wait(job->publish_lock, LOCK_EX)) < 0)
		err_sys(err, r, "lock %s", job->store);
	if (r == 0 && rename(new, path) < 0 && errno != EEXIST && errno != ENOTEMPTY)
		r = err_sys(err, -errno, "publish %s", path);
	if (r == 0)
		r = set_name(job, hex, err);
	remove_tree(new);
	return r;
}

/* --- dropping --- */

static bool has_name(const struct job *job, const char *target)
{
	char path[1100], link[128];
	bool found = false;
	struct dirent *e;
	DIR *dir;

	if (path_fmt(path, sizeof(path), NULL, "%s/names", job->store) < 0)
		return true;
	dir = opendir(path);
	while (dir && !found && (e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1);

		if (n < 0)
			continue;
		link[n] = '\0';
		found = strcmp(link, target) == 0;
	}
	if (dir)
		closedir(dir);
	return found || !dir;
}

/* The name goes, and the content unless another name has it. */
int store_drop(struct job *job, struct err *err)
{
	char path[1200], target[128], going[1200];
	ssize_t n;
	int r = lock_wait(job->publish_lock, LOCK_EX);

	if (r == 0)
		r = path_fmt(path, sizeof(path), err, "%s/names/%s", job->store, job->name);
	if (r < 0)
		return err_sys(err, r, "lock %s", job->store);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "read %s", path);
	target[n] = '\0';
	if (unlink(path) < 0)
		return err_sys(err, -errno, "remove %s", path);
	r = path_fmt(path, sizeof(path), err, "%s/locks/%s", job->store, job->name);
	if (r == 0)
		unlink(path);
	if (has_name(job, target))
		return 0;
	r = path_fmt(path, sizeof(path), err, "%s/names/%s", job->store, target);
	if (r == 0)
		r = path_fmt(going, sizeof(going), err, "%s/tmp/%d.old", job->store, (int)getpid());
	if (r < 0)
		return r;
	if (rename(path, going) < 0 && errno != ENOENT)
		return err_sys(err, -errno, "take %s away", path);
	flock(job->publish_lock, LOCK_UN);
	remove_tree(going);
	return 0;
}
