/*
 * weir-api: the unprivileged role that answers HTTP, keeps the store and talks with agents.
 *
 * Started by weird as user `weir` in the router namespace, with a channel to it as descriptor 3.
 * Stages: boot (named descriptors), configuration, store and listeners, confinement, then the
 * loop. Confinement comes before the first byte of a client is read.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include "api/api.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "event/role.h"

/* SQLite's files, sockets to agents, counters. */
static const char *const syscalls[] = { "openat", "access", "faccessat", "faccessat2", "unlink",
	"unlinkat", "rename", "renameat", "renameat2", "fsync", "fdatasync", "fallocate", "getcwd",
	"readlink", "readlinkat", "stat", "lstat", "fchmod", "fchown", "mkdir", "umask", "utimensat",
	"socket", "connect", "bind", "accept", "bpf", "timerfd_create", "timerfd_settime", NULL };

static void stop(struct api *a, int code)
{
	log_event(LOG_INFO, "api.stop", "code=%d", code);
	exit(code);
}

static int read_config(int fd, struct config *ret, struct err *err)
{
	auto_buf struct buf text = BUF_MAX(1u << 20), complaints = BUF_MAX(1u << 16);
	char path[64];
	int r;

	config_defaults(ret);
	if (fd < 0)
		return err_set(err, -ENOENT, ERR_INTERNAL, "no configuration was handed over");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = file_read(AT_FDCWD, path, &text);
	if (r < 0)
		return err_sys(err, r, "read the configuration");
	r = config_read(ret, "config", buf_str(&text), &complaints);
	if (r < 0)
		return err_set(err, r, ERR_INTERNAL, "configuration: %.*s", (int)MIN(complaints.n, (size_t)300),
			complaints.p);
	return 0;
}

static int take_fds(struct role *role, struct api_spec *spec, struct err *err)
{
	auto_fd int config = role_fd(role, "config");
	char name[IPC_NAME_LEN];
	int r = read_config(config, &spec->config, err);

	if (r < 0)
		return r;
	spec->host = ROLE_CHAN_FD;
	spec->state_dir = role_fd(role, "state");
	spec->counters = role_fd(role, "map.weir_counters");
	spec->dns_counters = role_fd(role, "map.weir_dns_counters");
	spec->events = role_fd(role, "events");
	spec->gateway_keys = role_fd(role, "gateway.keys");
	for (unsigned int i = 0; i < spec->config.api_listen.n; i++) {
		snprintf(name, sizeof(name), "listen.api.%u", i);
		spec->listeners[i] = role_fd(role, name);
		if (spec->listeners[i] < 0)
			return err_set(err, -ENOENT, ERR_INTERNAL, "no descriptor %s", name);
		spec->n_listeners++;
	}
	for (unsigned int i = 0; i < MIN(spec->config.edge_workers, EDGES_MAX); i++) {
		snprintf(name, sizeof(name), "peer.edge.%u", i);
		spec->edges[i] = role_fd(role, name);
	}
	spec->n_edges = MIN(spec->config.edge_workers, EDGES_MAX);
	if (spec->state_dir < 0)
		return err_set(err, -ENOENT, ERR_INTERNAL, "no state directory was handed over");
	return 0;
}

static int run(struct err *err)
{
	struct api_spec spec = { .state_dir = -EBADF };
	struct role *role = NULL;
	struct api *api = NULL;
	uv_loop_t *loop = uv_default_loop();
	int r = role_boot(&role, err);

	if (r == 0)
		r = take_fds(role, &spec, err);
	role_boot_done(role);
	if (r < 0)
		return r;
	log_open("api", (enum log_level)spec.config.log_level);
	r = api_start(loop, &spec, &api, err);
	if (r == 0)
		r = role_confine(syscalls, err);
	if (r < 0)
		return r;
	api->on_stop = stop;
	api_begin(api);
	return uv_run(loop, UV_RUN_DEFAULT);
}

int main(void)
{
	struct err err = { 0 };

	log_open("api", LOG_INFO);
	fault_open(FAULT_DIR, "api");
	umask(0077); /* the store holds what clients gave us */
	signal(SIGPIPE, SIG_IGN);
	if (run(&err) < 0) {
		log_event(LOG_ERROR, "api.start", "text=%s", log_q(str_c(err.text)));
		return 1;
	}
	return 0;
}
