/*
 * Loading, pinning and adopting: the life of the maps between two runs of the host role.
 *
 * What is pinned is one of four:
 *
 *	nothing
 *	ours	the versions in weir_version and all shapes are this build's: all is taken over
 *	lives	another build's policies, but sandboxes' lives are laid out as ours (bpf/maps.h): those
 *		maps are taken over, each slot is quarantined, and the rest is made anew
 *	stale	anything else: of an unknown build, of foreign shape, or not whole. None of it is used
 *
 * Nothing changes before our program is loaded: a host that cannot load it keeps what it has. Policies
 * of another build are never obeyed, not even for the time until the stored ones are committed.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include "base/fd.h"
#include "base/log.h"
#include "datapath/dp.h"
#include "datapath/weir.skel.h"

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap) _printf_(2, 0);
static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char line[512];

	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	log_event(LOG_DEBUG, "datapath.libbpf", "text=%s", line);
	return 0;
}

static int pin_path(const char *dir, const char *name, char *ret, size_t size)
{
	return snprintf(ret, size, "%s/%s", dir, name) < (int)size ? 0 : -ENAMETOOLONG;
}

static int unpin_dir(const char *dir)
{
	char path[300];
	struct dirent *e;
	int r = 0;
	DIR *d = opendir(dir);

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		r = pin_path(dir, e->d_name, path, sizeof(path));
		if (r == 0 && unlink(path) < 0)
			r = -errno;
	}
	closedir(d);
	if (r == 0 && rmdir(dir) < 0)
		r = -errno;
	return r;
}

int datapath_unpin(const char *bpffs, const char *name, struct err *err)
{
	char dir[128];
	int r = pin_path(bpffs, name, dir, sizeof(dir));

	if (r == 0)
		r = unpin_dir(dir);
	return r < 0 ? err_sys(err, r, "remove the pinned maps in %s/%s", bpffs, name) : 0;
}

/* The pinned map of this shape, or -ENOENT, or -ESTALE if it is another. */
static int map_find(const char *dir, const struct bpf_map *map)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	char path[300];
	auto_fd int fd = -EBADF;

	if (pin_path(dir, bpf_map__name(map), path, sizeof(path)) < 0)
		return -ENAMETOOLONG;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -errno;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return -errno;
	if (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
		info.value_size != bpf_map__value_size(map) ||
		info.max_entries != bpf_map__max_entries(map) ||
		info.map_flags != bpf_map__map_flags(map))
		return -ESTALE;
	return take_fd(fd);
}

/* Constants of this build's program: made anew with it. */
#define bpf_object__for_each_shared_map(map, obj)                                                  \
	bpf_object__for_each_map(map, obj) if (!bpf_map__is_internal(map))

enum found { FOUND_NOTHING, FOUND_OURS, FOUND_LIVES, FOUND_STALE };

static bool is_of_lives(const struct bpf_map *map)
{
	static const char *const names[] = { "weir_slots", "weir_links", "weir_flows", "weir_shares",
		"weir_names", "weir_counters", "weir_dns_counters" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(bpf_map__name(map), names[i]) == 0)
			return true;
	return false;
}

static bool is_wanted(const struct bpf_map *map, enum found found)
{
	return found == FOUND_OURS || (found == FOUND_LIVES && is_of_lives(map));
}

/* -ENOENT and -ESTALE as map_find(). */
static int version_read(struct datapath *dp, struct weir_version *ret)
{
	auto_fd int fd = map_find(dp->dir, dp->skel->maps.weir_version);
	uint32_t zero = 0;

	if (fd < 0)
		return fd;
	return bpf_map_lookup_elem(fd, &zero, ret) < 0 ? -errno : 0;
}

/* Which of the four is it? */
static int maps_look(struct datapath *dp, enum found *ret)
{
	struct weir_version v = { 0 };
	struct bpf_map *map;
	int r = access(dp->dir, F_OK) < 0 ? -errno : 0;

	*ret = r == -ENOENT ? FOUND_NOTHING : FOUND_STALE;
	if (r == 0)
		r = version_read(dp, &v);
	if (r == 0 && v.lives == WEIR_LIVES_VERSION)
		*ret = v.maps == WEIR_MAPS_VERSION ? FOUND_OURS : FOUND_LIVES;
	bpf_object__for_each_shared_map(map, dp->skel->obj) {
		auto_fd int fd = r == 0 && is_wanted(map, *ret) ? map_find(dp->dir, map) : -EBADF;

		if (fd < 0 && fd != -EBADF)
			r = fd;
	}
	if (r == -ENOENT || r == -ESTALE) {
		*ret = *ret == FOUND_NOTHING ? FOUND_NOTHING : FOUND_STALE;
		r = 0;
	}
	return r;
}

