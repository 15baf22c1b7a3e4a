/*
 * A layer that begins with another's files: see layer.h.
 *
 * The files of a layer have the ids of the slot their sandbox is in, and the copy's slot is another. So
 * the source is mounted once more, through a map of ids, and what is read there is copied as it appears:
 * one way for both backends, and the quota or image of the copy bounds it. Nobody writes meanwhile, as the
 * sandbox is frozen; the host does not follow what a tenant may have linked.
 */
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "runtime/layer_ops.h"
#include "runtime/sys.h"

/* A mount that is attached nowhere, by a name that another program of ours can use. */
static void upper_of(const struct layer_at *at, const char *end, char *ret, size_t size)
{
	snprintf(ret, size, "/proc/%d/fd/%d/%s/upper%s", (int)getpid(), at->mnt, at->sub, end);
}

int layer_copy_files(struct layers *ls, const char *from, const struct layer_at *to, int userns, struct err *err)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY,
		.userns_fd = (uint64_t)userns };
	struct layer_at at = { .mnt = -EBADF };
	char source[120], target[120];
	const char *const argv[] = { "cp", "-a", "--", source, target, NULL };
	auto_fd int mnt = -EBADF;
	int r = layer_mount(ls, from, &at, err);

	mnt = at.mnt;
	if (r < 0)
		return r;
	if (mount_setattr(mnt, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_sys(err, -errno, "map the ids of a writable layer");
	upper_of(&at, "/.", source, sizeof(source));
	upper_of(to, "/", target, sizeof(target));
	r = layer_run(argv, err);
	return r < 0 ? err_wrap(err, r, "copy the files of %s", from) : 0;
}
