/*
 * Reading the image store: see the header. The store's top directory is ours; what stands below
 * rootfs/ is the image's, so it is opened here and never walked.
 */
#include <dirent.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "runtime/image.h"
#include "runtime/sys.h"

#define META_MAX 4096

void image_done(struct image *im)
{
	im->rootfs = fd_close(im->rootfs);
}

static bool name_ok(struct str name)
{
	if (name.n == 0 || name.n >= IPC_NAME_LEN || name.p[0] == '.' || name.p[0] == '-')
		return false;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
			    c == ':' || c == '-'))
			return false;
	}
	return true;
}

static int meta_line(struct image *im, struct str key, struct str value)
{
	uint64_t n;
	int r = 0;

	if (str_eq_c(key, "name"))
		return name_ok(value) ? str_copy(im->name, sizeof(im->name), value) : -EINVAL;
	if (str_eq_c(key, "digest"))
		return str_copy(im->digest, sizeof(im->digest), value);
	if (str_eq_c(key, "created"))
		return str_copy(im->created, sizeof(im->created), value);
	if (str_eq_c(key, "bytes"))
		return str_u64(value, UINT64_MAX, &im->bytes);
	if (str_eq_c(key, "uid_base")) {
		r = str_u64(value, UINT32_MAX - IDS_PER_SANDBOX, &n);
		if (r == 0)
			im->uid_base = (uint32_t)n;
	}
	return r; /* unknown keys are a newer builder's */
}

static int meta_read(int dir, struct image *im)
{
	auto_buf struct buf text = BUF_MAX(META_MAX);
	struct str rest;
	int r = file_read(dir, "meta", &text);

	if (r < 0)
		return r;
	im->rootfs = -EBADF;
	for (rest = buf_str(&text); rest.n;) {
		struct str value = str_cut(&rest, '\n'), key = str_cut(&value, '=');

		if (!value.p)
			continue;
		r = meta_line(im, str_trim(key), str_trim(value));
		if (r < 0)
			return r;
	}
	return im->name[0] && im->digest[0] ? 0 : -EINVAL;
}

int image_resolve(const char *dir, const char *name, struct image *ret, struct err *err)
{
	struct image im = { .rootfs = -EBADF };
	auto_fd int store = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_fd int at = -EBADF;
	char path[IPC_NAME_LEN + 8];
	int r;

	if (store < 0)
		return err_sys(err, -errno, "open the image store %s", dir);
	if (!name_ok(str_c(name)))
		return err_set(err, -ENOENT, ERR_NOT_FOUND, "there is no such image");
	snprintf(path, sizeof(path), "names/%s", name);
	at = sys_openat2(store, path, O_RDONLY | O_DIRECTORY, 0,
		RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
	r = at < 0 ? at : meta_read(at, &im);
	if (r == -ENOENT)
		return err_set(err, r, ERR_NOT_FOUND, "there is no image %s", name);
	if (r < 0)
		return err_sys(err, r, "read image %s", name);
	r = str_copy(im.name, sizeof(im.name), str_c(name));
	if (r < 0)
		return r;
	im.rootfs = openat(at, "rootfs", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (im.rootfs < 0)
		return err_sys(err, -errno, "open the root of image %s", name);
	*ret = im;
	return 0;
}

int image_list(const char *dir, struct image *ret, size_t max, struct err *err)
{
	auto_fd int store = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int names, n = 0;
	struct dirent *e;
	DIR *d;

	if (store < 0)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "open the image store %s", dir);
	names = openat(store, "names", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = names < 0 ? NULL : fdopendir(names);
	if (!d) {
		fd_close(names);
		return errno == ENOENT ? 0 : err_sys(err, -errno, "list the image store %s", dir);
	}
	while ((size_t)n < max && (e = readdir(d))) {
		struct image im = { 0 };
		auto_fd int at = -EBADF;
		char path[IPC_NAME_LEN + 8];

		if (!name_ok(str_c(e->d_name)))
			continue;
		snprintf(path, sizeof(path), "names/%.63s", e->d_name);
		at = sys_openat2(store, path, O_RDONLY | O_DIRECTORY, 0,
			RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
		if (at < 0 || meta_read(at, &im) < 0)
			continue; /* being written, or not ours */
		snprintf(im.name, sizeof(im.name), "%.63s", e->d_name);
		ret[n++] = im;
	}
	closedir(d);
	return n;
}
