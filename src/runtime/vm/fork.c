/*
 * Forks: machines that begin as what another was paused as.
 *
 * The other one's file and disk are only read. Where its memory is apart in the file, all its forks are
 * clones of one template (template.h); where it is in the stream, each loads the stream. A fork that is
 * to be paused has a copy of the file, and no process. Of one that runs there is a copy (copy.h), which
 * one fork takes over as it is.
 */
#include <fcntl.h>
#include "base/fd.h"
#include "runtime/vm/memory.h"
#include "runtime/vm/vm.h"

void vm_fork_fds_done(struct vm_fork_fds *fds)
{
	fds->file = fd_close(fds->file);
	fds->memory = fd_close(fds->memory);
	fds->state = fd_close(fds->state);
}

bool vm_is_forked(const struct runtime *rt, const char *id)
{
	for (const struct runtime_parked *p = rt->parked; p; p = p->next)
		if (!strcmp(p->from, id) && !p->starter.ready)
			return true;
	return false;
}

static struct runtime_box *find_source(const struct runtime *rt, const char *id)
{
	struct runtime_box *box = rt->boxes;

	while (box && strcmp(box->id, id) != 0)
		box = box->next;
	return box;
}

static bool has_copy(const struct runtime_box *box)
{
	return box && box->copy && box->copy->whole;
}

bool vm_is_copied(const struct runtime *rt, const char *id)
{
	return id && has_copy(find_source(rt, id));
}

/* What cannot fail any more is the caller's from here on: the copy's names and what it holds. */
static int take_copy(struct runtime_box *box, const struct runtime_seat *from, struct runtime_parked *p,
	struct vm_fork_fds *fds, struct err *err)
{
	struct vm_copy *c = box->copy;
	struct vm_seat *s = &p->seat;

	if (from->paused)
		return err_set(err, -EINVAL, ERR_CONFLICT, "a fork of one that runs begins running");
	p->head = c->head;
	fds->memory = take_fd(c->memory);
	fds->state = take_fd(c->state);
	memcpy(s->cgroup, c->cgroup, sizeof(s->cgroup));
	memcpy(s->layer, c->layer, sizeof(s->layer));
	c->cgroup[0] = c->layer[0] = '\0';
	s->copied = true;
	vm_copy_drop(box);
	return 0;
}

static int take_template(struct runtime *rt, struct runtime_parked *p, struct vm_fork_fds *fds,
	struct err *err)
{
	struct template *t;
	int r = template_get(&rt->templates, &p->head, &t, err);

	if (r < 0)
		return r;
	fds->memory = fcntl(t->memory, F_DUPFD_CLOEXEC, 3);
	fds->state = fcntl(t->state, F_DUPFD_CLOEXEC, 3);
	if (fds->memory < 0 || fds->state < 0)
		return err_sys(err, -errno, "take a template");
	return cgroup_need(rt->kit.cgroups, TEMPLATES_GROUP, err);
}

int vm_fork_seat(struct runtime *rt, const struct runtime_seat *from, struct runtime_parked *p,
	struct vm_fork_fds *fds, struct err *err)
{
	struct runtime_box *box = find_source(rt, from->from);
	struct vm_seat *s = &p->seat;
	int r;

	if (has_copy(box))
		r = take_copy(box, from, p, fds, err);
	else if (box && box->asleep && !box->promised)
		r = fds->file = snapshot_open(rt->snapshots, from->from, &p->head, err);
	else
		r = err_set(err, -EBUSY, ERR_CONFLICT, "%s is not paused", from->from);
	if (r >= 0 && p->head.made.mem_mib != from->mem_mib)
		r = err_set(err, -EINVAL, ERR_CONFLICT, "a fork has the memory of what it is forked from");
	r = r < 0 ? r : vm_check_accel(rt, &p->head.made, err);
	if (r < 0)
		return r;
	snprintf(p->from, sizeof(p->from), "%s", from->from);
	memcpy(s->image, p->head.made.image, sizeof(s->image));
	memcpy(s->digest, p->head.made.digest, sizeof(s->digest));
	memcpy(s->bundle, p->head.made.bundle, sizeof(s->bundle));
	memcpy(s->accel, p->head.made.accel, sizeof(s->accel));
	s->from = p->from;
	s->head = &p->head;
	s->dir = rt->snapshots;
	s->asleep = from->paused;
	s->clone = p->head.memory != 0 && !from->paused && !s->copied;
	if (s->copied)
		r = 0;
	else if (s->clone)
		r = take_template(rt, p, fds, err);
	else if (!from->paused)
		r = fds->memory = memory_new(from->mem_mib, err);
	s->file = fds->file;
	s->memory = fds->memory;
	s->state = fds->state;
	return MIN(r, 0);
}