static int maps_reuse(struct datapath *dp, enum found found)
{
	struct bpf_map *map;

	bpf_object__for_each_shared_map(map, dp->skel->obj) {
		auto_fd int fd = -EBADF;
		int r;

		if (!is_wanted(map, found))
			continue;
		fd = map_find(dp->dir, map);
		if (fd < 0)
			return fd;
		r = bpf_map__reuse_fd(map, fd); /* duplicates it */
		if (r < 0)
			return r;
	}
	return 0;
}

static int maps_pin(struct datapath *dp)
{
	struct weir_version v = { .maps = WEIR_MAPS_VERSION, .lives = WEIR_LIVES_VERSION };
	struct bpf_map *map;
	uint32_t zero = 0;
	char path[300];

	if (bpf_map_update_elem(bpf_map__fd(dp->skel->maps.weir_version), &zero, &v, BPF_ANY) < 0)
		return -errno;
	bpf_object__for_each_shared_map(map, dp->skel->obj) {
		int r = pin_path(dp->dir, bpf_map__name(map), path, sizeof(path));

		if (r == 0)
			r = bpf_obj_pin(bpf_map__fd(map), path) < 0 ? -errno : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* Programs are pinned for inspection, and so that an unpinned directory names all that is ours. */
static int programs_pin(struct datapath *dp)
{
	struct bpf_program *prog;
	char path[300];

	bpf_object__for_each_program(prog, dp->skel->obj) {
		int r = pin_path(dp->dir, bpf_program__name(prog), path, sizeof(path));

		if (r < 0)
			return r;
		if (unlink(path) < 0 && errno != ENOENT)
			return -errno;
		if (bpf_obj_pin(bpf_program__fd(prog), path) < 0)
			return -errno;
	}
	return 0;
}

static int maps_open(struct datapath *dp)
{
	const struct weir_bpf *s = dp->skel;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	dp->config = bpf_map__fd(s->maps.weir_config);
	dp->slots_fd = bpf_map__fd(s->maps.weir_slots);
	dp->links = bpf_map__fd(s->maps.weir_links);
	dp->members = bpf_map__fd(s->maps.weir_members);
	dp->nets_fd = bpf_map__fd(s->maps.weir_nets);
	dp->calls = bpf_map__fd(s->maps.weir_calls);
	dp->policies = bpf_map__fd(s->maps.weir_policies);
	dp->prefixes = bpf_map__fd(s->maps.weir_prefixes);
	dp->pins = bpf_map__fd(s->maps.weir_pins);
	dp->ports = bpf_map__fd(s->maps.weir_ports);
	dp->floor = bpf_map__fd(s->maps.weir_floor);
	dp->flows = bpf_map__fd(s->maps.weir_flows);
	dp->counters = bpf_map__fd(s->maps.weir_counters);
	dp->shares_fd = bpf_map__fd(s->maps.weir_shares);
	dp->begun = (uint32_t *)&s->bss->weir_begun;
	dp->slots_len = (sizeof(struct weir_slot) * (WEIR_SLOTS_MAX + 1) + page - 1) & ~(page - 1);
	dp->slots = mmap(NULL, dp->slots_len, PROT_READ | PROT_WRITE, MAP_SHARED, dp->slots_fd, 0);
	if (dp->slots == MAP_FAILED) {
		dp->slots = NULL;
		return -errno;
	}
	/* A fork copies each entry of this map's page table, and no child of ours reads it. */
	madvise(dp->slots, dp->slots_len, MADV_DONTFORK);
	return 0;
}

/* Until the owner says otherwise: one sandbox cannot take the map. */
static const struct datapath_limits limits_default = { .flows_per_slot = 32768,
	.flows_per_share = 65536, .flows_all = WEIR_FLOWS_MAX };

/* An empty directory of ours, whatever was there. */
static int replace_dir(struct datapath *dp, struct err *err)
{
	int r = unpin_dir(dp->dir);

	if (r < 0)
		return err_sys(err, r, "remove stale pins in %s", dp->dir);
	return mkdir(dp->dir, 0700) < 0 ? err_sys(err, -errno, "create %s", dp->dir) : 0;
}

/* The links still run the program of the build before, by the slots that are ours as well from now on:
 * with policy 0 it passes no more than ours will. */
static void quarantine_all(struct datapath *dp)
{
	for (uint32_t slot = 1; slot <= WEIR_SLOTS_MAX; slot++)
		if (dp->slots[slot].policy)
			__atomic_store_n(&dp->slots[slot].policy, 0, __ATOMIC_RELEASE);
}

/* The program is loaded around what was taken over; now it takes the place of what was there. */
static int move_in(struct datapath *dp, enum found found, struct err *err)
{
	int r = 0;

	if (found == FOUND_LIVES)
		quarantine_all(dp);
	if (found == FOUND_LIVES || found == FOUND_STALE)
		log_event(found == FOUND_STALE ? LOG_WARN : LOG_INFO,
			found == FOUND_STALE ? "datapath.stale" : "datapath.lives", "dir=%s text=\"%s\"",
			dp->dir, found == FOUND_STALE ? "pins of another version are replaced" :
			"another version's policies are replaced; flows stay");
	if (found != FOUND_OURS) {
		r = replace_dir(dp, err);
		if (r < 0)
			return r;
		r = maps_pin(dp);
	}
	if (r == 0)
		r = programs_pin(dp);
	return r < 0 ? err_sys(err, r, "pin maps and programs in %s", dp->dir) : 0;
}

static int load(struct datapath *dp, struct err *err)
{
	enum found found;
	int r = maps_look(dp, &found);

	if (r < 0)
		return err_sys(err, r, "look at the BPF maps in %s", dp->dir);
	r = maps_reuse(dp, found);
	if (r < 0)
		return err_sys(err, r, "take over the maps in %s", dp->dir);
	dp->adopted = found == FOUND_OURS;
	r = weir_bpf__load(dp->skel);
	if (r < 0)
		return err_sys(err, r, "load the BPF programs (Linux 6.1 or later is needed)");
	r = maps_open(dp);
	if (r < 0)
		return err_sys(err, r, "map the slots into memory");
	r = move_in(dp, found, err);
	if (r < 0)
		return r;
	r = dp->adopted ? dp_policies_recover(dp) : 0;
	if (r == 0 && dp->adopted)
		r = dp_shares_recover(dp);
	if (r == 0 && dp->adopted)
		r = dp_nets_recover(dp);
	if (r < 0)
		return err_sys(err, r, "read back the policies' keys");
	return datapath_limits_set(dp, &limits_default, err);
}

static int bpffs_check(const char *bpffs, struct err *err)
{
	struct statfs fs;

	if (statfs(bpffs, &fs) < 0)
		return err_sys(err, -errno, "look at %s", bpffs);
	if ((unsigned long)fs.f_type != BPF_FS_MAGIC)
		return err_set(err, -EINVAL, ERR_INTERNAL,
			"%s is not a BPF file system: mount -t bpf bpf %s", bpffs, bpffs);
	return 0;
}

int datapath_open(const char *bpffs, const char *name, struct datapath **ret, struct err *err)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	auto_datapath struct datapath *dp = calloc(1, sizeof(*dp));
	int r;

	if (!dp)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = bpffs_check(bpffs, err);
	if (r < 0)
		return r;
	r = pin_path(bpffs, name, dp->dir, sizeof(dp->dir));
	if (r < 0)
		return err_sys(err, r, "name the directory %s/%s", bpffs, name);
	libbpf_set_print(quiet);
	/* Kernels since 5.11 account map memory elsewhere; where the limit may not be raised, it
	 * does not matter. */
	setrlimit(RLIMIT_MEMLOCK, &all);
	dp->skel = weir_bpf__open();
	if (!dp->skel)
		return err_sys(err, -errno, "open the BPF object");
	r = load(dp, err);
	if (r < 0)
		return r;
	*ret = take_ptr(dp);
	return 0;
}

struct datapath *datapath_free(struct datapath *dp)
{
	if (!dp)
		return NULL;
	if (dp->slots) {
		dp_policies_purge(dp, true);
		dp_nets_purge(dp, true);
		munmap(dp->slots, dp->slots_len);
	}
	dp_policies_forget(dp);
	dp_shares_forget(dp);
	dp_nets_forget(dp);
	weir_bpf__destroy(dp->skel);
	free(dp);
	return NULL;
}

bool datapath_adopted(const struct datapath *dp)
{
	return dp->adopted;
}

int datapath_fd(const struct datapath *dp, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(dp->skel->obj, name);
	struct bpf_program *prog;

	if (map)
		return bpf_map__fd(map);
	prog = bpf_object__find_program_by_name(dp->skel->obj, name);
	return prog ? bpf_program__fd(prog) : -ENOENT;
}

static int attach(uint32_t ifindex, enum bpf_tc_attach_point point, int prog)
{
	DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = point);
	DECLARE_LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = 1, .prog_fd = prog,
		.flags = BPF_TC_F_REPLACE);

	return bpf_tc_attach(&hook, &opts);
}

int datapath_attach(struct datapath *dp, uint32_t ifindex, struct err *err)
{
	DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
		.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	int r = bpf_tc_hook_create(&hook);

	if (r == 0 || r == -EEXIST)
		r = attach(ifindex, BPF_TC_EGRESS, bpf_program__fd(dp->skel->progs.weir_to_sandbox));
	if (r == 0)
		r = attach(ifindex, BPF_TC_INGRESS,
			bpf_program__fd(dp->skel->progs.weir_from_sandbox));
	return r < 0 ? err_sys(err, r, "attach the classifiers to link %" PRIu32, ifindex) : 0;
}

int datapath_detach(struct datapath *dp, uint32_t ifindex, struct err *err)
{
	DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
		.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	int r = bpf_tc_hook_destroy(&hook);

	if (r == 0 || r == -ENOENT || r == -EINVAL || r == -ENODEV)
		return 0; /* nothing there any more */
	return err_sys(err, r, "detach the classifiers from link %" PRIu32, ifindex);
}
