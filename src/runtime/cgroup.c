/*
 * Control groups in any layout: see the header.
 *
 * The mounts are read once from /proc/self/mountinfo into a table of hierarchies, each with a bit
 * for every use we make of it:
 *
 *	          v2 host          hybrid            v1 host
 *	memory    v2               v1 memory         v1 memory
 *	pids      v2               v1 pids           v1 pids
 *	cpu       v2               v1 cpu            v1 cpu
 *	usage     v2 (cpu.stat)    v2 (cpu.stat)     v1 cpuacct
 *	freeze    v2               v2                v1 freezer
 *	track     v2               v2, name=systemd  name=systemd
 *
 * `track` is membership alone: systemd finds a service's processes by it, and ours must not be
 * among the daemon's.
 */
#include <dirent.h>
#include <poll.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/fd.h"
#include "runtime/cgroup.h"
#include "runtime/sys.h"

#define HIERARCHIES_MAX	 8
#define FREEZE_LIMIT_S	 10 /* a task in an uninterruptible sleep cannot freeze */
#define FREEZE_LOOK_MS	 20 /* waited for at once: nearly all freeze within one */
#define REMOVE_LIMIT_MS	 2000 /* SIGKILL to gone; a disk that hangs is not waited for */
#define SETTLE_S	 60 /* for what SIGKILL does not end: it waits for a disk that hangs */
#define CPU_PERIOD_US	 100000
#define V1_SHARES	 1024L /* of one process */
#define V1_SHARES_MAX	 262144L

enum use { USE_MEMORY, USE_PIDS, USE_CPU, USE_USAGE, USE_FREEZE, USE_TRACK, USES };

struct hierarchy {
	bool v2;
	unsigned int uses;  /* bits of enum use */
	char mount[256];
	int root;	    /* <mount>/<root>, opened */
};

struct cgroups {
	struct hierarchy h[HIERARCHIES_MAX];
	size_t n;
	char root[64];
	struct hierarchy *by_use[USES]; /* NULL: nobody */
};

struct path {
	char s[192];
};

static struct path file_of(const char *name, const char *file)
{
	struct path p;

	snprintf(p.s, sizeof(p.s), "%s/%s", name, file);
	return p;
}

static int put(const struct hierarchy *h, const char *name, const char *file, struct str text)
{
	return file_write_kernel(h->root, file_of(name, file).s, text);
}

static int put_u64(const struct hierarchy *h, const char *name, const char *file, uint64_t v)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%" PRIu64, v);

	return put(h, name, file, str_n(text, (size_t)n));
}

/* The number of a file, or with `key` the number after "key " at the start of one of its lines. */
static int get_u64(const struct hierarchy *h, const char *name, const char *file, const char *key,
	uint64_t *ret)
{
	auto_buf struct buf text = BUF_MAX(16384);
	int r = file_read(h->root, file_of(name, file).s, &text);
	struct str rest = buf_str(&text);

	if (r < 0)
		return r;
	if (!key)
		return str_u64(str_cut(&rest, '\n'), UINT64_MAX, ret);
	while (rest.n) {
		struct str line = str_cut(&rest, '\n'), word = str_cut(&line, ' ');

		if (str_eq_c(word, key))
			return str_u64(line, UINT64_MAX, ret);
	}
	return -ENOENT;
}

/* --- opening --- */

static bool has_word(struct str list, char sep, const char *word)
{
	while (list.p) {
		if (str_eq_c(str_cut(&list, sep), word))
			return true;
	}
	return false;
}

static unsigned int v2_uses(const char *mount)
{
	auto_buf struct buf text = BUF_MAX(4096);
	unsigned int uses = 1u << USE_FREEZE | 1u << USE_TRACK | 1u << USE_USAGE;
	struct str words;
	char path[300];

	snprintf(path, sizeof(path), "%s/cgroup.controllers", mount);
	if (file_read(AT_FDCWD, path, &text) < 0)
		return uses;
	words = buf_str(&text);
	words = str_cut(&words, '\n');
	uses |= has_word(words, ' ', "memory") ? 1u << USE_MEMORY : 0;
	uses |= has_word(words, ' ', "pids") ? 1u << USE_PIDS : 0;
	uses |= has_word(words, ' ', "cpu") ? 1u << USE_CPU : 0;
	return uses;
}

