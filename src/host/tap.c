/* Taps: links whose other end is a descriptor (link.h). */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <time.h>
#include "base/fd.h"
#include "host/link.h"

#define TAP_POLL_MS	2u
#define TAP_BUSY_MAX_MS 3000u

int link_tap(struct link_end here, struct err *err)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	auto_fd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_sys(err, -errno, "open /dev/net/tun (modprobe tun)");
	memcpy(ifr.ifr_name, here.name, MIN(strlen(here.name), sizeof(ifr.ifr_name) - 1));
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return err_sys(err, -errno, "make the tap %s", here.name);
	ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(ifr.ifr_hwaddr.sa_data, here.mac, 6);
	if (ioctl(fd, SIOCSIFHWADDR, &ifr) < 0)
		return err_sys(err, -errno, "address the tap %s", here.name);
	if (ioctl(fd, TUNSETPERSIST, 1UL) < 0)
		return err_sys(err, -errno, "keep the tap %s", here.name);
	return take_fd(fd);
}

int link_tap_again(const char *name, struct err *err)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	auto_fd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_sys(err, -errno, "open /dev/net/tun (modprobe tun)");
	if (!if_nametoindex(name)) /* or it would be made */
		return err_sys(err, -errno, "find the tap %s", name);
	memcpy(ifr.ifr_name, name, MIN(strlen(name), sizeof(ifr.ifr_name) - 1));
	/* Who had it was killed, and its descriptors may be closing still: nothing tells when. */
	for (unsigned int ms = 0; ioctl(fd, TUNSETIFF, &ifr) < 0; ms += TAP_POLL_MS) {
		if (errno != EBUSY || ms >= TAP_BUSY_MAX_MS)
			return err_sys(err, -errno, "take the tap %s", name);
		nanosleep(&(struct timespec){ .tv_nsec = TAP_POLL_MS * 1000000L }, NULL);
	}
	return take_fd(fd);
}
