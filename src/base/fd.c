/* Descriptors and small files: see the header. */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "base/fd.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

int fd_close(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
	return -EBADF;
}

int fd_write_all(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		ssize_t k = write(fd, at, n);

		if (k < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

int fd_read_all(int fd, void *p, size_t n)
{
	char *at = p;

	while (n) {
		ssize_t k = read(fd, at, n);

		if (k < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (k == 0)
			return -ENODATA;
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

int fd_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int fd_read_end(int fd, struct buf *out)
{
	for (;;) {
		ssize_t k;
		int r = buf_room(out, MIN((size_t)4096, MAX(out->max - out->n, (size_t)1)));

		if (r < 0)
			return r;
		k = read(fd, out->p + out->n, out->cap - out->n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : 0;
		out->n += (size_t)k;
	}
}

int file_read(int dirfd, const char *path, struct buf *out)
{
	auto_fd int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd_read_end(fd, out);
}

int file_write_kernel(int dirfd, const char *path, struct str text)
{
	auto_fd int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
	ssize_t k;

	if (fd < 0)
		return -errno;
	k = write(fd, text.p, text.n);
	if (k < 0)
		return -errno;
	return (size_t)k == text.n ? 0 : -EIO;
}

int file_replace(int dirfd, const char *path, struct str text, unsigned int mode, bool durable)
{
	char tmp[512];
	int r;

	if ((size_t)snprintf(tmp, sizeof(tmp), "%s.new", path) >= sizeof(tmp))
		return -ENAMETOOLONG;
	{
		auto_fd int fd =
			openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);

		if (fd < 0)
			return -errno;
		r = fd_write_all(fd, text.p, text.n);
		if (r == 0 && durable && fsync(fd) < 0)
			r = -errno;
	}
	if (r == 0 && renameat(dirfd, tmp, dirfd, path) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dirfd, tmp, 0);
	return r;
}

int memfd_sealed(const char *name, struct str content)
{
	auto_fd int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, content.p, content.n);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return -errno;
	return take_fd(fd);
}

int memfd_read(int fd, size_t max, struct buf *out)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS), r;
	size_t done = 0;

	if (seals < 0 || (seals & SEALS) != SEALS)
		return -EPERM;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < 0 || (uint64_t)st.st_size > max)
		return -EFBIG;
	r = buf_room(out, (size_t)st.st_size);
	if (r < 0)
		return r;
	while (done < (size_t)st.st_size) {
		ssize_t k = pread(fd, out->p + out->n, (size_t)st.st_size - done, (off_t)done);

		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		out->n += (size_t)k;
		done += (size_t)k;
	}
	return 0;
}

int path_mkdirs(const char *path, unsigned int mode)
{
	auto_free char *copy = str_dup(str_c(path));

	if (!copy)
		return -ENOMEM;
	for (char *at = copy + 1; *at; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return -errno;
		*at = '/';
	}
	return mkdir(copy, mode) < 0 && errno != EEXIST ? -errno : 0;
}

int fd_copy_sparse(int from, int to, off_t size)
{
	off_t data, hole = 0;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (ftruncate(to, size) < 0)
		return -errno;
	while ((data = lseek(from, hole, SEEK_DATA)) >= 0) {
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		for (off_t in = data, out = data; in < hole;) {
			ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(hole - in), 0);

			if (n <= 0)
				return n < 0 ? -errno : -EIO;
		}
	}
	return errno == ENXIO ? 0 : -errno;
}
