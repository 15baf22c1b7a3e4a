/*
 * weir-build NAME --store DIR: make a root file system and put it into the image store.
 *
 * Theory of operation. What an image is made of comes from a mirror and runs maintainer scripts:
 * foreign code. So the work is done by a *recipe* (scripts/images/<name>), a shell script that runs
 * as root of a user namespace of its own, in its own mount, pid, ipc and host name namespaces,
 * owning nothing on the machine but the staging directory and the download cache. The files it
 * leaves belong to the range [uid_base, uid_base + 65535], which no sandbox has, so a set-uid
 * program in the store is nobody's root; the runtime maps the range when it mounts the image. This
 * program only stages, digests and publishes; it never runs or parses what the recipe brought.
 *
 * The store (several daemons may share one):
 *
 *	lock			held while anything is built
 *	tmp/			staging; whatever lies there when the lock is free is litter
 *	images/<hex>/rootfs	content, named by its SHA-256, never changed once there
 *	images/<hex>/meta	name=, digest=, bytes=, uid_base=, created=
 *	names/<name>		-> ../images/<hex>, replaced by rename
 *
 * The digest is over the sorted tree: path, type, permission bits, owner within the range, and
 * content or link target; not over times, which differ from build to build.
 *
 * Built already: says so and ends in milliseconds. --force builds anew. --uid-base 0 is the
 * fallback for a kernel without user namespaces: the recipe then runs as the real root.
 */
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <openssl/evp.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"

#define UID_BASE_DEFAULT 4293918720u /* 0xfff00000: above the range of every slot */
#define UID_COUNT	 65536u
#define RECIPE_MAX	 (1u << 20)
#define AUTH_MAX	 (1u << 16)
#define FETCH		 "fetch" /* the recipe of images that come from a registry */
#define TREE_DEPTH_MAX	 128u /* deeper than any distribution; keeps the walk's stack small */

struct job {
	const char *name, *store, *cache, *recipes;
	const char *from;   /* an image of a registry: the recipe is `fetch`; or NULL */
	const char *auth;   /* file with its credentials, as containers-auth.json(5) has them; or NULL */
	uint32_t uid_base;
	bool force;
	char staging[1000]; /* <store>/tmp/<pid>: gone at the end */
	char image[1024];   /* <staging>/image: rootfs and meta, becomes <store>/images/<hex> */
	char work[1024];    /* <staging>/work: the recipe's home and working directory */
};

static void say(const char *fmt, ...) _printf_(1, 2);
static void say(const char *fmt, ...)
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

static int path_fmt(char *dst, size_t size, struct err *err, const char *fmt, ...)
	_printf_(4, 5);
static int path_fmt(char *dst, size_t size, struct err *err, const char *fmt, ...)
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

/* Run a program of ours to its end; 0 or -EIO. */
static int run(const char *const *argv)
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

static int remove_tree(const char *path)
{
	const char *argv[] = { "rm", "-rf", "--one-file-system", "--", path, NULL };

	return run(argv);
}

/* --- the digest --- */

struct digest {
	EVP_MD_CTX *md;
	uint32_t uid_base;
	uint64_t bytes;
	char path[4096];
};

static void digest_u64(struct digest *d, uint64_t v)
{
	uint8_t be[8];

	for (int i = 0; i < 8; i++)
		be[i] = (uint8_t)(v >> (56 - 8 * i));
	EVP_DigestUpdate(d->md, be, sizeof(be));
}

