/*
 * Fault points: see the header. Empty without WEIR_FAULTS.
 *
 * Passing a point may happen in a forked child, in a worker thread, behind a system call filter
 * and as process 1 of a namespace: so there is no lock and no allocation, the counters are atomic,
 * and killing has a second way, since a process 1 does not hear its own SIGKILL.
 */
#include "base/fault.h"

#ifdef WEIR_FAULTS
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include "base/fd.h"

/* The linker's: first and past-the-last of the section. Weak, for a program without points. */
extern struct fault __start_weir_faults[] __attribute__((weak, visibility("hidden")));
extern struct fault __stop_weir_faults[] __attribute__((weak, visibility("hidden")));

static struct fault *shared; /* NULL: the section itself */

static void act(struct fault *f)
{
	static const struct timespec ms = { .tv_nsec = 1000000 };
	uint32_t action = __atomic_load_n(&f->action, __ATOMIC_RELAXED);

	__atomic_add_fetch(&f->acted, 1, __ATOMIC_RELAXED);
	if (action == FAULT_KILL) {
		raise(SIGKILL);
		_exit(128 + SIGKILL);
	}
	if (action != FAULT_HOLD)
		return;
	__atomic_store_n(&f->held, (uint32_t)getpid(), __ATOMIC_RELEASE);
	while (__atomic_load_n(&f->held, __ATOMIC_ACQUIRE))
		nanosleep(&ms, NULL);
}

/* True for the one passing that was armed. */
static bool due(struct fault *f)
{
	uint32_t left = __atomic_load_n(&f->left, __ATOMIC_ACQUIRE);

	while (left && !__atomic_compare_exchange_n(&f->left, &left, left - 1, false,
			       __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
	return left == 1;
}

int fault_pass(struct fault *point)
{
	struct fault *f = shared ? &shared[point - __start_weir_faults] : point;
	int saved = errno, r = 0;

	__atomic_add_fetch(&f->passed, 1, __ATOMIC_RELAXED);
	if (due(f)) {
		if (f->action == FAULT_FAIL && point->fails)
			r = -(int)f->error;
		act(f);
	}
	errno = saved;
	return r;
}

void fault_open(const char *dir, const char *role)
{
	size_t n = (size_t)(__stop_weir_faults - __start_weir_faults), bytes = n * sizeof(*shared);
	char path[512];
	auto_fd int fd = -EBADF;
	struct fault *map;

	if (!dir || !n)
		return;
	snprintf(path, sizeof(path), "%s/%s.faults", dir, role);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		return;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return;
	/* Of an earlier life they are all the same; workers of one role write the same. */
	for (size_t i = 0; i < n; i++)
		if (memcmp(map[i].name, __start_weir_faults[i].name, sizeof(map[i].name)) != 0)
			map[i] = __start_weir_faults[i];
	shared = map;
}
#endif
