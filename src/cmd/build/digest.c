/*
 * What an image is called by: SHA-256 over the sorted tree: path, type, permission bits, owner within
 * the range, extended attributes, and content or link target; not over times, which differ from build
 * to build. Images of one digest are one in the store, so whatever a sandbox can tell apart is in it.
 *
 * The tree is foreign. Nothing in it is followed, and nobody changes it any more: who made it has
 * ended with its pid namespace.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include "base/fd.h"
#include "base/hex.h"
#include "cmd/build/build.h"

#define TREE_DEPTH_MAX 128u /* deeper than any distribution; keeps the walk's stack small */

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

/* Capabilities, ACLs, a user's own; not the labels that a machine gives its files by itself. */
static bool of_the_image(const char *xattr)
{
	return strcmp(xattr, "security.capability") == 0 ||
		strncmp(xattr, "security.", strlen("security.")) != 0;
}

static int digest_xattrs(struct digest *d, int dir, const char *name)
{
	static char names[XATTR_LIST_MAX], value[XATTR_SIZE_MAX];
	const char *last = "", *next;
	char path[300];
	ssize_t n, len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, name);
	n = llistxattr(path, names, sizeof(names));
	if (n < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (;; last = next) { /* in the order of their names: few, as they share a block */
		next = NULL;
		for (const char *x = names; x < names + n; x += strlen(x) + 1)
			if (of_the_image(x) && strcmp(x, last) > 0 && (!next || strcmp(x, next) < 0))
				next = x;
		if (!next)
			return 0;
		len = lgetxattr(path, next, value, sizeof(value));
		if (len < 0)
			return -errno;
		EVP_DigestUpdate(d->md, next, strlen(next) + 1);
		digest_u64(d, (uint64_t)len);
		EVP_DigestUpdate(d->md, value, (size_t)len);
	}
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
	int r, n = snprintf(d->path + at, sizeof(d->path) - at, "/%s", name);
	struct stat st;

	if (n < 0 || (size_t)n >= sizeof(d->path) - at)
		return -ENAMETOOLONG;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	EVP_DigestUpdate(d->md, d->path, at + (size_t)n + 1);
	digest_u64(d, st.st_mode);
	digest_u64(d, st.st_uid - d->uid_base);
	digest_u64(d, st.st_gid - d->uid_base);
	r = digest_xattrs(d, dir, name);
	if (r < 0)
		return r;
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
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		return -ENOTBLK; /* the one that a user namespace may make is overlayfs's word for "gone" */
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

int tree_digest(const char *root, uint32_t uid_base, char hex[65], uint64_t *ret_bytes,
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
	if (r == -ENOTBLK)
		return err_set(err, -EPERM, ERR_INVALID, "%s is a device: no image may hold one", d.path);
	if (r < 0)
		return err_sys(err, r, "read the new tree at %s", d.path);
	hex_spell(hex, sum, 32);
	*ret_bytes = d.bytes;
	return 0;
}