static unsigned int v1_uses(struct str options)
{
	static const struct {
		const char *word;
		enum use use;
	} words[] = { { "memory", USE_MEMORY }, { "pids", USE_PIDS }, { "cpu", USE_CPU },
		{ "cpuacct", USE_USAGE }, { "freezer", USE_FREEZE }, { "name=systemd", USE_TRACK } };
	unsigned int uses = 0;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		uses |= has_word(options, ',', words[i].word) ? 1u << words[i].use : 0;
	return uses;
}

/* "36 35 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory" */
static void read_mount(struct cgroups *cg, struct str line)
{
	struct hierarchy *h = &cg->h[cg->n];
	struct str mount = STR_NONE, type, w;
	bool v2;

	if (cg->n == HIERARCHIES_MAX)
		return;
	for (int i = 0; i < 5; i++)
		mount = str_cut(&line, ' ');
	do
		w = str_cut(&line, ' ');
	while (w.p && line.p && !str_eq_c(w, "-"));
	type = str_cut(&line, ' ');
	str_cut(&line, ' '); /* the source */
	v2 = str_eq_c(type, "cgroup2");
	if ((!v2 && !str_eq_c(type, "cgroup")) || str_copy(h->mount, sizeof(h->mount), mount) < 0)
		return;
	h->v2 = v2;
	h->root = -EBADF;
	h->uses = v2 ? v2_uses(h->mount) : v1_uses(line);
	for (size_t i = 0; i < cg->n; i++)
		if (cg->h[i].v2 == v2 && cg->h[i].uses == h->uses)
			return; /* the same hierarchy mounted twice */
	if (h->uses)
		cg->n++;
}

/* v2 wins every use it has; what is left to nobody is forgotten. `track` is in each that has it. */
static void assign(struct cgroups *cg)
{
	for (int use = 0; use < USES; use++)
		for (int v2 = 1; v2 >= 0; v2--)
			for (size_t i = 0; i < cg->n && !cg->by_use[use]; i++)
				if (cg->h[i].v2 == (bool)v2 && cg->h[i].uses & 1u << use)
					cg->by_use[use] = &cg->h[i];
	for (size_t i = 0; i < cg->n; i++)
		for (int use = 0; use < USE_TRACK; use++)
			if (cg->by_use[use] != &cg->h[i])
				cg->h[i].uses &= ~(1u << use);
}

/* v1: the host's processes may be in no group, and then each weighs as much as all sandboxes together
 * would: on a busy host what one of them floods with is taken from its neighbours. So they have the
 * weight of a process for each processor. (v2: the host's are in slices, which weigh what we do.) */
static void weigh_root(const struct hierarchy *h)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	if (!h->v2 && h->uses & 1u << USE_CPU)
		put_u64(h, ".", "cpu.shares",
			(uint64_t)MIN(MAX(n, 1L), V1_SHARES_MAX / V1_SHARES) * V1_SHARES);
}

static int open_root(struct cgroups *cg, struct hierarchy *h, struct err *err)
{
	char path[400];
	static const struct {
		enum use use;
		const char *word;
	} ctl[] = { { USE_MEMORY, "+memory" }, { USE_PIDS, "+pids" }, { USE_CPU, "+cpu" } };

	snprintf(path, sizeof(path), "%s/%s", h->mount, cg->root);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "make the control group %s", path);
	h->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (h->root < 0)
		return err_sys(err, -errno, "open the control group %s", path);
	weigh_root(h);
	for (size_t i = 0; h->v2 && i < ARRAY_SIZE(ctl); i++) {
		int r;

		if (!(h->uses & 1u << ctl[i].use))
			continue;
		r = file_write_kernel(h->root, "../cgroup.subtree_control", str_c(ctl[i].word));
		if (r == 0)
			r = file_write_kernel(h->root, "cgroup.subtree_control", str_c(ctl[i].word));
		if (r < 0)
			return err_sys(err, r, "enable the controller %s in %s", ctl[i].word, path);
	}
	return 0;
}

