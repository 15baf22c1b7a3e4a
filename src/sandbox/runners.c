/* The runtimes of this machine: see the header. */
#include "sandbox/daemon.h"

static const struct runtime_ops *const all[RUNNERS] = {
	[RUNNER_POOLED] = &runtime_container,
	[RUNNER_VM] = &runtime_vm,
};

int runners_open(struct daemon *d, struct err *err)
{
	const struct config *c = &d->cfg;
	char agent[600], guest[600], rootfs[600];
	struct runtime_env env = { .name = c->daemon_name,
		.state_dir = d->path.state,
		.run_dir = d->path.run,
		.image_dir = d->path.images,
		.agent_path = agent,
		.guest_path = guest,
		.rootfs_path = rootfs,
		.cgroup_root = c->cgroup_root[0] ? c->cgroup_root : c->daemon_name,
		.disk_backend = c->disk_backend,
		.accel = c->vm_accel,
		.warm_mib = c->vm_warm_mib,
		.fork_mib = c->vm_fork_mib,
		.uid_base = c->uid_base };

	daemon_program("weir-agent", agent, sizeof(agent)); /* absent: the runtime says so */
	daemon_program("weir-guest", guest, sizeof(guest));
	daemon_program("weir-rootfs", rootfs, sizeof(rootfs));
	for (size_t i = 0; i < RUNNERS; i++) {
		struct runner *run = &d->runners[i];
		int r;

		run->ops = all[i];
		r = run->ops->open(&env, &run->rt, err);
		if (r < 0) {
			runners_close(d);
			return r;
		}
		r = run->ops->able ? run->ops->able(run->rt, &run->why) : 0;
		run->able = r == 0;
		if (r < 0 && !strcmp(c->runtime_default, run->ops->name)) {
			*err = run->why;
			runners_close(d);
			return err_wrap(err, r, "runtime.default = %s", run->ops->name);
		}
	}
	return 0;
}

static void on_news(uv_poll_t *poll, int status, int events)
{
	struct runner *run = poll->data;

	run->ops->news(run->rt);
	run->heard(run->d);
}

int runners_watch(struct daemon *d, void (*heard)(struct daemon *d), struct err *err)
{
	for (size_t i = 0; i < RUNNERS; i++) {
		struct runner *run = &d->runners[i];
		int fd = run->rt && run->ops->news_fd ? run->ops->news_fd(run->rt) : -EBADF;
		int r = fd < 0 ? 0 : uv_poll_init(&d->loop, &run->news, fd);

		if (fd < 0)
			continue;
		if (r < 0)
			return err_sys(err, r, "watch runtime %s", run->ops->name);
		run->d = d;
		run->heard = heard;
		run->news.data = run;
		uv_poll_start(&run->news, UV_READABLE, on_news);
	}
	return 0;
}

void runners_unwatch(struct daemon *d)
{
	for (size_t i = 0; i < RUNNERS; i++)
		if (d->runners[i].news.data)
			uv_close((uv_handle_t *)&d->runners[i].news, NULL);
}

void runners_close(struct daemon *d)
{
	for (size_t i = RUNNERS; i-- > 0;)
		if (d->runners[i].rt)
			d->runners[i].ops->close(take_ptr(d->runners[i].rt));
}

const struct runner *runner_known(const struct daemon *d, const char *name)
{
	for (size_t i = 0; i < RUNNERS; i++)
		if (d->runners[i].rt && !strcmp(d->runners[i].ops->name, name))
			return &d->runners[i];
	return NULL;
}

const struct runner *runner_find(const struct daemon *d, const char *name, struct err *err)
{
	const struct runner *run = name[0] ? runner_known(d, name) : &d->runners[RUNNER_POOLED];

	if (run && run->able)
		return run;
	if (run)
		err_field(err, -ENOSYS, ERR_UNSUPPORTED, "runtime",
			"runtime %s is not available here: %s", name, run->why.text);
	else
		err_field(err, -ENOSYS, ERR_UNSUPPORTED, "runtime",
			"there is no runtime \"%s\" here", name);
	return NULL;
}

/* The names of the able, with spaces between. */
static void names(const struct daemon *d, char *ret, size_t size)
{
	size_t n = 0;

	ret[0] = '\0';
	for (size_t i = 0; i < RUNNERS && n < size; i++)
		if (d->runners[i].able)
			n += (size_t)snprintf(
				ret + n, size - n, "%s%s", n ? " " : "", d->runners[i].ops->name);
}

void runners_tell(const struct daemon *d, struct ipc_host_info *ret)
{
	const struct runner *vm = &d->runners[RUNNER_VM];
	const struct runtime_ops *preferred = d->runners[RUNNER_POOLED].ops;

	names(d, ret->runtimes, sizeof(ret->runtimes));
	if (!vm->able)
		snprintf(ret->vm, sizeof(ret->vm), "%s", vm->why.text);
	else if (vm->ops->about(vm->rt, ret->vm, sizeof(ret->vm)))
		preferred = vm->ops;
	snprintf(ret->preferred, sizeof(ret->preferred), "%s", preferred->name);
}

void runners_tally(const struct daemon *d, struct ipc_machines *ret)
{
	const struct runner *vm = &d->runners[RUNNER_VM];

	vm->ops->tally(vm->rt, ret);
}

int runners_drop_layer(struct daemon *d, const char *id, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < RUNNERS; i++)
		if (d->runners[i].rt && r == 0)
			r = d->runners[i].ops->drop_layer(d->runners[i].rt, id, err);
	return r;
}

void runners_sweep(struct daemon *d)
{
	for (size_t i = 0; i < RUNNERS; i++)
		if (d->runners[i].rt)
			d->runners[i].ops->sweep(d->runners[i].rt);
}
