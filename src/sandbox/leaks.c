/*
 * What in the kernel carries a daemon's name (daemon.h, daemon_leaks). One look per kind of
 * object, by names and paths alone: it must find what the daemon has forgotten.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "host/nft.h"
#include "host/probe.h"
#include "sandbox/daemon.h"
#include "sandbox/net.h"

#define SMALL_MAX (1 << 20) /* mountinfo of a machine with thousands of mounts */

struct look {
	struct daemon *d;
	struct buf *out;
	int found;
	char cgroup[80], environ[64];
};

static void found(struct look *l, const char *kind, struct str what)
{
	buf_fmt(l->out, "%s: " STR_FMT "\n", kind, STR_ARG(what));
	l->found++;
}

static bool has(struct str text, struct str part)
{
	return part.n && text.n >= part.n && memmem(text.p, text.n, part.p, part.n);
}

static void links(struct look *l)
{
	const char *name = l->d->cfg.daemon_name;

	for (const char *end = "0p"; *end; end++) {
		char link[IF_NAMESIZE];

		snprintf(link, sizeof(link), "%s%c", name, *end);
		if (link_index(&l->d->host, link) >= 0)
			found(l, "link", str_c(link));
	}
	if (nft_present(name))
		found(l, "nft table", str_c(name));
}

static void pins(struct look *l)
{
	char path[128];

	snprintf(path, sizeof(path), BPFFS "/%s", l->d->cfg.daemon_name);
	if (access(path, F_OK) == 0)
		found(l, "bpf pins", str_c(path));
}

/* Mounts below our directories, and the cgroup of our name below each cgroup mount. */
static void mounts(struct look *l)
{
	auto_buf struct buf b = BUF_MAX(SMALL_MAX);
	char run[256], state[256];
	struct str all;

	if (file_read(AT_FDCWD, "/proc/self/mountinfo", &b) < 0)
		return;
	snprintf(run, sizeof(run), " %s/", l->d->path.run);
	snprintf(state, sizeof(state), " %s/", l->d->path.state);
	all = buf_str(&b);
	while (all.n) {
		struct str line = str_cut(&all, '\n'), rest = line, at = STR_NONE;
		char path[600];
		struct stat st;

		if (has(line, str_c(run)) || has(line, str_c(state)))
			found(l, "mount", line);
		for (int i = 0; i < 5; i++)
			at = str_cut(&rest, ' ');
		if (!has(line, STR(" - cgroup")))
			continue;
		snprintf(path, sizeof(path), STR_FMT "/%s", STR_ARG(at), l->cgroup);
		if (stat(path, &st) == 0)
			found(l, "cgroup", str_c(path));
	}
}

static void loops(struct look *l)
{
	glob_t g;

	if (glob("/sys/block/loop*/loop/backing_file", 0, NULL, &g) != 0)
		return;
	for (size_t i = 0; i < g.gl_pathc; i++) {
		auto_buf struct buf b = BUF_MAX(4096);

		if (file_read(AT_FDCWD, g.gl_pathv[i], &b) < 0 || b.n < 2)
			continue;
		b.n--;
		if (str_starts(buf_str(&b), str_c(l->d->path.state)) ||
			str_starts(buf_str(&b), str_c(l->d->path.run)))
			found(l, "loop device", buf_str(&b));
	}
	globfree(&g);
}

/* A process that is past its end stays in a group for a moment after the group was removed. */
static bool in_live_group(struct str groups, const char *part)
{
	while (groups.n) {
		struct str line = str_cut(&groups, '\n');

		if (has(line, str_c(part)) && !str_ends(line, STR(" (deleted)")))
			return true;
	}
	return false;
}

static void one_process(struct look *l, const char *pid)
{
	auto_buf struct buf env = BUF_MAX(SMALL_MAX), group = BUF_MAX(16384), name = BUF_MAX(64);
	char path[320], in_group[96], what[384];

	snprintf(path, sizeof(path), "/proc/%s/environ", pid);
	file_read(AT_FDCWD, path, &env);
	snprintf(path, sizeof(path), "/proc/%s/cgroup", pid);
	file_read(AT_FDCWD, path, &group);
	snprintf(in_group, sizeof(in_group), ":/%s/", l->cgroup);
	if (!has(str_n(env.p, env.n), str_n(l->environ, strlen(l->environ) + 1)) &&
		!in_live_group(buf_str(&group), in_group))
		return;
	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	file_read(AT_FDCWD, path, &name);
	if (name.n)
		name.n--;
	snprintf(what, sizeof(what), "%s " STR_FMT, pid, STR_ARG(buf_str(&name)));
	found(l, "process", str_c(what));
}

static void processes(struct look *l)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]))
			one_process(l, e->d_name);
	if (d)
		closedir(d);
}

static void files(struct look *l)
{
	if (access(l->d->path.router_ns, F_OK) == 0)
		found(l, "namespace", str_c(l->d->path.router_ns));
	if (access(l->d->path.sysctl_memo, F_OK) == 0)
		found(l, "borrowed sysctls", str_c(l->d->path.sysctl_memo));
	if (access(l->d->path.sandboxes, F_OK) == 0)
		found(l, "records", str_c(l->d->path.sandboxes));
}

int daemon_leaks(struct daemon *d, struct buf *out)
{
	struct look l = { .d = d, .out = out };
	int r = rtnl_open(&d->host);

	if (r < 0)
		return r;
	snprintf(l.cgroup, sizeof(l.cgroup), "%s",
		d->cfg.cgroup_root[0] ? d->cfg.cgroup_root : d->cfg.daemon_name);
	snprintf(l.environ, sizeof(l.environ), "WEIR_DAEMON=%s", d->cfg.daemon_name);
	links(&l);
	pins(&l);
	mounts(&l);
	loops(&l);
	processes(&l);
	files(&l);
	return l.found;
}
