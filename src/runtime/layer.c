/*
 * Writable layers, what both backends share: see layer.h. A layer is a directory with a name of
 * ours; with `loop` it holds the image, with `quota` it lies on the volume and is the layer.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "runtime/fork.h"
#include "runtime/janitor.h"
#include "runtime/sys.h"

#define GROW_MAX_MIB (1u << 20)

/* Between clone and exec, and in a starter, nothing is allocated: so no posix_spawn(). */
_noreturn_ static void become(const char *const *argv)
{
	static const char *const dirs[] = { "/usr/sbin", "/sbin", "/usr/bin", "/bin" };
	static char *const env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	int null = open("/dev/null", O_RDWR);
	char path[64];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	close_range(3, ~0u, 0);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/%s", dirs[i], argv[0]);
		execve(path, (char *const *)(uintptr_t)argv, env);
	}
	_exit(127);
}

int layer_run(const char *const *argv, struct err *err)
{
	int status, pidfd = -EBADF;
	pid_t pid = sys_clone3(0, SIGCHLD, -1, &pidfd);

	if (pid == 0)
		become(argv);
	fd_close(pidfd);
	if (pid < 0)
		return err_sys(err, pid, "run %s", argv[0]);
	status = fork_status(pid, argv[0], err);
	if (status < 0)
		return status;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_sys(err, -ENOENT, "run %s (package e2fsprogs)", argv[0]);
	return err_set(err, -EIO, ERR_INTERNAL, "%s failed with status %d", argv[0], status);
}

int layer_mkfs(const char *path, uint32_t mib, const char *features, const char *dirs,
	struct err *err)
{
	/* Prezeroed: the file is one hole, so neither tables nor journal need writing. Room to be
	 * grown online to GROW_MAX_MIB is reserved, not the 4 MiB for a thousandfold that mkfs takes
	 * unasked: each block of it is written, and copied into every sandbox's image. */
	char ext[96] = "assume_storage_prezeroed=1,nodiscard,root_owner=0:0";
	const char *const argv[] = { "mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-i",
		"16384", "-J", "size=4", "-I", "256",
		"-O", features, "-E", ext, dirs ? "-d" : path, dirs, path, NULL };
	auto_fd int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return err_sys(err, -errno, "create %s", path);
	if (mib < GROW_MAX_MIB)
		snprintf(ext + strlen(ext), sizeof(ext) - strlen(ext), ",resize=%u",
			GROW_MAX_MIB * (1024 / 4)); /* in blocks */
	r = ftruncate(fd, (off_t)mib << 20) < 0 ? -errno : 0;
	r = r < 0 ? err_sys(err, r, "size %s to %u MiB", path, mib) : layer_run(argv, err);
	if (r < 0)
		unlink(path);
	return r;
}

int layer_mount_ext4(const char *device, bool quota, struct err *err)
{
	const struct mount_opt opts[] = { { "source", device }, { "discard", NULL },
		{ "prjquota", NULL } };
	int mnt = mount_new("ext4", opts, quota ? 3 : 2, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME);

	return mnt < 0 ? err_sys(err, mnt, "mount %s", device) : mnt;
}

