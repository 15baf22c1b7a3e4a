/*
 * A hand on the container runtime, for tests: makes what the rest of the host role would (a net
 * namespace, a listening socket), takes words on standard input and answers each with one line.
 *
 *	driver STATE_DIR AGENT [lift=N] [backend=loop] [cgroup=NAME] [uid_base=N]
 *
 *	spawn ID IMAGE SLOT MEM DISK PIDS CPU [revive]	-> ok PID US
 *	park IMAGE SLOT DISK -> ok, for the next spawn that it fits; leave: discard what is parked
 *	freeze ID | thaw ID | frozen ID | kill ID | wait ID | stats ID | grow ID MIB
 *	record ID -> ok pid=…;started=…		adopt ID RECORD
 *	run ID COMMAND… -> ok LENGTH, then that many bytes: output, newline, exit status
 *	cleanup ID [keep] -> ok STATUS OOM	drop ID | sweep | quit
 *
 * Failures: "error CODE sentence". It links its own copy of the runtime, in which single defences
 * can be lifted (runtime/lift.h).
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "base/clock.h"
#include "base/fd.h"
#include "runtime/lift.h"
#include "runtime/runtime.h"
#include "runtime/sys.h"

#define BOXES_MAX  1100
#define AGENT_PORT 1024
#define WORDS_MAX  12

static const struct runtime_ops *const ops = &runtime_container;
static struct runtime *rt;
static struct {
	char id[IPC_ID_LEN];
	pid_t pid;
	struct runtime_box *box;
} boxes[BOXES_MAX];

static struct runtime_box **find(const char *id)
{
	for (size_t i = 0; i < BOXES_MAX; i++)
		if (boxes[i].box && !strcmp(boxes[i].id, id))
			return &boxes[i].box;
	return NULL;
}

static pid_t pid_of(const char *id)
{
	for (size_t i = 0; i < BOXES_MAX; i++)
		if (boxes[i].box && !strcmp(boxes[i].id, id))
			return boxes[i].pid;
	return -1;
}

static pid_t pid_recorded(const struct runtime_box *box)
{
	auto_buf struct buf rec = BUF_MAX(1024);
	struct str line;
	uint64_t pid = 0;

	ops->record(box, &rec);
	line = buf_str(&rec);
	while (line.n) {
		struct str value = str_cut(&line, '\n'), key = str_cut(&value, '=');

		if (str_eq_c(key, "pid"))
			str_u64(value, INT32_MAX, &pid);
	}
	return (pid_t)pid;
}

static void keep(const char *id, struct runtime_box *box)
{
	for (size_t i = 0; i < BOXES_MAX; i++)
		if (!boxes[i].box) {
			boxes[i].box = box;
			boxes[i].pid = pid_recorded(box);
			snprintf(boxes[i].id, sizeof(boxes[i].id), "%s", id);
			return;
		}
}

/* A namespace with loopback up, and a socket listening on it: what a slot would hand in. */
static int make_slot(int *ret_netns, int *ret_sock)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(AGENT_PORT) };
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	auto_fd int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int r = 0, sock;

	if (home < 0 || unshare(CLONE_NEWNET) < 0)
		return -errno;
	*ret_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &ifr) < 0 ||
		bind(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(sock, 16) < 0)
		r = -errno;
	*ret_sock = sock;
	return setns(home, CLONE_NEWNET) < 0 ? -errno : r;
}

/* One command to the stand-in agent (tests/attack/probes/agent.c). */
static int do_run(pid_t pid, const char *command, struct err *err)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(AGENT_PORT) };
	auto_buf struct buf out = BUF_MAX(8 << 20);
	auto_fd int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = -EBADF;
	auto_fd int sock = -EBADF;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (there < 0 || setns(there, CLONE_NEWNET) < 0)
		return err_sys(err, -errno, "enter the box's net namespace");
	sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (setns(home, CLONE_NEWNET) < 0 || sock < 0 ||
		connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		fd_write_all(sock, command, strlen(command)) < 0 || shutdown(sock, SHUT_WR) < 0)
		return err_sys(err, -errno, "speak to the agent");
	for (;;) {
		ssize_t k;

		if (buf_room(&out, 4096) < 0)
			return err_sys(err, -EFBIG, "read the output");
		k = read(sock, out.p + out.n, 4096);
		if (k <= 0)
			break;
		out.n += (size_t)k;
	}
	printf("ok %zu\n", out.n);
	fwrite(out.p, 1, out.n, stdout);
	fflush(stdout);
	return 0;
}