int cgroups_open(const char *root, struct cgroups **ret, struct err *err)
{
	static const char *const need[USES] = { [USE_MEMORY] = "memory", [USE_PIDS] = "pids",
		[USE_CPU] = "cpu", [USE_USAGE] = "cpuacct", [USE_FREEZE] = "freezer" };
	auto_buf struct buf text = BUF_MAX(4 << 20);
	struct cgroups *cg = calloc(1, sizeof(*cg));
	struct str rest;
	int r;

	if (!cg)
		return err_sys(err, -ENOMEM, "control groups");
	r = str_copy(cg->root, sizeof(cg->root), str_c(root));
	if (r == 0)
		r = file_read(AT_FDCWD, "/proc/self/mountinfo", &text);
	if (r < 0) {
		free(cg);
		return err_sys(err, r, "read the mounts of control groups");
	}
	for (rest = buf_str(&text); rest.n;)
		read_mount(cg, str_cut(&rest, '\n'));
	assign(cg);
	for (int use = 0; use < USE_TRACK; use++)
		if (!cg->by_use[use]) {
			cgroups_close(cg);
			return err_set(err, -ENOENT, ERR_UNSUPPORTED,
				"the %s controller is in neither cgroup v2 nor v1: enable it in the kernel",
				need[use]);
		}
	for (size_t i = 0; i < cg->n; i++) {
		r = cg->h[i].uses ? open_root(cg, &cg->h[i], err) : 0;
		if (r < 0) {
			cgroups_close(cg);
			return r;
		}
	}
	*ret = cg;
	return 0;
}

void cgroups_close(struct cgroups *cg)
{
	if (!cg)
		return;
	for (size_t i = 0; i < cg->n; i++)
		fd_close(cg->h[i].root);
	free(cg);
}

void cgroups_remove_root(struct cgroups *cg)
{
	char path[400];

	for (size_t i = 0; i < cg->n; i++) {
		snprintf(path, sizeof(path), "%s/%s", cg->h[i].mount, cg->root);
		if (cg->h[i].uses)
			rmdir(path);
	}
}

size_t cgroups_fds(const struct cgroups *cg, int *fds, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < cg->n && n < max; i++)
		if (cg->h[i].uses)
			fds[n++] = cg->h[i].root;
	return n;
}

/* --- one group --- */

static int make(struct cgroups *cg, const char *name, bool there, struct err *err)
{
	for (size_t i = 0; i < cg->n; i++) {
		if (!cg->h[i].uses || mkdirat(cg->h[i].root, name, 0755) == 0 || (there && errno == EEXIST))
			continue;
		return err_sys(err, -errno, "make the control group %s/%s/%s", cg->h[i].mount,
			cg->root, name);
	}
	return 0;
}

int cgroup_make(struct cgroups *cg, const char *name, struct err *err)
{
	return make(cg, name, false, err);
}

int cgroup_need(struct cgroups *cg, const char *name, struct err *err)
{
	return make(cg, name, true, err);
}

int cgroup_limit(struct cgroups *cg, const char *name, const struct cgroup_limits *l,
	struct err *err)
{
	const struct hierarchy *mem = cg->by_use[USE_MEMORY], *cpu = cg->by_use[USE_CPU];
	uint64_t bytes = (uint64_t)l->mem_mib << 20, quota = (uint64_t)l->vcpu_milli * 100;
	char text[64];
	int r;

	if (l->mem_mib) {
		r = put_u64(mem, name, mem->v2 ? "memory.max" : "memory.limit_in_bytes", bytes);
		if (r < 0)
			return err_sys(err, r, "limit memory to %u MiB", l->mem_mib);
		/* No swap beside it: the limit is the limit. Absent without swap accounting. */
		r = mem->v2 ? put_u64(mem, name, "memory.swap.max", 0)
			    : put_u64(mem, name, "memory.memsw.limit_in_bytes", bytes);
		if (r < 0 && r != -ENOENT)
			return err_sys(err, r, "forbid swap");
	}
	if (l->pids) {
		r = put_u64(cg->by_use[USE_PIDS], name, "pids.max", l->pids);
		if (r < 0)
			return err_sys(err, r, "limit processes to %u", l->pids);
	}
	if (!l->vcpu_milli)
		return 0;
	if (cpu->v2) {
		int n = snprintf(text, sizeof(text), "%" PRIu64 " %d", quota, CPU_PERIOD_US);

		r = put(cpu, name, "cpu.max", str_n(text, (size_t)n));
	} else {
		r = put_u64(cpu, name, "cpu.cfs_quota_us", quota);
	}
	return r < 0 ? err_sys(err, r, "limit CPU to %u/1000", l->vcpu_milli) : 0;
}

