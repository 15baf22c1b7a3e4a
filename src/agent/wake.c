/*
 * What a sandbox is told when it begins, and again when it goes on after a pause or when the api
 * role was restarted: host name, addresses, environment, keys.
 *
 * A virtual machine goes on from a snapshot, and may be one of many that do: it believes it is the
 * one that was copied, at that time, with its randomness. So it is told first who it is, what time
 * it is and what is random now, and cannot be woken without; only afterwards is there an environment
 * for commands to run in.
 *
 * A wake says the same thing many times, so each part first looks whether there is anything to
 * do: a sandbox with a full disk or without the right to set its name still resumes.
 *
 * In /etc/hosts and authorized_keys our lines stand in a block of their own, and what users wrote
 * around it stays.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include "agent/agent.h"
#include "agent/machine.h"
#include "base/fd.h"

#define FILE_MAX    (1u << 20)
#define BLOCK_BEGIN "# weir: begin (rewritten)\n"
#define BLOCK_END   "# weir: end\n"

/* --- environment --- */

static const char *const base_env[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "USER=root", "LANG=C.UTF-8",
};

static char **sandbox_env; /* of the last wake */
static size_t n_sandbox_env;

static bool same_name(const char *a, const char *b)
{
	size_t n = (size_t)(strchr(a, '=') - a);

	return strncmp(a, b, n + 1) == 0;
}

static size_t env_put(char **env, size_t n, char *entry)
{
	for (size_t i = 0; i < n; i++)
		if (same_name(env[i], entry)) {
			env[i] = entry;
			return n;
		}
	env[n] = entry;
	return n + 1;
}

/* Runs in a child that is about to exec: copies are not freed. */
char **env_build(const struct frame_list *extra)
{
	char **env = calloc(ARRAY_SIZE(base_env) + n_sandbox_env + extra->n + 1, sizeof(*env));
	size_t n = 0;

	if (!env)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(base_env); i++)
		env[n++] = (char *)(uintptr_t)base_env[i];
	for (size_t i = 0; i < n_sandbox_env; i++)
		n = env_put(env, n, sandbox_env[i]);
	for (size_t i = 0; i < extra->n; i++) {
		char *entry = str_dup(extra->v[i]);

		if (!entry)
			return NULL;
		n = env_put(env, n, entry);
	}
	return env;
}

const char *env_get(char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; *env; env++)
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	return "";
}

static void env_free(char **env, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(env[i]);
	free(env);
}

static int env_keep(const struct frame_list *l)
{
	char **env = calloc(l->n + 1, sizeof(*env));
	size_t bytes = 0;

	if (!env)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++) {
		bytes += l->v[i].n;
		env[i] = bytes > ENV_MAX ? NULL : str_dup(l->v[i]);
		if (!env[i]) {
			env_free(env, i);
			return bytes > ENV_MAX ? -E2BIG : -ENOMEM;
		}
	}
	env_free(sandbox_env, n_sandbox_env);
	sandbox_env = env;
	n_sandbox_env = l->n;
	return 0;
}

/* --- files with a block of ours --- */

/* The text without our block. */
static void without_block(struct str text, struct buf *out)
{
	bool inside = false;

	while (text.n) {
		ssize_t end = str_find(text, '\n');
		struct str line = str_n(text.p, end < 0 ? text.n : (size_t)end + 1);

		text = str_skip(text, line.n);
		if (str_eq(line, STR(BLOCK_BEGIN)))
			inside = true;
		else if (str_eq(line, STR(BLOCK_END)))
			inside = false;
		else if (!inside)
			buf_add_str(out, line);
	}
}

static int block_write(const char *path, struct str lines, unsigned int mode)
{
	auto_buf struct buf old = BUF_MAX(FILE_MAX), text = BUF_MAX(2 * FILE_MAX);
	struct stat st;
	int r = 0;

	/* Not a regular file: a tenant's joke or a link; it is replaced, never opened. */
	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
		r = file_read(AT_FDCWD, path, &old);
	if (r < 0)
		return r;
	buf_add_c(&text, BLOCK_BEGIN);
	buf_add_str(&text, lines);
	buf_add_c(&text, BLOCK_END);
	without_block(buf_str(&old), &text);
	if (buf_failed(&text))
		return buf_failed(&text);
	if (str_eq(buf_str(&old), buf_str(&text)))
		return 0;
	return file_replace(AT_FDCWD, path, buf_str(&text), mode, false);
}

static void hosts_line(struct buf *out, int family, struct str raw, const char *name)
{
	char text[INET6_ADDRSTRLEN];

	if (raw.n && inet_ntop(family, raw.p, text, sizeof(text)))
		buf_fmt(out, "%s\t%s\n", text, name);
}

