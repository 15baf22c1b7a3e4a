/* Copies of machines that run: see the header. */
#include <fcntl.h>
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "runtime/vm/memory.h"
#include "runtime/vm/vm.h"

/* What only the making needs. */
static void end_work(struct vm_copy *c)
{
	int *const fds[] = { &c->work.memory, &c->what.mem, &c->what.pagemap, &c->what.maps, &c->what.disk,
		&c->what.disk_copy, &c->what.devices, &c->what.devices_qemu };

	hand_free(take_ptr(c->hand));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		*fds[i] = fd_close(*fds[i]);
}

void vm_copy_drop(struct runtime_box *box)
{
	struct vm_copy *c = take_ptr(box->copy);
	struct vm_kit *kit = &box->rt->kit;

	if (!c)
		return;
	end_work(c);
	fd_close(c->memory);
	fd_close(c->state);
	if (c->cgroup[0]) /* else a fork has them */
		cgroup_remove(kit->cgroups, c->cgroup, NULL);
	if (c->layer[0])
		layer_discard(kit->layers, c->layer, NULL);
	free(c);
}

int vm_may_copy(struct runtime_box *box, struct err *err)
{
	const int none = -EBADF;
	struct vm_copy *c;
	struct vm_seat names;
	int r;

	vm_copy_drop(box); /* that nobody came for */
	r = vm_check_memory(box->rt, box->known.mem_mib, err);
	c = r < 0 ? NULL : calloc(1, sizeof(*c));
	if (!c)
		return r < 0 ? r : err_sys(err, -ENOMEM, "a copy");
	c->memory = c->state = c->work.memory = none;
	c->what = (struct hand_copy){ none, none, none, none, none, none, none, none, 0 };
	vm_new_names(&names);
	box->copy = c;
	r = cgroup_make(box->rt->kit.cgroups, names.cgroup, err);
	if (r < 0) {
		vm_copy_drop(box);
		return r;
	}
	memcpy(c->cgroup, names.cgroup, sizeof(c->cgroup));
	memcpy(c->layer, names.layer, sizeof(c->layer));
	box->copied = true;
	return 0;
}

static int open_proc(const struct runtime_box *box, const char *name, int *ret, struct err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", box->known.pid, name);
	*ret = open(path, O_RDONLY | O_CLOEXEC);
	return *ret < 0 ? err_sys(err, -errno, "open %s of QEMU", name) : 0;
}

/* QEMU opens what it is handed by a name, and insists on how it was opened. */
static int for_writing(int fd)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_all(const struct runtime_box *box, struct vm_copy *c, struct err *err)
{
	struct layers *layers = box->rt->kit.layers;
	int r = c->work.memory = memory_of(box->known.pid, box->known.mem_mib, err);

	r = r < 0 ? r : (c->memory = memory_new(box->known.mem_mib, err));
	r = r < 0 ? r : (c->state = memory_new(0, err));
	r = r < 0 ? r : (c->what.devices = memory_new(0, err));
	if (r >= 0 && (r = c->what.devices_qemu = for_writing(c->what.devices)) < 0)
		err_sys(err, r, "make a machine's devices");
	if (r >= 0 && box->clone) {
		r = open_proc(box, "mem", &c->what.mem, err);
		r = r < 0 ? r : open_proc(box, "pagemap", &c->what.pagemap, err);
		r = r < 0 ? r : open_proc(box, "maps", &c->what.maps, err);
	}
	r = r < 0 ? r : (c->what.disk = layer_image(layers, box->id, err));
	r = r < 0 ? r : (c->what.disk_copy = layer_blank(layers, c->layer, err));
	return MIN(r, 0);
}

int vm_copy(struct runtime_box *box, struct err *err)
{
	struct vm_copy *c = box->copy;
	struct hand_work *w = &c->work;
	int r = open_all(box, c, err), memory = w->memory;

	if (r < 0)
		return err_wrap(err, r, "copy %s", box->id);
	c->what.memory = c->memory;
	c->what.bytes = (uint64_t)box->known.mem_mib << 20;
	*w = vm_hand_for(box, HAND_COPY, -EBADF, -EBADF, &c->head);
	w->memory = memory;
	w->state = c->state;
	w->group = c->cgroup;
	w->copy = &c->what;
	c->hand = hand_new();
	r = c->hand ? hand_begin(c->hand, w, err) : err_sys(err, -ENOMEM, "a hand");
	FAULT("host.copy.begun");
	return r < 0 ? err_wrap(err, r, "copy %s", box->id) : 0;
}

static void go_on(struct runtime_box *box)
{
	const struct hand_work w = vm_hand_for(box, HAND_GO, -EBADF, -EBADF, NULL);
	struct err err = { .code = 0 };

	if (hand_run(&w, &err) < 0)
		log_event(LOG_WARN, "vm.copy", "sandbox=%s what=stopped error=\"%s\"", box->id, err.text);
}

int vm_copy_rest(struct runtime_box *box, struct err *err)
{
	struct vm_copy *c = box->copy;
	int r = c && c->hand ? hand_end(c->hand, err)
			     : err_set(err, -ENOENT, ERR_CONFLICT, "%s is not being copied", box->id);

	if (r < 0)
		go_on(box);
	FAULT("host.copy.done");
	box->copied = false;
	if (r < 0)
		return err_wrap(err, r, "copy %s", box->id);
	end_work(c);
	c->head.made = box->made;
	c->head.memory = (uint64_t)box->known.mem_mib << 20;
	c->whole = true;
	return 0;
}

void vm_copy_interrupted(struct runtime_box *box)
{
	if (box->copied && !box->asleep && box->known.pidfd >= 0)
		go_on(box);
	box->copied = false;
}