static int digest_file(struct digest *d, int dir, const char *name, uint64_t size)
{
	static uint8_t block[1 << 18];
	auto_fd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, block, sizeof(block))) > 0) {
		EVP_DigestUpdate(d->md, block, (size_t)n);
		size -= MIN(size, (uint64_t)n);
	}
	if (n < 0)
		return -errno;
	return size ? -EIO : 0; /* shrank meanwhile */
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_dots(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static int digest_dir(struct digest *d, int dir, size_t at, unsigned int depth);

static int digest_entry(struct digest *d, int dir, const char *name, size_t at, unsigned int depth)
{
	int n = snprintf(d->path + at, sizeof(d->path) - at, "/%s", name);
	struct stat st;

	if (n < 0 || (size_t)n >= sizeof(d->path) - at)
		return -ENAMETOOLONG;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	EVP_DigestUpdate(d->md, d->path, at + (size_t)n + 1);
	digest_u64(d, st.st_mode);
	digest_u64(d, st.st_uid - d->uid_base);
	digest_u64(d, st.st_gid - d->uid_base);
	if (S_ISREG(st.st_mode)) {
		digest_u64(d, (uint64_t)st.st_size);
		d->bytes += (uint64_t)st.st_size;
		return digest_file(d, dir, name, (uint64_t)st.st_size);
	}
	if (S_ISLNK(st.st_mode)) {
		char target[4096];
		ssize_t len = readlinkat(dir, name, target, sizeof(target));

		if (len < 0)
			return -errno;
		digest_u64(d, (uint64_t)len);
		EVP_DigestUpdate(d->md, target, (size_t)len);
		return 0;
	}
	if (S_ISDIR(st.st_mode)) {
		int sub = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		return sub < 0 ? -errno : digest_dir(d, sub, at + (size_t)n, depth + 1);
	}
	return 0; /* a fifo or socket: its name and mode are all there is */
}

/* Takes dir over. */
static int digest_dir(struct digest *d, int dir, size_t at, unsigned int depth)
{
	auto_fd int fd = dir;
	struct dirent **entries = NULL;
	int n, r = 0;

	if (depth > TREE_DEPTH_MAX)
		return -ELOOP;
	n = scandirat(fd, ".", &entries, not_dots, by_name);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = digest_entry(d, fd, entries[i]->d_name, at, depth);
		free(entries[i]);
	}
	free(entries);
	return r;
}

static int tree_digest(const char *root, uint32_t uid_base, char hex[65], uint64_t *ret_bytes,
	struct err *err)
{
	struct digest d = { .uid_base = uid_base };
	uint8_t sum[EVP_MAX_MD_SIZE];
	int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (dir < 0)
		return err_sys(err, -errno, "open %s", root);
	d.md = EVP_MD_CTX_new();
	if (!d.md || !EVP_DigestInit_ex(d.md, EVP_sha256(), NULL)) {
		fd_close(dir);
		EVP_MD_CTX_free(d.md);
		return err_set(err, -ENOMEM, ERR_INTERNAL, "SHA-256 is not to be had");
	}
	r = digest_dir(&d, dir, 0, 0);
	EVP_DigestFinal_ex(d.md, sum, NULL);
	EVP_MD_CTX_free(d.md);
	if (r < 0)
		return err_sys(err, r, "read the new tree at %s", d.path);
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", sum[i]);
	*ret_bytes = d.bytes;
	return 0;
}

/* --- the recipe, in its namespaces --- */