static int hosts_write(const union frame_body *m, const char *name)
{
	auto_buf struct buf b = BUF_MAX(4096);

	buf_add_c(&b, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	hosts_line(&b, AF_INET, m->wake.ip4, name);
	hosts_line(&b, AF_INET6, m->wake.ip6, name);
	if (!m->wake.ip4.n && !m->wake.ip6.n)
		buf_fmt(&b, "127.0.1.1\t%s\n", name);
	mkdir("/etc", 0755);
	return block_write("/etc/hosts", buf_str(&b), 0644);
}

static int hostname_write(const char *name)
{
	auto_buf struct buf old = BUF_MAX(4096), text = BUF_MAX(4096);
	char now[FRAME_NAME_MAX + 2] = "";

	gethostname(now, sizeof(now) - 1);
	if (!str_eq(str_c(now), str_c(name)) && sethostname(name, strlen(name)) < 0)
		return -errno;
	buf_fmt(&text, "%s\n", name);
	if (file_read(AT_FDCWD, "/etc/hostname", &old) == 0 &&
		str_eq(buf_str(&old), buf_str(&text)))
		return 0;
	return file_replace(AT_FDCWD, "/etc/hostname", buf_str(&text), 0644, false);
}

static int keys_write(const struct frame_list *keys)
{
	auto_buf struct buf b = BUF_MAX(FILE_MAX);
	struct stat st;

	for (size_t i = 0; i < keys->n; i++) {
		if (str_find(keys->v[i], '\n') >= 0)
			return -EINVAL;
		buf_add_str(&b, keys->v[i]);
		buf_add_c(&b, "\n");
	}
	if (buf_failed(&b))
		return buf_failed(&b);
	mkdir("/root", 0700);
	mkdir("/root/.ssh", 0700);
	if (lstat("/root/.ssh", &st) < 0 || !S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return block_write("/root/.ssh/authorized_keys", buf_str(&b), 0600);
}

/* --- machines of their own --- */

int clock_write(uint64_t wall_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(wall_ns / 1000000000),
		.tv_nsec = (long)(wall_ns % 1000000000) };

	return clock_settime(CLOCK_REALTIME, &ts) < 0 ? -errno : 0;
}

/* Credited, and the generator reseeded at once, so that copies of one machine differ from the next
 * byte on. In a container the kernel's generator is everyone's: what it is given is mixed in. */
static int entropy_write(struct str entropy)
{
	auto_fd int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	/* A struct rand_pool_info: bits of entropy, bytes, and the bytes. */
	uint32_t pool[2 + FRAME_ENTROPY_MAX / 4] = { (uint32_t)entropy.n * 8, (uint32_t)entropy.n };
	int r = fd < 0 ? -errno : 0;

	if (r < 0)
		return r;
	memcpy(pool + 2, entropy.p, entropy.n);
	if (ioctl(fd, RNDADDENTROPY, pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		r = machine_is_ours() ? -errno : fd_write_all(fd, entropy.p, entropy.n);
	explicit_bzero(pool, sizeof(pool));
	return r;
}

static int link_write(const union frame_body *m)
{
	struct link_plan plan = { 0 };

	if (m->wake.ip4.n)
		plan.ip4 = ip_raw(4, m->wake.ip4.p);
	if (m->wake.ip6.n)
		plan.ip6 = ip_raw(6, m->wake.ip6.p);
	if (m->wake.overlay.n)
		plan.overlay = ip_raw(4, m->wake.overlay.p);
	return link_move(&plan, NULL);
}

/* Also where D-Bus keeps a copy, if it is one. */
static int machine_id_write(struct str id)
{
	static const char *const paths[] = { "/etc/machine-id", "/var/lib/dbus/machine-id" };
	char text[34];
	int r = 0;

	for (size_t i = 0; i < id.n; i++)
		snprintf(text + 2 * i, 3, "%02x", (uint8_t)id.p[i]);
	text[32] = '\n';
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(paths); i++) {
		auto_buf struct buf old = BUF_MAX(4096);
		struct stat st;

		if (i && (lstat(paths[i], &st) < 0 || !S_ISREG(st.st_mode)))
			continue;
		if (file_read(AT_FDCWD, paths[i], &old) < 0 ||
			!str_eq(buf_str(&old), str_n(text, 33)))
			r = file_replace(AT_FDCWD, paths[i], str_n(text, 33), 0444, false);
	}
	return r;
}

#define SEED_MIN 32 /* what the kernel takes for a full seed */

static int machine_write(const union frame_body *m, const char **what)
{
	int r;

	*what = "wake a machine without its time and 32 bytes of entropy";
	if (!m->wake.wall_ns || m->wake.entropy.n < SEED_MIN)
		return -EINVAL;
	*what = "seed the random numbers";
	r = entropy_write(m->wake.entropy);
	if (r < 0)
		return r;
	*what = "set the clock";
	r = clock_write(m->wake.wall_ns);
	if (r < 0)
		return r;
	*what = "grow the disk";
	r = machine_grow();
	if (r < 0)
		return r;
	*what = "set the addresses";
	r = link_write(m);
	if (r < 0 || !m->wake.machine.n)
		return r;
	*what = "write /etc/machine-id";
	return machine_id_write(m->wake.machine);
}

/* A container has these of its host; what it may not set, it says. */
static int container_write(const union frame_body *m, const char **what)
{
	int r = 0;

	*what = "set the clock";
	if (m->wake.wall_ns)
		r = clock_write(m->wake.wall_ns);
	if (r < 0 || !m->wake.entropy.n)
		return r;
	*what = "add entropy";
	return entropy_write(m->wake.entropy);
}

void wake_start(struct conn *c, const union frame_body *m)
{
	char name[FRAME_NAME_MAX + 1];
	const char *what = NULL;
	int r;

	FAULT("agent.wake.asked");
	r = machine_is_ours() ? machine_write(m, &what) : container_write(m, &what);
	if (r == 0) {
		what = "keep the environment";
		r = env_keep(&m->wake.env);
	}
	if (r == 0 && m->wake.hostname.n) {
		what = "set the host name";
		r = str_copy(name, sizeof(name), m->wake.hostname);
		if (r == 0)
			r = hostname_write(name);
		if (r == 0) {
			what = "write /etc/hosts";
			r = hosts_write(m, name);
		}
	}
	if (r == 0 && m->wake.ssh_keys.n) {
		what = "write authorized_keys";
		r = keys_write(&m->wake.ssh_keys);
	}
	if (r < 0) {
		conn_fail(c, -r, "cannot %s: %s", what, strerror(-r));
		return;
	}
	held_end(); /* from here on it differs from every copy */
	FAULT("agent.wake.done");
	conn_send(c, FRAME_OK, &(union frame_body){ 0 });
	conn_finish(c);
}
