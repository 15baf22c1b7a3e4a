/* Is there room for as many sandboxes as are configured? See the header. */
#include <dirent.h>
#include <fcntl.h>
#include "base/fd.h"
#include "host/headroom.h"

#define MINORS (1u << 20) /* numbers of devices that one major number has */

int headroom_pids(uint64_t pid_max, uint32_t sandboxes, struct err *err)
{
	uint64_t want = HEADROOM_PIDS_BASE + (uint64_t)HEADROOM_PIDS_EACH * sandboxes;

	if (pid_max >= want)
		return 0;
	return err_set(err, -ERANGE, ERR_INVALID,
		"kernel.pid_max is %llu, and %u sandboxes with the ready ones need about %llu "
		"processes: sysctl kernel.pid_max=4194304, or choose a smaller net.range4",
		(unsigned long long)pid_max, sandboxes, (unsigned long long)want);
}

int headroom_loops(uint64_t max_part, uint32_t taken, uint32_t sandboxes, struct err *err)
{
	uint32_t each = 1, devices;

	while (each <= max_part && each < MINORS)
		each *= 2;
	devices = MINORS / each;
	if (devices >= taken && devices - taken >= sandboxes)
		return 0;
	return err_set(err, -ERANGE, ERR_INVALID,
		"disk.backend is loop, and of %u loop devices %u are taken, which leaves too few "
		"for %u sandboxes with the ready ones: set loop.max_part=0 at boot or for "
		"modprobe, or disk.backend=quota, or choose a smaller net.range4",
		devices, taken, sandboxes);
}

static int number_in(const char *path, uint64_t *ret)
{
	auto_buf struct buf b = BUF_MAX(64);
	int r = file_read(AT_FDCWD, path, &b);

	while (b.n && b.p[b.n - 1] == '\n')
		b.n--;
	return r < 0 ? r : str_u64(buf_str(&b), UINT64_MAX, ret);
}

static int note_pids(const struct probe_env *env, struct err *err)
{
	uint64_t pid_max;
	int r = number_in("/proc/sys/kernel/pid_max", &pid_max);

	return r < 0 ? err_sys(err, r, "read kernel.pid_max")
		     : headroom_pids(pid_max, env->sandboxes_max, err);
}

static uint32_t bound_loops(void)
{
	DIR *d = opendir("/sys/block");
	char path[300];
	uint32_t n = 0;

	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", e->d_name);
		n += !strncmp(e->d_name, "loop", 4) && faccessat(AT_FDCWD, path, F_OK, 0) == 0;
	}
	if (d)
		closedir(d);
	return n;
}

static int note_loops(const struct probe_env *env, struct err *err)
{
	uint64_t max_part;
	int r;

	if (!env->loops)
		return 0;
	r = number_in("/sys/module/loop/parameters/max_part", &max_part);
	if (r == -ENOENT)
		return 0; /* the module is not there yet, and comes with 0 */
	return r < 0 ? err_sys(err, r, "read loop.max_part")
		     : headroom_loops(max_part, bound_loops(), env->sandboxes_max, err);
}

const struct probe_check headroom_checks[] = {
	{ "process numbers", note_pids, true },
	{ "loop devices", note_loops, true },
};
const size_t headroom_n_checks = ARRAY_SIZE(headroom_checks);