/* Pid 1 of the recipe's pid namespace: mounts proc, runs the script, reaps. */
static _noreturn_ void recipe_init(const struct job *job, const char *script, const char *rootfs)
{
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
		setenv("HOME", job->work, 1);
		setenv("LC_ALL", "C.UTF-8", 1);
		if (job->from)
			setenv("WEIR_IMAGE", job->from, 1);
		unsetenv("TMPDIR");
		umask(022);
		if (chdir(job->work) == 0)
			execl(script, script, rootfs, job->cache, (char *)NULL);
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

static int map_write(pid_t pid, const char *file, uint32_t base)
{
	char path[64], text[64];
	int n = snprintf(text, sizeof(text), "0 %u %u\n", base, UID_COUNT);

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	return file_write_kernel(AT_FDCWD, path, str_n(text, (size_t)n));
}

/* The child: leave the machine's namespaces, wait for the id map, become its root. */
static _noreturn_ void recipe_child(const struct job *job, int ready, int mapped,
	const char *script, const char *rootfs)
{
	int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
	int status;
	char go;
	pid_t init;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (job->uid_base)
		flags |= CLONE_NEWUSER;
	if (unshare(flags) < 0) {
		perror("unshare");
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
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		perror("make mounts private");
		_exit(1);
	}
	init = fork();
	if (init == 0)
		recipe_init(job, script, rootfs);
	while (waitpid(init, &status, 0) < 0)
		if (errno != EINTR)
			_exit(1);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Recipes may lie where only root may look (a clone below /root): run copies that their user can
 * read. All of them, because one calls another. ret_script: the copy of `file`. */
static int recipes_stage(const struct job *job, const char *file, char *ret_script, size_t size,
	struct err *err)
{
	char to[1024];
	struct dirent *e;
	int r = path_fmt(to, sizeof(to), err, "%s/recipes", job->staging);
	DIR *dir;

	if (r == 0)
		r = path_fmt(ret_script, size, err, "%s/%s", to, file);
	if (r < 0)
		return r;
	r = path_mkdirs(to, 0755);
	if (r < 0)
		return err_sys(err, r, "make %s", to);
	dir = opendir(job->recipes);
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

/* The credentials, where the recipe's user alone can read them. */
static int auth_stage(const struct job *job, struct err *err)
{
	auto_buf struct buf text = BUF_MAX(AUTH_MAX);
	char path[1200];
	int r;

	if (!job->auth)
		return 0;
	r = file_read(AT_FDCWD, job->auth, &text);
	if (r < 0)
		return err_sys(err, r, "read %s", job->auth);
	r = path_fmt(path, sizeof(path), err, "%s/auth.json", job->work);
	if (r == 0)
		r = file_replace(AT_FDCWD, path, buf_str(&text), 0600, false);
	if (r == 0 && chown(path, job->uid_base, job->uid_base) < 0)
		r = -errno;
	if (text.p)
		explicit_bzero(text.p, text.n);
	return r < 0 ? err_sys(err, r, "stage the credentials") : 0;
}

static int recipe_run(const struct job *job, const char *script, const char *rootfs,
	struct err *err)
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
		recipe_child(job, ready[1], mapped[0], script, rootfs);
	}
	fd_close(ready[1]);
	fd_close(mapped[0]);
	if (pid < 0) {
		r = err_sys(err, -errno, "fork");
	} else {
		if (read(ready[0], &c, 1) < 0)
			r = -errno;
		if (r == 0 && job->uid_base)
			r = map_write(pid, "uid_map", job->uid_base);
		if (r == 0 && job->uid_base)
			r = map_write(pid, "gid_map", job->uid_base);
		if (r < 0)
			err_sys(err, r, "map user ids (try --uid-base 0 where user namespaces are off)");
		else if (write(mapped[1], "g", 1) != 1)
			r = err_sys(err, -errno, "start the recipe");
	}
	fd_close(ready[0]);
	fd_close(mapped[1]);
	if (pid < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "wait for the recipe");
	if (r == 0 && status)
		r = err_set(err, -EIO, ERR_INTERNAL, "the recipe %s failed (status %d)", script,
			WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return r;
}

/* --- the store --- */

static int store_open(const struct job *job, int *ret_lock, struct err *err)
{
	static const char *const dirs[] = { "", "/tmp", "/images", "/names" };
	char path[1100];
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		r = path_fmt(path, sizeof(path), err, "%s%s", job->store, dirs[i]);
		if (r == 0)
			r = path_mkdirs(path, 0755);
		if (r < 0)
			return err_sys(err, r, "make %s", path);
	}
	r = path_fmt(path, sizeof(path), err, "%s/lock", job->store);
	if (r < 0)
		return r;
	*ret_lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*ret_lock < 0)
		return err_sys(err, -errno, "open %s", path);
	if (flock(*ret_lock, LOCK_EX | LOCK_NB) < 0) {
		say("waiting for another build in %s", job->store);
		while (flock(*ret_lock, LOCK_EX) < 0)
			if (errno != EINTR)
				return err_sys(err, -errno, "lock %s", path);
	}
	return 0;
}

/* Is it there already? Prints its digest. */
static bool store_has(const struct job *job)
{
	struct buf meta = BUF_MAX(4096);
	char path[1100];
	bool there = false;

	if (path_fmt(path, sizeof(path), NULL, "%s/names/%s/meta", job->store, job->name) == 0 &&
	    file_read(AT_FDCWD, path, &meta) == 0) {
		struct str text = buf_str(&meta), line;

		while (text.p && !there) {
			line = str_cut(&text, '\n');
			if (str_starts(line, STR("digest="))) {
				say("%s is there: " STR_FMT, job->name,
					STR_ARG(str_skip(line, strlen("digest="))));
				there = true;
			}
		}
	}
	buf_done(&meta);
	return there;
}