static int in_use(uint32_t mib, struct err *err)
{
	return err_field(err, -EBUSY, ERR_CONFLICT, "memory", "more than %u MiB are in use", mib);
}

/* memory.high makes the kernel write back what it can, and slows down who would take more, where
 * memory.max would kill. */
static int memory_v2(const struct hierarchy *h, const char *name, uint64_t bytes, uint32_t mib,
	struct err *err)
{
	uint64_t used = 0;
	int r = put_u64(h, name, "memory.high", bytes);

	if (r == 0)
		r = get_u64(h, name, "memory.current", NULL, &used);
	if (r == 0 && used <= bytes)
		r = put_u64(h, name, "memory.max", bytes);
	put(h, name, "memory.high", STR("max"));
	if (r == 0 && used > bytes)
		return in_use(mib, err);
	return r < 0 ? err_sys(err, r, "limit memory to %u MiB", mib) : 0;
}

/* The limit that counts swap too must never be the lower one. */
static int memory_v1(const struct hierarchy *h, const char *name, uint64_t bytes, uint32_t mib,
	struct err *err)
{
	const char *files[] = { "memory.limit_in_bytes", "memory.memsw.limit_in_bytes" };
	uint64_t before;
	int r = get_u64(h, name, files[0], NULL, &before);
	bool more = r == 0 && bytes > before;

	for (int i = 0; i < 2 && r == 0; i++) {
		const char *file = files[more ? 1 - i : i];

		r = put_u64(h, name, file, bytes);
		if (r == -ENOENT && file == files[1]) /* no accounting of swap */
			r = 0;
	}
	if (r == -EBUSY)
		return in_use(mib, err);
	return r < 0 ? err_sys(err, r, "limit memory to %u MiB", mib) : 0;
}

int cgroup_memory(struct cgroups *cg, const char *name, uint32_t mib, struct err *err)
{
	const struct hierarchy *h = cg->by_use[USE_MEMORY];

	return (h->v2 ? memory_v2 : memory_v1)(h, name, (uint64_t)mib << 20, mib, err);
}

int cgroup_v2_open(struct cgroups *cg, const char *name)
{
	for (size_t i = 0; i < cg->n; i++)
		if (cg->h[i].v2 && cg->h[i].uses) {
			int fd = openat(cg->h[i].root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			return fd < 0 ? -errno : fd;
		}
	return -ENOENT;
}

int cgroup_enter(struct cgroups *cg, const char *name, struct err *err)
{
	for (size_t i = 0; i < cg->n; i++) {
		int r = cg->h[i].uses ? put(&cg->h[i], name, "cgroup.procs", STR("0")) : 0;

		if (r < 0)
			return err_sys(err, r, "enter the control group %s/%s/%s", cg->h[i].mount,
				cg->root, name);
	}
	return 0;
}

static bool v1_state_is(const struct hierarchy *h, const char *name, const char *state)
{
	auto_buf struct buf text = BUF_MAX(64);
	struct str rest;

	if (file_read(h->root, file_of(name, "freezer.state").s, &text) < 0)
		return false;
	rest = buf_str(&text);
	return str_eq_c(str_cut(&rest, '\n'), state);
}

bool cgroup_frozen(struct cgroups *cg, const char *name)
{
	const struct hierarchy *h = cg->by_use[USE_FREEZE];
	uint64_t v;

	if (!h->v2)
		return v1_state_is(h, name, "FROZEN");
	return get_u64(h, name, "cgroup.events", "frozen", &v) == 0 && v == 1;
}

static bool populated(struct cgroups *cg, const char *name)
{
	const struct hierarchy *h = cg->by_use[USE_FREEZE];
	auto_buf struct buf text = BUF_MAX(1 << 20);
	uint64_t v;

	if (h->v2)
		return get_u64(h, name, "cgroup.events", "populated", &v) == 0 && v == 1;
	return file_read(h->root, file_of(name, "cgroup.procs").s, &text) == 0 && text.n > 0;
}

/*
 * Wait until `done` says so. v2 announces changes of cgroup.events by POLLPRI; in v1 there is
 * nothing to wait on, so the state is looked at every millisecond (and a v1 freeze that raced
 * with a fork makes progress only when it is read).
 */
static bool await(struct cgroups *cg, const char *name,
	bool (*done)(struct cgroups *cg, const char *name), unsigned int limit_ms)
{
	const struct hierarchy *h = cg->by_use[USE_FREEZE];
	uint64_t end = clock_mono_ns() + limit_ms * NS_PER_MS;
	auto_fd int fd = h->v2 ? openat(h->root, file_of(name, "cgroup.events").s,
					O_RDONLY | O_CLOEXEC)
			       : -EBADF;

	while (!done(cg, name)) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		char scratch[128];

		if (clock_mono_ns() > end)
			return false;
		poll(&p, 1, fd >= 0 ? 20 : 1);
		if (fd >= 0)
			(void)!pread(fd, scratch, sizeof(scratch), 0); /* arms the next POLLPRI */
	}
	return true;
}

