/*
 * Holding a virtual machine's processes while it is copied.
 *
 * A machine that goes on from a snapshot runs before it can be told that it has: for a moment it has
 * the randomness, the time and the addresses of the one that was copied, and so has every other copy.
 * Only this agent may run then. So before a snapshot SLEEP freezes everything else, and the WAKE after
 * it lets go, when it has changed what must differ.
 *
 * Processes are frozen by control group, which the root group cannot be: those in it are moved to a
 * group of ours first. Groups that are frozen already are their owner's, and stay so. The directory
 * was opened before anything of a tenant's ran, so what is mounted over it does not matter. What is
 * started meanwhile begins in our group, frozen. Root in here can undo all of this; it harms itself
 * alone.
 *
 * The one that was copied while it ran is told so by GO: it keeps all that it has, and only its clock
 * has stood.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include "agent/agent.h"
#include "agent/machine.h"
#include "base/fd.h"

#define GROUP	    "weir-held"
#define GROUPS_MAX  1024 /* directly below the root */
#define LIST_MAX   (1u << 20) /* bytes of cgroup.procs read at once */
#define MOVES_MAX   16	 /* rounds: processes fork while they are moved */
#define FROZEN_MS   500	 /* waited for all groups together; what is in the kernel stops on its way out */
#define KTHREADD    2

struct held {
	struct held *next;
	char name[256];
};

static int root = -EBADF;
static struct held *held;

int held_open(struct err *err)
{
	root = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? err_sys(err, -errno, "open /sys/fs/cgroup") : 0;
}

/* Kernel threads are nobody's, and cannot all be moved. */
static bool is_kernel(struct str pid)
{
	auto_buf struct buf text = BUF_MAX(4096);
	char path[64];
	struct str rest;
	uint64_t parent;

	snprintf(path, sizeof(path), "/proc/" STR_FMT "/stat", STR_ARG(pid));
	if (file_read(AT_FDCWD, path, &text) < 0)
		return true; /* it has ended */
	rest = buf_str(&text);
	for (size_t i = rest.n; i > 0; i--) /* behind its name, which may hold anything */
		if (rest.p[i - 1] == ')') {
			rest = str_skip(rest, i);
			break;
		}
	str_cut(&rest, ' ');
	str_cut(&rest, ' ');
	return str_u64(str_cut(&rest, ' '), UINT32_MAX, &parent) < 0 || parent == KTHREADD ||
	       str_eq_c(pid, "2");
}

/* All of the root group but this process. How many were there to move. */
static int move_round(void)
{
	auto_buf struct buf procs = BUF_MAX(LIST_MAX);
	int r = file_read(root, "cgroup.procs", &procs), n = 0;
	struct str rest = buf_str(&procs);

	while (r == 0 && rest.n) {
		struct str pid = str_cut(&rest, '\n');

		if (!pid.n || str_eq_c(pid, "1") || is_kernel(pid))
			continue;
		n++;
		r = file_write_kernel(root, GROUP "/cgroup.procs", pid);
		r = r == -ESRCH ? 0 : r;
	}
	return r < 0 ? r : n;
}

static int move_all(void)
{
	int r = mkdirat(root, GROUP, 0755) < 0 && errno != EEXIST ? -errno : 1;

	for (int i = 0; r > 0; i++)
		r = i < MOVES_MAX ? move_round() : -EBUSY;
	return r;
}

static int keep(const char *name)
{
	struct held *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	snprintf(h->name, sizeof(h->name), "%s", name);
	h->next = held;
	held = h;
	return 0;
}

static int freeze_one(const char *name)
{
	auto_buf struct buf now = BUF_MAX(64);
	char path[300];
	int r;

	snprintf(path, sizeof(path), "%s/cgroup.freeze", name);
	r = file_read(root, path, &now);
	if (r < 0 || str_starts(buf_str(&now), STR("1")))
		return r;
	r = keep(name);
	return r < 0 ? r : file_write_kernel(root, path, STR("1"));
}

static int freeze_all(void)
{
	int copy = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	unsigned int n = 0;
	struct dirent *e;

	if (!d) {
		fd_close(copy);
		return -errno;
	}
	while (r == 0 && (e = readdir(d)))
		if (e->d_type == DT_DIR && e->d_name[0] != '.')
			r = ++n > GROUPS_MAX ? -E2BIG : freeze_one(e->d_name);
	closedir(d);
	return r;
}

/* What runs in the kernel now stops before it is back with its program, so this need not succeed. */
static void await_frozen(const char *name, uint64_t end)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/cgroup.events", name);
	for (;;) {
		auto_fd int fd = openat(root, path, O_RDONLY | O_CLOEXEC);
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		uint64_t now = now_ms();
		ssize_t n = fd < 0 ? -1 : read(fd, scratch, sizeof(scratch) - 1);

		if (n < 0 || now >= end)
			return;
		scratch[n] = '\0';
		if (strstr(scratch, "frozen 1") || strstr(scratch, "populated 0"))
			return;
		poll(&p, 1, (int)(end - now));
	}
}

int held_begin(void)
{
	uint64_t end = now_ms() + FROZEN_MS;
	int r;

	if (held)
		return 0; /* by a SLEEP whose snapshot did not come */
	r = move_all();
	r = r < 0 ? r : freeze_all();
	if (r < 0)
		held_end();
	for (const struct held *h = held; h; h = h->next)
		await_frozen(h->name, end);
	return r;
}

void held_join(void)
{
	if (held)
		file_write_kernel(root, GROUP "/cgroup.procs", STR("0"));
}

void held_end(void)
{
	while (held) {
		struct held *h = held;
		char path[300];

		held = h->next;
		snprintf(path, sizeof(path), "%s/cgroup.freeze", h->name);
		file_write_kernel(root, path, STR("0"));
		free(h);
	}
}

void sleep_start(struct conn *c, const union frame_body *m)
{
	int r = machine_is_ours() ? held_begin() : -ENOTSUP;

	if (r < 0) {
		conn_fail(c, -r, "cannot hold the processes: %s", strerror(-r));
		return;
	}
	conn_send(c, FRAME_OK, &(union frame_body){ 0 });
	conn_finish(c);
}

void go_start(struct conn *c, const union frame_body *m)
{
	int r = machine_is_ours() ? clock_write(m->go.wall_ns) : -ENOTSUP;

	if (r < 0) {
		conn_fail(c, -r, "cannot set the clock: %s", strerror(-r));
		return;
	}
	held_end();
	conn_send(c, FRAME_OK, &(union frame_body){ 0 });
	conn_finish(c);
}