int layer_dirs(int at, struct err *err)
{
	static const char *const names[] = { "upper", "work" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (mkdirat(at, names[i], 0755) < 0 && errno != EEXIST)
			return err_sys(err, -errno, "make %s/ of a writable layer", names[i]);
	return 0;
}

/* --- the store --- */

int layers_open(const char *state_dir, const char *backend, struct layers **ret, struct err *err)
{
	bool any = !strcmp(backend, "auto");
	struct layers *ls = calloc(1, sizeof(*ls));
	int r;

	if (!ls)
		return err_sys(err, -ENOMEM, "writable layers");
	ls->fd = ls->volume = ls->janitor.chan = -EBADF;
	pthread_mutex_init(&ls->janitor.lock, NULL);
	if ((size_t)snprintf(ls->dir, sizeof(ls->dir), "%s/layers", state_dir) >= sizeof(ls->dir)) {
		free(ls);
		return err_sys(err, -ENAMETOOLONG, "state directory");
	}
	r = path_mkdirs(ls->dir, 0700);
	if (r == 0) {
		ls->fd = open(ls->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = ls->fd < 0 ? -errno : 0;
	}
	if (r < 0) {
		layers_close(ls);
		return err_sys(err, r, "make %s/layers", state_dir);
	}
	r = -EINVAL;
	if (any || !strcmp(backend, layer_quota.name)) {
		ls->ops = &layer_quota;
		r = ls->ops->open(ls, err);
	}
	if (r < 0 && (any || !strcmp(backend, layer_loop.name))) {
		ls->ops = &layer_loop;
		r = ls->ops->open(ls, err);
	}
	if (r < 0) {
		if (!ls->ops)
			err_set(err, r, ERR_INVALID, "disk.backend: expected auto, quota or loop");
		layers_close(ls);
		return r;
	}
	*ret = ls;
	return 0;
}

void layers_close(struct layers *ls)
{
	if (!ls)
		return;
	janitor_end(ls);
	fd_close(ls->volume);
	fd_close(ls->fd);
	free(ls);
}

size_t layers_fds(const struct layers *ls, int *fds, size_t max)
{
	size_t n = 0;

	if (n < max)
		fds[n++] = ls->fd;
	if (ls->volume >= 0 && n < max)
		fds[n++] = ls->volume;
	return n;
}

bool layer_id_ok(const char *id)
{
	size_t n = strlen(id);

	for (size_t i = 0; i < n; i++)
		if (!((id[i] >= 'a' && id[i] <= 'z') || (id[i] >= '0' && id[i] <= '9') ||
			    (id[i] == '-' && i > 0)))
			return false;
	return n > 0 && n < LAYER_NAME_MAX;
}

int layers_ready(struct layers *ls, uint32_t mib, struct err *err)
{
	return ls->ops->ready(ls, mib, err);
}

int layers_may_begin(struct layers *ls, const char *stored, uint32_t mib, struct err *err)
{
	if (!stored)
		return layers_ready(ls, mib, err);
	if (!layer_id_ok(stored))
		return err_set(err, -EINVAL, ERR_INVALID, "not a sandbox id");
	if (!layer_exists(ls, stored))
		return err_set(err, -ENOENT, ERR_CONFLICT, "%s has no writable layer", stored);
	return 0;
}

bool layer_exists(struct layers *ls, const char *name)
{
	return faccessat(layers_home(ls), name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int layer_make(struct layers *ls, const char *name, uint32_t mib, struct err *err)
{
	if (mkdirat(layers_home(ls), name, 0700) < 0)
		return errno == EEXIST ? err_set(err, -EEXIST, ERR_CONFLICT,
						 "there is a writable layer %s already", name)
				       : err_sys(err, -errno, "make the writable layer %s", name);
	return ls->ops->make(ls, name, mib, err);
}

int layer_copy(struct layers *ls, const char *from, const char *name, struct err *err)
{
	if (!ls->ops->copy)
		return err_set(err, -ENOTSUP, ERR_INTERNAL, "a layer that cannot be copied");
	if (mkdirat(layers_home(ls), name, 0700) < 0)
		return err_sys(err, -errno, "make the writable layer %s", name);
	return ls->ops->copy(ls, from, name, err);
}

int layer_blank(struct layers *ls, const char *name, struct err *err)
{
	if (!ls->ops->blank)
		return err_set(err, -ENOTSUP, ERR_INTERNAL, "a layer without an image");
	if (mkdirat(layers_home(ls), name, 0700) < 0)
		return err_sys(err, -errno, "make the writable layer %s", name);
	return ls->ops->blank(ls, name, err);
}

int layer_mount(struct layers *ls, const char *name, struct layer_at *ret, struct err *err)
{
	return ls->ops->mount(ls, name, ret, err);
}

int layer_claim(struct layers *ls, const char *from, const char *name, struct err *err)
{
	if (renameat2(layers_home(ls), from, layers_home(ls), name, RENAME_NOREPLACE) == 0)
		return 0;
	return errno == EEXIST ? err_set(err, -EEXIST, ERR_CONFLICT,
					 "there is a writable layer %s already", name)
			       : err_sys(err, -errno, "name the writable layer %s", name);
}

int layer_grow(struct layers *ls, const char *name, uint32_t mib, bool mounted, struct err *err)
{
	return ls->ops->grow(ls, name, mib, mounted, err);
}

int layer_image(struct layers *ls, const char *name, struct err *err)
{
	return ls->ops->image ? ls->ops->image(ls, name, err)
			      : err_set(err, -ENOTSUP, ERR_INTERNAL, "a layer without an image");
}

uint64_t layer_used(struct layers *ls, const char *name)
{
	return ls->ops->used(ls, name);
}