static int store_publish(const struct job *job, const char *hex, uint64_t bytes, struct err *err)
{
	char path[1200], target[128], link[1200];
	struct buf meta = BUF_MAX(4096);
	int r;

	buf_fmt(&meta, "name=%s\ndigest=sha256:%s\nbytes=%" PRIu64 "\nuid_base=%u\ncreated=%s\n",
		job->name, hex, bytes, job->uid_base, rfc3339_from(clock_wall_ns()).s);
	r = path_fmt(path, sizeof(path), err, "%s/meta", job->image);
	if (r == 0)
		r = buf_failed(&meta) ?: file_replace(AT_FDCWD, path, buf_str(&meta), 0644, true);
	buf_done(&meta);
	if (r < 0)
		return err_sys(err, r, "write %s", path);

	auto_fd int store = open(job->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (store < 0 || syncfs(store) < 0) /* a name must never lead to half an image */
		return err_sys(err, -errno, "sync %s", job->store);
	r = path_fmt(path, sizeof(path), err, "%s/images/%s", job->store, hex);
	if (r < 0)
		return r;
	/* The same content may be there already, under another name. */
	if (rename(job->image, path) < 0 && errno != EEXIST && errno != ENOTEMPTY)
		return err_sys(err, -errno, "publish %s", path);
	snprintf(target, sizeof(target), "../images/%s", hex);
	r = path_fmt(link, sizeof(link), err, "%s/names/.%s.%d", job->store, job->name, (int)getpid());
	if (r == 0)
		r = path_fmt(path, sizeof(path), err, "%s/names/%s", job->store, job->name);
	if (r < 0)
		return r;
	if (symlink(target, link) < 0 || rename(link, path) < 0) {
		r = err_sys(err, -errno, "name %s", path);
		unlink(link);
		return r;
	}
	return 0;
}

static int build(struct job *job, struct err *err)
{
	char script[1400], rootfs[1100], file[128], hex[65];
	auto_fd int lock = -EBADF;
	uint64_t bytes = 0;
	int r;

	r = store_open(job, &lock, err);
	if (r < 0)
		return r;
	if (!job->force && store_has(job))
		return 0;

	/* devbox:1 -> devbox_1 */
	r = path_fmt(file, sizeof(file), err, "%s", job->from ? FETCH : job->name);
	if (r < 0)
		return r;
	for (char *p = file; *p; p++)
		if (*p == ':')
			*p = '_';
	r = path_fmt(script, sizeof(script), err, "%s/%s", job->recipes, file);
	if (r < 0)
		return r;
	if (access(script, X_OK) < 0)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "name", "no recipe for %s in %s",
			job->name, job->recipes);

	r = path_fmt(rootfs, sizeof(rootfs), err, "%s/tmp", job->store);
	if (r < 0)
		return r;
	remove_tree(rootfs); /* litter of a build that was killed */
	r = path_fmt(job->staging, sizeof(job->staging), err, "%s/tmp/%d", job->store, (int)getpid());
	if (r == 0)
		r = path_fmt(job->image, sizeof(job->image), err, "%s/image", job->staging);
	if (r == 0)
		r = path_fmt(job->work, sizeof(job->work), err, "%s/work", job->staging);
	if (r == 0)
		r = path_fmt(rootfs, sizeof(rootfs), err, "%s/rootfs", job->image);
	if (r < 0)
		return r;
	r = path_mkdirs(rootfs, 0755);
	if (r == 0)
		r = path_mkdirs(job->work, 0755);
	if (r == 0)
		r = path_mkdirs(job->cache, 0755);
	if (r < 0)
		return err_sys(err, r, "make %s", rootfs);
	r = recipes_stage(job, file, script, sizeof(script), err);
	if (r < 0)
		return r;
	/* What the recipe's root owns outside: the tree, its working directory, the cache. */
	if (chown(job->work, job->uid_base, job->uid_base) < 0 ||
	    chown(rootfs, job->uid_base, job->uid_base) < 0 ||
	    chown(job->cache, job->uid_base, job->uid_base) < 0)
		return err_sys(err, -errno, "give %s to user %u", rootfs, job->uid_base);

	r = auth_stage(job, err);
	if (r < 0) {
		remove_tree(job->staging);
		return r;
	}
	say(job->from ? "fetching %s from %s" : "building %s", job->name, job->from);
	r = recipe_run(job, script, rootfs, err);
	if (r == 0) {
		say("digesting");
		r = tree_digest(rootfs, job->uid_base, hex, &bytes, err);
	}
	if (r == 0)
		r = store_publish(job, hex, bytes, err);
	remove_tree(job->staging);
	if (r < 0)
		return r;
	say("%s is sha256:%s, %" PRIu64 " MiB", job->name, hex, bytes >> 20);
	return 0;
}

