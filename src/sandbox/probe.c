/*
 * `weird --probe`: the host room's checks, and those that need the rooms above it, each tried under
 * a name and in a directory of its own, so that a running daemon is not disturbed.
 */
#include <ftw.h>
#include <sys/resource.h>
#include "base/fd.h"
#include "datapath/datapath.h"
#include "host/headroom.h"
#include "host/netns.h"
#include "host/probe.h"
#include "sandbox/daemon.h"
#include "sandbox/net.h"

static int probe_datapath(const struct probe_env *env, struct err *err)
{
	auto_datapath struct datapath *dp = NULL;
	auto_netns struct netns_visit v = NETNS_HOME;
	auto_fd int ns = -EBADF;
	char name[32];
	int r = net_need_bpffs(err);

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "probe-%d", (int)getpid());
	r = datapath_open(BPFFS, name, &dp, err);
	if (r == 0)
		r = netns_visit_new(&v, &ns) < 0 ? err_sys(err, -errno, "network namespace")
						 : datapath_attach(dp, 1, err); /* its loopback */
	datapath_unpin(BPFFS, name, NULL);
	return r < 0 ? err_wrap(err, r,
			       "the packet programs do not load (Linux 6.1 or later with "
			       "CONFIG_BPF_JIT, "
			       "CONFIG_NET_CLS_BPF, CONFIG_NET_SCH_INGRESS)")
		     : 0;
}

static int drop_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	remove(path);
	return 0;
}

static int probe_runtime(const struct probe_env *env, struct err *err)
{
	char dir[] = "/tmp/weird-probe-XXXXXX", group[32];
	struct daemon d = { .phase = DAEMON_BOOT };
	struct config c;
	int r;

	if (!mkdtemp(dir))
		return err_sys(err, -errno, "make a directory in /tmp");
	config_defaults(&c);
	snprintf(c.vm_accel, sizeof(c.vm_accel), "tcg"); /* booting guests is the daemon's */
	snprintf(group, sizeof(group), "probe-%d", (int)getpid());
	snprintf(c.run_dir, sizeof(c.run_dir), "%s/run", dir);
	snprintf(c.state_dir, sizeof(c.state_dir), "%s/state", dir);
	snprintf(c.cgroup_root, sizeof(c.cgroup_root), "%s", group);
	r = daemon_paths(&d, &c, err);
	if (r == 0)
		r = runners_open(&d, err);
	runners_close(&d);
	nftw(dir, drop_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return r;
}

struct probe_env daemon_probe_env(const struct config *c)
{
	struct probe_env env = { .name = c->daemon_name,
		.user = c->daemon_user,
		.sandboxes = c->pool_slots,
		.connections = c->api_connections_max,
		.sandboxes_max = WEIR_SLOTS_MAX,
		.loops = !strcmp(c->disk_backend, "loop"),
		.ipv6 = c->net_ipv6 };
	struct uplink u;
	struct err err;

	if (uplink_plan(c->daemon_name, c->net_range4, c->net_range6, &u, &err) == 0)
		env.sandboxes_max = MIN(env.sandboxes_max, u.slots);
	return env;
}

int daemon_probe(const struct config *c, struct buf *out, struct err *err)
{
	static const struct probe_check more[] = {
		{ "packet programs", probe_datapath, false },
		{ "container runtime", probe_runtime, false },
	};
	struct probe_env env = daemon_probe_env(c);
	struct err second = { .code = 0 };
	int r = probe_run(probe_checks, probe_n_checks, &env, out, err), r2;

	probe_run(headroom_checks, headroom_n_checks, &env, out, NULL); /* advice alone */
	if (geteuid() != 0)
		return r; /* the others would only say the same */
	r2 = probe_run(more, ARRAY_SIZE(more), &env, out, &second);
	if (r == 0 && r2 < 0)
		*err = second;
	return r < 0 ? r : r2;
}