#define PARKED_MAX 8
static struct {
	struct runtime_parked *p;
	uint32_t slot;
} parked[PARKED_MAX];

static uint32_t number(const char *word)
{
	uint64_t v = 0;

	str_u64(str_c(word), UINT32_MAX, &v);
	return (uint32_t)v;
}

/* Park one and wait for it. */
static int park(const char *image, uint32_t slot, uint32_t disk_mib, const char *revive,
	struct runtime_parked **ret, struct err *err)
{
	auto_fd int netns = -EBADF, sock = -EBADF;
	struct slotnet net;
	struct runtime_seat seat = { .slot = slot, .image = image, .disk_mib = disk_mib,
		.revive = revive };
	struct runtime_parked *p;
	int r = make_slot(&netns, &sock);

	if (r < 0)
		return err_sys(err, r, "make a slot");
	net = (struct slotnet){ .ns = netns, .agent_fd = sock, .tap = -EBADF };
	seat.net = &net;
	r = ops->park(rt, &seat, &p, err);
	while (r == 0) {
		struct pollfd fd = { .fd = ops->parked_fd(p), .events = POLLIN };

		poll(&fd, 1, -1);
		r = ops->parked_look(p, err);
		if (r < 0)
			ops->discard(p);
	}
	*ret = p;
	return MIN(r, 0);
}

static int do_park(char **w, struct err *err)
{
	for (size_t i = 0; i < PARKED_MAX; i++)
		if (!parked[i].p) {
			parked[i].slot = number(w[2]);
			return park(w[1], number(w[2]), number(w[3]), NULL, &parked[i].p, err);
		}
	return err_set(err, -ENOSPC, ERR_CAPACITY, "enough is parked");
}

static void do_leave(void)
{
	for (size_t i = 0; i < PARKED_MAX; i++)
		if (parked[i].p) {
			ops->leave(parked[i].p);
			ops->discard(take_ptr(parked[i].p));
		}
}

static struct runtime_parked *take_parked(uint32_t slot, const char *image, uint32_t disk_mib)
{
	const struct runtime_seat seat = { .slot = slot, .image = image, .disk_mib = disk_mib };

	for (size_t i = 0; i < PARKED_MAX; i++)
		if (parked[i].p && parked[i].slot == slot && ops->fits(parked[i].p, &seat))
			return take_ptr(parked[i].p);
	return NULL;
}

static int do_spawn(char **w, int n, char *reply, size_t size, struct err *err)
{
	struct runtime_spec spec = { .id = w[1], .hostname = "otter",
		.slot = number(w[3]), .mem_mib = number(w[4]), .disk_mib = number(w[5]),
		.pids = number(w[6]), .vcpu_milli = number(w[7]),
		.ip4 = ip_v4(0x0a3c0001) };
	struct runtime_box *box;
	struct runtime_parked *p = n > 8 ? NULL : take_parked(spec.slot, w[2], spec.disk_mib);
	uint64_t begin = clock_mono_ns();
	int r = p ? 0 : park(w[2], spec.slot, spec.disk_mib, n > 8 ? w[1] : NULL, &p, err);

	r = r < 0 ? r : ops->spawn(rt, &spec, p, &box, err);
	if (r < 0)
		return r;
	begin = clock_mono_ns() - begin;
	keep(w[1], box);
	snprintf(reply, size, "%d %" PRIu64, pid_of(w[1]), begin / 1000);
	return 0;
}

