/* Files of paused machines: see the header. */
#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "runtime/vm/snapshot.h"

#define MAGIC "WEIRVM\r\n" /* a transfer as text would change it */
#define EMPTY "empty"

static const char *part_of(const char *id, char ret[IPC_ID_LEN + 8])
{
	snprintf(ret, IPC_ID_LEN + 8, "%.*s.part", IPC_ID_LEN - 1, id);
	return ret;
}

static int digest_head(const struct snapshot_head *h, uint8_t ret[SNAPSHOT_DIGEST])
{
	return EVP_Digest(h, offsetof(struct snapshot_head, own), ret, NULL, EVP_sha256(), NULL) == 1
		       ? 0
		       : -ENOMEM;
}

int snapshots_open(const char *vm_dir, struct err *err)
{
	char path[320];
	int fd;

	snprintf(path, sizeof(path), "%s/paused/" EMPTY, vm_dir);
	path_mkdirs(path, 0700);
	path[strlen(path) - strlen("/" EMPTY)] = '\0';
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys(err, -errno, "open %s", path) : fd;
}

int snapshot_begin(int dir, const char *id, struct err *err)
{
	char part[IPC_ID_LEN + 8];
	int fd;

	unlinkat(dir, part_of(id, part), 0);
	fd = openat(dir, part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || lseek(fd, SNAPSHOT_BODY, SEEK_SET) < 0) {
		err_sys(err, -errno, "make the snapshot of %s", id);
		fd_close(fd);
		return -EIO;
	}
	return fd;
}

void snapshot_abandon(int dir, const char *id)
{
	char part[IPC_ID_LEN + 8];

	unlinkat(dir, part_of(id, part), 0);
}

int snapshot_commit(int dir, const char *id, int fd, struct snapshot_head *head, struct err *err)
{
	char part[IPC_ID_LEN + 8];
	int r;

	memcpy(head->magic, MAGIC, sizeof(head->magic));
	head->version = SNAPSHOT_VERSION;
	r = digest_head(head, head->own);
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	r = r < 0 ? r : fd_write_all(fd, head, sizeof(*head));
	if (r == 0 && (fdatasync(fd) < 0 || renameat(dir, part_of(id, part), dir, id) < 0 ||
			      fsync(dir) < 0))
		r = -errno;
	return r < 0 ? err_sys(err, r, "write the snapshot of %s", id) : 0;
}

static int refuse(struct err *err, const char *id, const char *why)
{
	return err_set(err, -EBADMSG, ERR_CONFLICT, "the snapshot of %s is refused: %s", id, why);
}

static bool texts_end(const struct vm_made *m)
{
	return ipc_text_ok(m->image, sizeof(m->image)) && ipc_text_ok(m->digest, sizeof(m->digest)) &&
	       ipc_text_ok(m->bundle, sizeof(m->bundle)) &&
	       ipc_text_ok(m->accel, sizeof(m->accel));
}

int snapshot_open(int dir, const char *id, struct snapshot_head *ret, struct err *err)
{
	auto_fd int fd = openat(dir, id, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	uint8_t own[SNAPSHOT_DIGEST];
	struct stat st;

	if (fd < 0)
		return err_sys(err, -errno, "open the snapshot of %s", id);
	if (fstat(fd, &st) < 0 || fd_read_all(fd, ret, sizeof(*ret)) < 0)
		return refuse(err, id, "it is cut short");
	if (memcmp(ret->magic, MAGIC, sizeof(ret->magic)) != 0)
		return refuse(err, id, "it is none");
	if (ret->version != SNAPSHOT_VERSION)
		return refuse(err, id, "it is of another version of its format");
	if (digest_head(ret, own) < 0 || memcmp(own, ret->own, sizeof(own)) != 0 || !texts_end(&ret->made))
		return refuse(err, id, "its head has changed");
	if (ret->memory && (ret->memory != (uint64_t)ret->made.mem_mib << 20 ||
				   ret->bytes > SNAPSHOT_MEMORY - SNAPSHOT_BODY))
		return refuse(err, id, "its head has changed");
	if ((uint64_t)st.st_size != (ret->memory ? SNAPSHOT_MEMORY + ret->memory : SNAPSHOT_BODY + ret->bytes))
		return refuse(err, id, "it is cut short, or has grown");
	if (lseek(fd, SNAPSHOT_BODY, SEEK_SET) < 0)
		return err_sys(err, -errno, "read the snapshot of %s", id);
	return take_fd(fd);
}

int snapshot_copy(int dir, int from, const char *spare, struct err *err)
{
	auto_fd int to = openat(dir, spare, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;
	int r = to < 0 || fstat(from, &st) < 0 ? -errno : 0;

	r = r < 0 ? r : fd_copy_sparse(from, to, st.st_size);
	if (r == 0 && fdatasync(to) < 0)
		r = -errno;
	return r < 0 ? err_sys(err, r, "copy a snapshot") : 0;
}

int snapshot_claim(int dir, const char *spare, const char *id, struct err *err)
{
	if (renameat(dir, spare, dir, id) < 0 || fsync(dir) < 0)
		return err_sys(err, -errno, "name the snapshot of %s", id);
	return 0;
}

bool snapshot_exists(int dir, const char *id)
{
	return faccessat(dir, id, F_OK, 0) == 0;
}

void snapshot_remove(int dir, struct layers *layers, const char *id)
{
	snapshot_abandon(dir, id);
	layer_discard_file(layers, dir, id);
}

void snapshots_sweep(int dir, bool (*owned)(const char *id, void *arg), void *arg)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;

	if (!d) {
		fd_close(copy);
		return;
	}
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && strcmp(e->d_name, EMPTY) != 0 && !owned(e->d_name, arg))
			unlinkat(dir, e->d_name, 0);
	closedir(d);
}
