/* Adoption and sweeping: see the header. */
#include "base/log.h"
#include "base/table.h"
#include "host/link.h"
#include "sandbox/adopt.h"
#include "sandbox/box.h"
#include "sandbox/daemon.h"
#include "sandbox/net.h"

#define GROUP_STRAY 0x57455354u

struct adoption {
	struct daemon *d;
	unsigned int adopted, dead, dropped;
	bool owned[WEIR_SLOTS_MAX + 1];
	struct noted_link *links, *strays; /* of adopted sandboxes, of nobody; by ifindex */
};

struct noted_link {
	UT_hash_handle hh;
	uint32_t ifindex;
};

static void drop_record(struct adoption *a, const char *id, const char *why)
{
	log_event(LOG_WARN, "adopt.drop", "sandbox=%s why=\"%s\"", id, why);
	record_remove(a->d->records_dir, id);
	a->dropped++;
}

static int adopt_one(const char *id, void *arg)
{
	struct adoption *a = arg;
	struct daemon *d = a->d;
	auto_free struct record *rec = malloc(sizeof(*rec));
	struct err err = { .code = 0 };
	int r;

	if (!rec)
		return -ENOMEM;
	if (record_load(d->records_dir, id, rec, &err) < 0) {
		drop_record(a, id, err.text);
		return 0;
	}
	if (rec->boot != d->boot) {
		drop_record(a, id, "the machine was restarted");
		return 0;
	}
	if (!rec->dead && link_index(&d->router, rec->link) != (int)rec->ifindex) {
		drop_record(a, id, "its link is gone");
		return 0;
	}
	r = box_adopt(d->boxes, rec, &err);
	if (r == 0)
		a->adopted++;
	else if (r == -ESRCH)
		a->dead++;
	else if (r == -ENOMEM)
		return r; /* no reason to give a sandbox up: start again */
	else
		drop_record(a, id, err.text);
	return 0;
}

static int noted(struct noted_link *l)
{
	if (table_has(l))
		return 0;
	free(l);
	return -ENOMEM;
}

static int note_owned(struct box *x, void *arg)
{
	struct adoption *a = arg;
	struct ipc_sandbox s;
	struct noted_link *l;

	box_describe(x, &s);
	if (s.state == IPC_RUN_DEAD)
		return 0; /* its link goes now, its slot stays out of use */
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	a->owned[s.slot] = true;
	l->ifindex = s.ifindex;
	HASH_ADD(hh, a->links, ifindex, sizeof(l->ifindex), l);
	return noted(l);
}

/* One of ours is "w" and digits; the uplink and lo are not. */
static int note_stray(const struct link_info *i, void *arg)
{
	struct adoption *a = arg;
	struct noted_link *l;
	uint64_t n;

	if (i->name[0] != 'w' || str_u64(str_c(i->name + 1), UINT64_MAX, &n) < 0)
		return 0;
	HASH_FIND(hh, a->links, &i->ifindex, sizeof(i->ifindex), l);
	if (l)
		return 0;
	/* Noted only: the socket is in the middle of its dump. */
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->ifindex = i->ifindex;
	HASH_ADD(hh, a->strays, ifindex, sizeof(l->ifindex), l);
	return noted(l);
}

/* One deletion for all: each would wait for RCU. */
static int delete_strays(struct adoption *a, struct err *err)
{
	struct noted_link *l, *next;
	int r = 0;

	HASH_ITER(hh, a->strays, l, next) {
		if (r == 0)
			r = link_set_group(&a->d->router, l->ifindex, GROUP_STRAY, err);
	}
	return r == 0 && a->strays ? link_del_group(&a->d->router, GROUP_STRAY, err) : r;
}

static void forget(struct noted_link **set)
{
	struct noted_link *l, *next;

	HASH_ITER(hh, *set, l, next) {
		HASH_DEL(*set, l);
		free(l);
	}
}

static bool is_owned(uint32_t number, void *arg)
{
	return ((struct adoption *)arg)->owned[number];
}

int adopt_all(struct daemon *d, struct err *err)
{
	auto_free struct adoption *a = calloc(1, sizeof(*a));
	unsigned int slots = 0, strays;
	int r;

	if (!a)
		return err_sys(err, -ENOMEM, "adoption");
	a->d = d;
	r = record_each(d->records_dir, adopt_one, a);
	if (r == 0)
		r = boxes_each(d->boxes, note_owned, a);
	if (r == 0)
		r = link_each(&d->router, note_stray, a);
	strays = HASH_COUNT(a->strays);
	if (r == 0)
		r = delete_strays(a, err);
	if (r == 0)
		slots = net_sweep(d, is_owned, a);
	forget(&a->links);
	forget(&a->strays);
	if (r < 0)
		return err_sys(err, r, "adopt the sandboxes of the last run");
	runners_sweep(d);
	log_event(LOG_INFO, "adopt.done",
		"running=%u dead=%u dropped=%u stray_links=%u stray_slots=%u", a->adopted, a->dead,
		a->dropped, strays, slots);
	return 0;
}
