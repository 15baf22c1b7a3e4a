/* Loop devices: see the header. */
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "runtime/loop.h"
#include "runtime/sys.h"

#define LOOPS_MAX     4096 /* devices looked at; a machine has as many as were ever in use at once */
#define ATTACH_TRIES  64   /* another process may take the free device that we were told of */
#define ABSENT_IN_ROW 64   /* numbers are dense, except for devices that were removed by hand */

int loop_find(int file, char dev[32])
{
	struct loop_info64 info;
	struct stat st;
	int absent = 0;

	if (fstat(file, &st) < 0)
		return -errno;
	for (int i = 0; i < LOOPS_MAX && absent < ABSENT_IN_ROW; i++) {
		int fd;

		snprintf(dev, 32, "/dev/loop%d", i);
		fd = open(dev, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			absent += errno == ENOENT;
			continue;
		}
		absent = 0;
		if (ioctl(fd, LOOP_GET_STATUS64, &info) == 0 && info.lo_device == st.st_dev &&
			info.lo_inode == st.st_ino)
			return fd;
		close(fd);
	}
	return -ENOENT;
}

int loop_attach(int file, bool fresh, char dev[32], struct err *err)
{
	auto_fd int control = -EBADF;
	int fd;

	if (!fresh) {
		fd = loop_find(file, dev);
		if (fd != -ENOENT)
			return fd < 0 ? err_sys(err, fd, "look for a loop device") : fd;
	}
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return err_sys(err, -errno, "open /dev/loop-control");
	for (int i = 0; i < ATTACH_TRIES; i++) {
		struct loop_config config = { .fd = (uint32_t)file,
			.info.lo_flags = LO_FLAGS_AUTOCLEAR };
		int n = ioctl(control, LOOP_CTL_GET_FREE);

		if (n < 0)
			return err_sys(err, -errno, "find a free loop device");
		snprintf(dev, 32, "/dev/loop%d", n);
		fd = open(dev, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return err_sys(err, -errno, "open %s", dev);
		if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			return fd;
		if (errno != EBUSY) {
			int r = -errno;

			close(fd);
			return err_sys(err, r, "attach %s", dev);
		}
		close(fd);
	}
	return err_set(err, -EBUSY, ERR_CAPACITY, "no free loop device after %d tries", ATTACH_TRIES);
}

int loop_resized(int loop)
{
	return ioctl(loop, LOOP_SET_CAPACITY) < 0 ? -errno : 0;
}