static int do_box(char **w, int n, char *reply, size_t size, struct err *err)
{
	struct runtime_box **at = n > 1 ? find(w[1]) : NULL, *box;
	int r = 0;

	if (!at)
		return err_set(err, -ENOENT, ERR_NOT_FOUND, "no such box or word");
	box = *at;
	if (!strcmp(w[0], "freeze")) {
		while ((r = ops->freeze(box, err)) == -EAGAIN)
			;
		return r;
	}
	if (!strcmp(w[0], "thaw"))
		return ops->thaw(box, NULL, -EBADF, err);
	if (!strcmp(w[0], "frozen")) {
		snprintf(reply, size, "%d", ops->frozen(box));
	} else if (!strcmp(w[0], "kill")) {
		r = ops->kill(box);
	} else if (!strcmp(w[0], "wait")) {
		struct pollfd p = { .fd = ops->pidfd(box), .events = POLLIN };

		r = poll(&p, 1, 60000) == 1 ? 0 : -ETIMEDOUT;
	} else if (!strcmp(w[0], "stats")) {
		struct ipc_stats s;

		r = ops->stats(box, &s);
		snprintf(reply, size, "mem=%" PRIu64 " cpu=%" PRIu64 " pids=%" PRIu64 " disk=%" PRIu64,
			s.mem_bytes, s.cpu_usec, s.pids, s.disk_bytes);
	} else if (!strcmp(w[0], "grow") && n > 2) {
		return ops->grow(box, number(w[2]), err);
	} else if (!strcmp(w[0], "limit") && n > 2) {
		return ops->limit(box, number(w[2]), err);
	} else if (!strcmp(w[0], "record")) {
		struct buf rec = BUF_MAX(1024);

		r = ops->record(box, &rec);
		for (size_t i = 0; i < rec.n; i++)
			if (rec.p[i] == '\n')
				rec.p[i] = ';';
		snprintf(reply, size, STR_FMT, STR_ARG(buf_str(&rec)));
		buf_done(&rec);
	} else if (!strcmp(w[0], "cleanup")) {
		int32_t status;
		bool oom;

		*at = NULL;
		r = ops->cleanup(box, n > 2, &status, &oom, err);
		snprintf(reply, size, "%d %d", status, oom);
		return r;
	} else {
		return err_set(err, -EINVAL, ERR_INVALID, "no such word");
	}
	return r < 0 ? err_sys(err, r, "%s", w[0]) : 0;
}

static int do_line(char **w, int n, char *reply, size_t size, struct err *err)
{
	if (!strcmp(w[0], "spawn") && n >= 8)
		return do_spawn(w, n, reply, size, err);
	if (!strcmp(w[0], "park") && n == 4)
		return do_park(w, err);
	if (!strcmp(w[0], "leave")) {
		do_leave();
		return 0;
	}
	if (!strcmp(w[0], "adopt") && n == 3) {
		struct runtime_box *box = NULL;
		int r;

		for (char *c = w[2]; *c; c++)
			if (*c == ';')
				*c = '\n';
		r = ops->adopt(rt, w[1], str_c(w[2]), &box, err);
		if (box)
			keep(w[1], box);
		return r;
	}
	if (!strcmp(w[0], "drop") && n == 2)
		return ops->drop_layer(rt, w[1], err);
	if (!strcmp(w[0], "sweep")) {
		ops->sweep(rt);
		return 0;
	}
	return do_box(w, n, reply, size, err);
}

static const char *option(int argc, char **argv, const char *key, const char *otherwise)
{
	size_t n = strlen(key);

	for (int i = 3; i < argc; i++)
		if (!strncmp(argv[i], key, n) && argv[i][n] == '=')
			return argv[i] + n + 1;
	return otherwise;
}

int main(int argc, char **argv)
{
	char run[256], images[256], line[4096];
	struct err err = { 0 };
	struct runtime_env env = { .name = "test" };

	if (argc < 3)
		return 2;
	snprintf(run, sizeof(run), "%s/run", argv[1]);
	snprintf(images, sizeof(images), "%s/images", argv[1]);
	env.state_dir = argv[1];
	env.run_dir = run;
	env.image_dir = images;
	env.agent_path = argv[2];
	env.cgroup_root = option(argc, argv, "cgroup", "weir-test");
	env.disk_backend = option(argc, argv, "backend", "auto");
	env.uid_base = number(option(argc, argv, "uid_base", "1048576"));
	lifted = number(option(argc, argv, "lift", "0"));
	if (ops->open(&env, &rt, &err) < 0) {
		printf("error %d %s\n", err.code, err.text);
		return 1;
	}
	printf("ok\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		char *w[WORDS_MAX] = { NULL }, reply[1024] = "", *save = NULL;
		int n = 0;

		if (!strncmp(line, "run ", 4) && strchr(line + 4, ' ')) {
			char *command = strchr(line + 4, ' ');

			*command++ = '\0';
			if (do_run(pid_of(line + 4), command, &err) < 0)
				printf("error %d %s\n", err.code, err.text);
			fflush(stdout);
			continue;
		}
		for (char *t = strtok_r(line, " \n", &save); t && n < WORDS_MAX;
			t = strtok_r(NULL, " \n", &save))
			w[n++] = t;
		if (n == 0)
			continue;
		if (!strcmp(w[0], "quit"))
			break;
		if (do_line(w, n, reply, sizeof(reply), &err) < 0)
			printf("error %d %s\n", err.code, err.text);
		else
			printf("ok %s\n", reply);
		fflush(stdout);
	}
	ops->close(rt);
	return 0;
}
