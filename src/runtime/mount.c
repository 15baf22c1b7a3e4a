/* A file system instance by the new mount API: see sys.h. */
#include "runtime/sys.h"

int mount_new(const char *fstype, const struct mount_opt *opts, size_t n, unsigned int attrs)
{
	auto_fd int fs = fsopen(fstype, FSOPEN_CLOEXEC);
	int mnt;

	if (fs < 0)
		return -errno;
	for (size_t i = 0; i < n; i++) {
		unsigned int cmd = opts[i].value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;

		if (fsconfig(fs, cmd, opts[i].key, opts[i].value, 0) < 0)
			return -errno;
	}
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, attrs);
	return mnt < 0 ? -errno : mnt;
}