/* NAME is <repository>:<tag>, lower case; it becomes file names. */
static bool name_ok(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-:");
	const char *colon = strchr(name, ':');

	return n && n < 60 && !name[n] && colon && colon != name && colon[1] &&
		!strchr(colon + 1, ':') && name[0] != '.' && name[0] != '-';
}

/* A reference that can be nothing but one: it becomes a word on skopeo's command line. */
static bool from_ok(const char *from)
{
	size_t n = strspn(from, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/:@-");

	return n && n < 256 && !from[n] && from[0] != '-' && strchr(from, '/');
}

static int usage(FILE *to, int code)
{
	fputs("usage: weir-build NAME --store DIR [--from IMAGE [--auth FILE]] [--cache DIR] [--recipes DIR]\n"
	      "                  [--uid-base N] [--force]\n"
	      "\n"
	      "Build the image NAME (debian:12, devbox:1) into an image store. Needs root.\n"
	      "  --store DIR     the image store\n"
	      "  --from IMAGE    fetch it: registry.example/name:tag (http://… without TLS)\n"
	      "  --auth FILE     the registry's credentials, as containers-auth.json(5) has them\n"
	      "  --cache DIR     downloaded packages (default /var/cache/weir/build)\n"
	      "  --recipes DIR   where recipes lie (default " WEIR_RECIPES ")\n"
	      "  --uid-base N    owner range of the files; 0: no user namespace (default 4293918720)\n"
	      "  --force         build even when the store has it\n",
		to);
	return code;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "store", required_argument, NULL, 's' }, { "cache", required_argument, NULL, 'c' },
		{ "recipes", required_argument, NULL, 'r' }, { "uid-base", required_argument, NULL, 'u' },
		{ "from", required_argument, NULL, 'i' }, { "auth", required_argument, NULL, 'a' },
		{ "force", no_argument, NULL, 'f' },	   { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },	   { 0 }
	};
	struct job job = { .cache = "/var/cache/weir/build", .recipes = WEIR_RECIPES,
		.uid_base = UID_BASE_DEFAULT };
	const char *tree = getenv("WEIR_RECIPES"); /* a daemon run from the build tree */
	struct err err = { 0 };
	uint64_t n;
	int c;

	if (tree && tree[0] == '/')
		job.recipes = tree;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 's': job.store = optarg; break;
		case 'c': job.cache = optarg; break;
		case 'r': job.recipes = optarg; break;
		case 'u':
			if (str_u64(str_c(optarg), UINT32_MAX - UID_COUNT, &n) < 0)
				return usage(stderr, 2);
			job.uid_base = (uint32_t)n;
			break;
		case 'i': job.from = optarg; break;
		case 'a': job.auth = optarg; break;
		case 'f': job.force = true; break;
		case 'h': return usage(stdout, 0);
		case 'V': puts("weir-build " WEIR_VERSION); return 0;
		default: return usage(stderr, 2);
		}
	}
	if (optind + 1 != argc || !job.store || job.store[0] != '/' || job.cache[0] != '/' ||
	    !name_ok(argv[optind]) || (job.from && !from_ok(job.from)) || (job.auth && !job.from))
		return usage(stderr, 2);
	job.name = argv[optind];
	if (geteuid() != 0) {
		fputs("weir-build: must be started as root: it gives the image a user range of its own\n",
			stderr);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN); /* the reader of the log may leave; the build goes on */
	umask(022);
	if (build(&job, &err) < 0) {
		fprintf(stderr, "weir-build: %s\n", err.text);
		return 1;
	}
	return 0;
}