static bool not_populated(struct cgroups *cg, const char *name)
{
	return !populated(cg, name);
}

static int set_frozen(struct cgroups *cg, const char *name, bool on)
{
	const struct hierarchy *h = cg->by_use[USE_FREEZE];

	return h->v2 ? put(h, name, "cgroup.freeze", on ? STR("1") : STR("0"))
		     : put(h, name, "freezer.state", on ? STR("FROZEN") : STR("THAWED"));
}

int cgroup_freeze(struct cgroups *cg, const char *name, uint64_t *since, struct err *err)
{
	uint64_t now = clock_mono_ns();
	int r = set_frozen(cg, name, true);

	if (!*since)
		*since = now;
	if (r < 0)
		r = err_sys(err, r, "freeze the control group %s", name);
	else if (!await(cg, name, cgroup_frozen, FREEZE_LOOK_MS))
		r = now - *since < FREEZE_LIMIT_S * NS_PER_SEC ? -EAGAIN : -ETIMEDOUT;
	if (r == -EAGAIN)
		return r;
	*since = 0;
	if (r != -ETIMEDOUT)
		return r;
	set_frozen(cg, name, false);
	return err_set(err, r, ERR_INTERNAL, "a process of the sandbox did not freeze within %d s",
		FREEZE_LIMIT_S);
}

int cgroup_thaw(struct cgroups *cg, const char *name, struct err *err)
{
	int r = set_frozen(cg, name, false);

	return r < 0 ? err_sys(err, r, "thaw the control group %s", name) : 0;
}

/* v1: stop them so that none can fork away, signal each, let them run into it. */
static int kill_each(struct cgroups *cg, const struct hierarchy *h, const char *name)
{
	auto_buf struct buf text = BUF_MAX(1 << 20);
	struct str rest;
	int r;

	set_frozen(cg, name, true);
	r = file_read(h->root, file_of(name, "cgroup.procs").s, &text);
	for (rest = buf_str(&text); rest.n;) {
		uint64_t pid;

		if (str_u64(str_cut(&rest, '\n'), INT32_MAX, &pid) == 0 && pid > 1)
			kill((pid_t)pid, SIGKILL);
	}
	set_frozen(cg, name, false);
	return r;
}

int cgroup_kill(struct cgroups *cg, const char *name)
{
	const struct hierarchy *h = cg->by_use[USE_FREEZE];
	int r = h->v2 ? put(h, name, "cgroup.kill", STR("1")) : kill_each(cg, h, name);

	/* A group that only another hierarchy still has: what was killed in the middle. */
	for (size_t i = 0; r == -ENOENT && i < cg->n; i++)
		if (!cg->h[i].v2 && cg->h[i].uses)
			r = kill_each(cg, &cg->h[i], name);
	return r;
}

