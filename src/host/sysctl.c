/* Kernel parameters: see the header. */
#include <fcntl.h>
#include "base/fd.h"
#include "host/sysctl.h"

#define MEMO_MAX 16384 /* some dozens of lines at most: two per outside interface */

static const struct sysctl_value {
	const char *key, *value; /* below net/ipv4, or net/ipv6/conf */
	bool ipv6;
} router_values[] = {
	{ "ip_forward", "1", false },
	/* Many links carry the same addresses: the reverse path is the tc program's business. */
	{ "conf/all/rp_filter", "0", false },
	{ "conf/default/rp_filter", "0", false },
	/* One sandbox's bad path must not slow the next one that gets its address. */
	{ "tcp_no_metrics_save", "1", false },
	/* Visitors of one sandbox make connections to one address and port from one: those that ended
	 * would keep all ports for a minute, and connect() would search among them for milliseconds. */
	{ "tcp_tw_reuse", "1", false },
	{ "conf/all/accept_redirects", "0", false },
	{ "conf/default/accept_redirects", "0", false },
	{ "conf/all/send_redirects", "0", false },
	{ "conf/default/send_redirects", "0", false },
	{ "all/forwarding", "1", true },
	{ "default/forwarding", "1", true },
	{ "all/accept_ra", "0", true },
	{ "default/accept_ra", "0", true },
	{ "default/autoconf", "0", true },
	{ "default/accept_redirects", "0", true },
	{ "default/accept_dad", "0", true },
	{ "default/dad_transmits", "0", true },
	{ "default/addr_gen_mode", "1", true }, /* only addresses that we set */
	{ "default/router_solicitations", "0", true },
}, slot_values[] = {
	/* root inside binds port 80 and pings without capabilities in this namespace */
	{ "ip_unprivileged_port_start", "0", false },
	{ "ping_group_range", "0 2147483647", false },
	/* Only addresses that we set, which are never probed for; and nobody is asked for routes, since
	 * no answer would be taken. Each line is a file to open and write for every sandbox. */
	{ "default/accept_ra", "0", true },
	{ "default/addr_gen_mode", "1", true },
};

static int key_path(const char *key, char *ret, size_t size)
{
	return (size_t)snprintf(ret, size, "/proc/sys/%s", key) < size ? 0 : -ENAMETOOLONG;
}

int sysctl_get(const char *key, char *ret, size_t size)
{
	char path[256];
	auto_buf struct buf b = BUF_MAX(256);
	int r = key_path(key, path, sizeof(path));

	if (r == 0)
		r = file_read(AT_FDCWD, path, &b);
	if (r < 0)
		return r;
	while (b.n && (b.p[b.n - 1] == '\n' || b.p[b.n - 1] == ' '))
		b.n--;
	return str_copy(ret, size, buf_str(&b));
}

bool sysctl_exists(const char *key)
{
	char path[256];

	return key_path(key, path, sizeof(path)) == 0 && access(path, F_OK) == 0;
}

int sysctl_set(const char *key, const char *value, struct err *err)
{
	char path[256];
	int r = key_path(key, path, sizeof(path));

	if (r == 0)
		r = file_write_kernel(AT_FDCWD, path, str_c(value));
	return r < 0 ? err_sys(err, r, "set %s to %s", key, value) : 0;
}

static bool memo_has(struct str memo, const char *key)
{
	while (memo.n) {
		struct str line = str_cut(&memo, '\n'), k = str_cut(&line, ' ');

		if (str_eq_c(k, key))
			return true;
	}
	return false;
}

int sysctl_borrow(const char *memo, const char *key, const char *value, struct err *err)
{
	auto_buf struct buf b = BUF_MAX(MEMO_MAX);
	char old[128];
	int r = sysctl_get(key, old, sizeof(old));

	if (r < 0)
		return err_sys(err, r, "read %s", key);
	if (strcmp(old, value) == 0)
		return 0;
	r = file_read(AT_FDCWD, memo, &b);
	if (r < 0 && r != -ENOENT)
		return err_sys(err, r, "read %s", memo);
	if (!memo_has(buf_str(&b), key)) {
		buf_fmt(&b, "%s %s\n", key, old);
		r = buf_failed(&b) ? buf_failed(&b)
				   : file_replace(AT_FDCWD, memo, buf_str(&b), 0600, false);
		if (r < 0)
			return err_sys(err, r, "write %s", memo);
	}
	return sysctl_set(key, value, err);
}

int sysctl_restore(const char *memo)
{
	auto_buf struct buf b = BUF_MAX(MEMO_MAX);
	struct str all;
	int r = file_read(AT_FDCWD, memo, &b);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	all = buf_str(&b);
	while (all.n) {
		/* Newest first: cut the last line off. */
		size_t end = all.n, start;
		struct str line;
		char key[200], value[128];

		if (all.p[end - 1] == '\n')
			end--;
		for (start = end; start && all.p[start - 1] != '\n'; start--)
			;
		line = str_n(all.p + start, end - start);
		all.n = start;
		if (str_copy(key, sizeof(key), str_cut(&line, ' ')) < 0 || !line.p ||
			str_copy(value, sizeof(value), line) < 0 || !sysctl_exists(key))
			continue;
		r = sysctl_set(key, value, NULL);
		if (r < 0)
			return r;
	}
	return unlink(memo) < 0 ? -errno : 0;
}

/*
 * Keys below one directory each. Below /proc/sys/net the kernel keeps the entries of all network
 * namespaces in one hash chain per name, so each walk through "ipv4" or "ipv6" costs as much as
 * there are slots: the directory is opened once.
 */
static int set_below(const char *dir, const struct sysctl_value *v, size_t n, bool ipv6,
	struct err *err)
{
	auto_fd int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		if (v[i].ipv6 == ipv6) {
			r = file_write_kernel(fd, v[i].key, str_c(v[i].value));
			if (r < 0)
				return err_sys(err, r, "set %s/%s to %s", dir, v[i].key, v[i].value);
		}
	return r < 0 ? err_sys(err, r, "open %s", dir) : 0;
}

static int set_all(const struct sysctl_value *v, size_t n, bool ipv6, struct err *err)
{
	int r = set_below("/proc/sys/net/ipv4", v, n, false, err);

	if (r < 0 || ipv6)
		return r < 0 ? r : set_below("/proc/sys/net/ipv6/conf", v, n, true, err);
	if (!sysctl_exists("net/ipv6/conf/default/disable_ipv6"))
		return 0;
	return sysctl_set("net/ipv6/conf/default/disable_ipv6", "1", err);
}

int sysctl_router(bool ipv6, struct err *err)
{
	return set_all(router_values, ARRAY_SIZE(router_values), ipv6, err);
}

int sysctl_slot(bool ipv6, struct err *err)
{
	return set_all(slot_values, ARRAY_SIZE(slot_values), ipv6, err);
}
