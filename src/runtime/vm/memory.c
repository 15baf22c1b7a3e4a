/* Memory files of machines: see the header. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "runtime/vm/machine.h"
#include "runtime/vm/memory.h"

#define PAGE  4096u
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int memory_new(uint32_t mib, struct err *err)
{
	auto_fd int fd = memfd_create("weir-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)mib << 20) < 0)
		return err_sys(err, -errno, "make a machine's memory");
	return take_fd(fd);
}

/* QEMU can put what it likes at its descriptors; it has no memory file but its own and its template. */
int memory_of(pid_t pid, uint32_t mib, struct err *err)
{
	auto_fd int fd = -EBADF;
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, MACHINE_MEMORY);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, -errno, "find the machine's memory");
	if (fstat(fd, &st) < 0 || fcntl(fd, F_GET_SEALS) < 0 || st.st_size != (off_t)mib << 20)
		return err_set(err, -EBADMSG, ERR_INTERNAL, "QEMU has not the memory it was given");
	return take_fd(fd);
}

int memory_seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, SEALS) < 0 ? -errno : 0;
}

bool memory_sealed(int fd)
{
	return (fcntl(fd, F_GET_SEALS) & SEALS) == SEALS;
}

static bool zeros(const char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static int put(int to, const char *p, size_t n, off_t at)
{
	while (to >= 0 && n) {
		ssize_t k = pwrite(to, p, n, at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		p += k;
		n -= (size_t)k;
		at += k;
	}
	return 0;
}

/* The pages of a chunk that hold anything; neighbours together. place: of the chunk, in the memory. */
static int put_pages(const char *chunk, size_t n, uint64_t place, int to, off_t base, EVP_MD_CTX *md)
{
	size_t from = 0, end = 0;
	int r = 0;

	for (size_t at = 0; r == 0 && at < n; at += PAGE) {
		uint64_t where = place + at;

		if (zeros(chunk + at))
			continue;
		EVP_DigestUpdate(md, &where, sizeof(where));
		EVP_DigestUpdate(md, chunk + at, PAGE);
		if (at != end) {
			r = put(to, chunk + from, end - from, base + (off_t)(place + from));
			from = at;
		}
		end = at + PAGE;
	}
	return r < 0 ? r : put(to, chunk + from, end - from, base + (off_t)(place + from));
}

/* bytes of `from` behind from_at, hole for hole, to `to` behind to_at. */
static int carry(int from, off_t from_at, uint64_t bytes, int to, off_t to_at, EVP_MD_CTX *md, char *chunk)
{
	off_t end = from_at + (off_t)bytes, data = from_at, hole;

	while ((data = lseek(from, data, SEEK_DATA)) >= 0 && data < end) {
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		hole = MIN(hole, end);
		/* A file system may know its holes by blocks that are no pages. */
		for (off_t at = from_at + (data - from_at) / PAGE * PAGE; at < hole; data = at) {
			size_t want = MIN((size_t)(end - at), MEMORY_CHUNK), got = 0;
			int r;

			while (got < want) {
				ssize_t k = pread(from, chunk + got, want - got, at + (off_t)got);

				if (k < 0 && errno == EINTR)
					continue;
				if (k <= 0)
					return k < 0 ? -errno : -ENODATA;
				got += (size_t)k;
			}
			r = put_pages(chunk, got, (uint64_t)(at - from_at), to, to_at, md);
			if (r < 0)
				return r;
			at += (off_t)got;
		}
	}
	return data >= 0 || errno == ENXIO ? 0 : -errno;
}

int memory_write(int from, int to, off_t at, EVP_MD_CTX *md, char *chunk, struct err *err)
{
	struct stat st;
	int r = fstat(from, &st) < 0 || ftruncate(to, at + st.st_size) < 0 ? -errno : 0;

	r = r < 0 ? r : carry(from, 0, (uint64_t)st.st_size, to, at, md, chunk);
	return r < 0 ? err_sys(err, r, "write the machine's memory") : 0;
}

int memory_read(int from, off_t at, uint64_t bytes, int to, EVP_MD_CTX *md, char *chunk, struct err *err)
{
	int r = carry(from, at, bytes, to, 0, md, chunk);

	return r < 0 ? err_sys(err, r, "read the machine's memory") : 0;
}
