/* Image builds: see the header. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/builds.h"
#include "sandbox/child.h"
#include "sandbox/daemon.h"
#include "sandbox/events.h"
#include "sandbox/spawn.h"

struct build {
	struct builds *in;
	struct child *child; /* NULL: free */
	char name[IPC_NAME_LEN];
};

struct builds {
	struct daemon *d;
	struct build build[BUILDS_MAX];
};

int builds_new(struct daemon *d, struct builds **ret, struct err *err)
{
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return err_sys(err, -ENOMEM, "builds");
	(*ret)->d = d;
	return 0;
}

static bool name_ok(const char *name)
{
	if (!*name || *name == '.' || *name == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._:-") == strlen(name);
}

static void on_exit_of(struct child *c, int status, void *arg)
{
	struct build *x = arg;
	int32_t code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);

	x->child = NULL;
	log_event(code ? LOG_WARN : LOG_INFO, "build.end", "image=%s status=%d", x->name, code);
	event_build(x->in->d, x->name, code);
	daemon_check_stopped(x->in->d);
}

int builds_start(struct builds *b, const char *name, int *ret_log, struct err *err)
{
	struct daemon *d = b->d;
	const char *argv[] = { "weir-build", name, "--store", d->path.images, NULL };
	struct build *x = NULL;
	char path[600];
	int p[2], r;
	pid_t pid;

	if (!name_ok(name))
		return err_field(
			err, -EINVAL, ERR_INVALID, "name", "not a name of the image catalogue");
	for (unsigned int i = 0; i < BUILDS_MAX; i++) {
		if (b->build[i].child && strcmp(b->build[i].name, name) == 0)
			return err_set(
				err, -EBUSY, ERR_CONFLICT, "%s is being built already", name);
		if (!b->build[i].child)
			x = &b->build[i];
	}
	if (!x)
		return err_set(
			err, -EBUSY, ERR_CAPACITY, "%d images are being built already", BUILDS_MAX);
	r = daemon_program("weir-build", path, sizeof(path));
	if (r < 0)
		return err_sys(err, r, "find weir-build");
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "pipe");
	auto_fd int log_r = p[0], log_w = p[1];
	pid = spawn_program(&(struct spawn_as){ .path = path,
				    .argv = argv,
				    .daemon = d->cfg.daemon_name,
				    .netns = -1,
				    .chan = -1,
				    .output = log_w,
				    .pass_env = "WEIR_RECIPES" },
		err);
	if (pid < 0)
		return pid;
	x->in = b;
	snprintf(x->name, sizeof(x->name), "%s", name);
	r = child_watch(&d->loop, pid, on_exit_of, x, &x->child);
	if (r < 0)
		return err_sys(err, r, "watch weir-build");
	log_event(LOG_INFO, "build.start", "image=%s pid=%d", name, (int)pid);
	*ret_log = take_fd(log_r);
	return 0;
}

void builds_stop(struct builds *b)
{
	for (unsigned int i = 0; i < BUILDS_MAX; i++)
		child_kill(b->build[i].child, SIGTERM);
}

bool builds_ended(const struct builds *b)
{
	for (unsigned int i = 0; i < BUILDS_MAX; i++)
		if (b->build[i].child)
			return false;
	return true;
}

void builds_free(struct builds *b)
{
	free(b);
}
