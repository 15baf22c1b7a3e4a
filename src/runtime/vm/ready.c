/* Machines that stand ready: see the header. */
#include <sys/epoll.h>
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "runtime/image.h"
#include "runtime/vm/qmp.h"
#include "runtime/vm/vm.h"

uint64_t ready_mib(const struct runtime *rt)
{
	uint64_t sum = 0;

	for (const struct runtime_parked *p = rt->parked; p; p = p->next)
		if (p->starter.stands && !p->unwanted)
			sum += p->seat.mem_mib + OVERHEAD_MIB;
	return sum;
}

uint64_t ready_count(const struct runtime *rt)
{
	uint64_t n = 0;

	for (const struct runtime_parked *p = rt->parked; p; p = p->next)
		n += p->starter.stands && p->starter.ready && !p->unwanted;
	return n;
}

static int key_for(const struct runtime *rt, const struct runtime_seat *seat, char ret[WARM_KEY_MAX])
{
	struct vm_seat s = { .plan = seat->plan };
	int r = vm_fill_image(rt, seat->image, &s, NULL);

	if (r < 0)
		return r;
	vm_fill_size(rt, seat, &s);
	warm_key(&s, ret);
	return 0;
}

bool vm_fits(const struct runtime_parked *p, const struct runtime_seat *seat)
{
	char key[WARM_KEY_MAX];

	return p->starter.stands && p->starter.ready && !p->unwanted && key_for(p->rt, seat, key) == 0 &&
	       !strcmp(p->key, key);
}

bool vm_may_stand(const struct runtime *rt, const struct runtime_seat *seat)
{
	const uint32_t mib = seat->mem_mib + OVERHEAD_MIB;
	char key[WARM_KEY_MAX];

	return key_for(rt, seat, key) == 0 && warms_have(&rt->warms, key) &&
	       ready_mib(rt) + warms_mib(&rt->warms) + mib <= rt->warms.limit_mib &&
	       vm_has_room(rt, seat->mem_mib);
}

int ready_go(struct runtime_parked *p, struct err *err)
{
	int r = p->starter.stands ? qmp_go(p->starter.word, err) : 0;

	if (p->starter.stands)
		FAULT("host.ready.go");
	return r;
}

void ready_taken(struct runtime_box *box, struct runtime_parked *p)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = p->starter.word };

	box->word = take_fd(p->starter.word);
	if (box->word >= 0 && epoll_ctl(box->rt->warms.news, EPOLL_CTL_ADD, box->word, &ev) < 0)
		log_event(LOG_WARN, "vm.ready", "sandbox=%s error=\"%s\"", box->id, strerror(errno));
}

void ready_answered(struct runtime *rt, int fd)
{
	epoll_ctl(rt->warms.news, EPOLL_CTL_DEL, fd, NULL);
	for (struct runtime_box *box = rt->boxes; box; box = box->next)
		if (box->word == fd)
			box->word = fd_close(box->word);
}

/* It is new ones that are put in front. */
bool ready_shrink(struct runtime *rt)
{
	struct runtime_parked *oldest = NULL;

	for (struct runtime_parked *p = rt->parked; p; p = p->next)
		if (p->starter.stands && !p->unwanted)
			oldest = p;
	if (!oldest)
		return false;
	oldest->unwanted = true;
	vm_starter_kill(&oldest->starter);
	return true;
}