int cgroup_try_remove(struct cgroups *cg, const char *name, struct err *err)
{
	int r = 0;

	if (populated(cg, name)) {
		cgroup_kill(cg, name);
		return -EAGAIN;
	}
	for (size_t i = 0; i < cg->n; i++) {
		const struct hierarchy *h = &cg->h[i];

		if (!h->uses || unlinkat(h->root, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			continue;
		if (errno != EBUSY)
			return err_sys(err, -errno, "remove the control group %s/%s/%s", h->mount,
				cg->root, name);
		/* A dying task leaves v1 a moment after v2. */
		kill_each(cg, h, name);
		r = -EAGAIN;
	}
	return r;
}

int cgroup_remove(struct cgroups *cg, const char *name, struct err *err)
{
	uint64_t end = clock_mono_ns() + REMOVE_LIMIT_MS * NS_PER_MS;
	int r;

	while ((r = cgroup_try_remove(cg, name, err)) == -EAGAIN) {
		if (clock_mono_ns() > end)
			return err_sys(err, -EBUSY, "remove the control group %s/%s", cg->root, name);
		await(cg, name, not_populated, REMOVE_LIMIT_MS);
		poll(NULL, 0, 1);
	}
	return r;
}

int cgroup_settle(struct cgroups *cg, const char *name, uint64_t *since, struct err *err)
{
	uint64_t now = clock_mono_ns();
	int r = cgroup_try_remove(cg, name, err);

	if (!*since)
		*since = now;
	if (r == -EAGAIN && now - *since > SETTLE_S * NS_PER_SEC)
		return err_set(err, -EBUSY, ERR_INTERNAL,
			"a process in the control group %s did not end within %d s", name, SETTLE_S);
	return r;
}

bool cgroup_oom(struct cgroups *cg, const char *name)
{
	const struct hierarchy *h = cg->by_use[USE_MEMORY];
	uint64_t n = 0;

	return get_u64(h, name, h->v2 ? "memory.events" : "memory.oom_control", "oom_kill", &n) ==
		       0 &&
	       n > 0;
}

int cgroup_stats(struct cgroups *cg, const char *name, struct ipc_stats *ret)
{
	const struct hierarchy *mem = cg->by_use[USE_MEMORY], *use = cg->by_use[USE_USAGE];
	uint64_t cpu = 0;
	int r;

	r = get_u64(mem, name, mem->v2 ? "memory.current" : "memory.usage_in_bytes", NULL,
		&ret->mem_bytes);
	if (r < 0)
		return r;
	r = get_u64(cg->by_use[USE_PIDS], name, "pids.current", NULL, &ret->pids);
	if (r < 0)
		return r;
	r = use->v2 ? get_u64(use, name, "cpu.stat", "usage_usec", &cpu)
		    : get_u64(use, name, "cpuacct.usage", NULL, &cpu);
	ret->cpu_usec = use->v2 ? cpu : cpu / 1000;
	return r;
}

bool cgroup_has(struct cgroups *cg, const char *name, pid_t pid)
{
	auto_buf struct buf text = BUF_MAX(65536);
	char path[64], tail[160];
	struct str rest;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	snprintf(tail, sizeof(tail), "/%s/%s", cg->root, name);
	if (file_read(AT_FDCWD, path, &text) < 0)
		return false;
	for (rest = buf_str(&text); rest.n;)
		if (str_ends(str_cut(&rest, '\n'), str_c(tail)))
			return true;
	return false;
}

void cgroups_each(struct cgroups *cg, void (*fn)(const char *name, void *arg), void *arg)
{
	for (size_t i = 0; i < cg->n; i++) {
		int fd = cg->h[i].uses ? openat(cg->h[i].root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
				       : -EBADF;
		DIR *d = fd < 0 ? NULL : fdopendir(fd);
		struct dirent *e;

		if (!d) {
			fd_close(fd);
			continue;
		}
		while ((e = readdir(d)))
			if (e->d_type == DT_DIR && e->d_name[0] != '.')
				fn(e->d_name, arg);
		closedir(d);
	}
}
