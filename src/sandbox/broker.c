/*
 * The table of requests, and one handler each: see the header.
 *
 * A handler answers itself and returns 0, or returns a negative errno with a sentence in err, which
 * becomes the answer. Sizes are checked by the table, terminators of text by the handlers, through
 * the one function text_ok. Nothing here blocks on a role or on a sandbox.
 */
#include <sys/sysinfo.h>
#include "base/fd.h"
#include "base/log.h"
#include "runtime/image.h"
#include "sandbox/box.h"
#include "sandbox/broker.h"
#include "sandbox/builds.h"
#include "sandbox/burst.h"
#include "sandbox/daemon.h"
#include "sandbox/net.h"
#include "sandbox/slots.h"

#define UPSTREAM_QUEUED_MAX 64
#define IMAGES_MAX 200 /* what one message holds; a catalogue has a handful */

struct ask {
	struct daemon *d;
	const struct role_peer *who;
	struct chan_msg *m;
};

static int answer(
	const struct ask *a, const void *payload, size_t n, const int *fds, unsigned int n_fds)
{
	return chan_reply(a->who->chan, a->m->serial, 0, payload, n, fds, n_fds);
}

static int text_ok(const char *text, size_t size, struct err *err)
{
	return ipc_text_ok(text, size) ? 0
				       : err_set(err, -EPROTO, ERR_INTERNAL, "unterminated text");
}
#define TEXT_OK(array, err) text_ok(array, sizeof(array), err)

static int find(const struct ask *a, const char id[IPC_ID_LEN], struct box **ret, struct err *err)
{
	int r = text_ok(id, IPC_ID_LEN, err);

	if (r < 0)
		return r;
	*ret = box_find(a->d->boxes, id);
	return *ret ? 0 : err_set(err, -ENOENT, ERR_NOT_FOUND, "no sandbox %s is here", id);
}

/* --- what is there --- */

struct listing {
	struct buf out;
	uint32_t n;
};

static int list_one(struct box *x, void *arg)
{
	struct listing *l = arg;
	struct ipc_sandbox s;

	box_describe(x, &s);
	l->n++;
	return buf_add(&l->out, &s, sizeof(s));
}

static int do_list(const struct ask *a, struct err *err)
{
	struct listing l = { .out = BUF_MAX(sizeof(struct ipc_sandbox) * (WEIR_SLOTS_MAX + 1)) };
	struct ipc_list head;
	auto_buf struct buf msg = BUF_MAX(IPC_MSG_MAX);
	auto_fd int fd = -EBADF;
	int r = boxes_each(a->d->boxes, list_one, &l);

	boxes_drop_copies(a->d->boxes); /* another api role's, if there are any */
	head.n = l.n;
	buf_add(&msg, &head, sizeof(head));
	if (r == 0 && sizeof(head) + l.out.n <= IPC_MSG_MAX) {
		buf_add_str(&msg, buf_str(&l.out));
		r = buf_failed(&msg);
	} else if (r == 0) {
		fd = memfd_sealed("list", buf_str(&l.out));
		r = MIN(fd, 0);
	}
	buf_done(&l.out);
	if (r < 0)
		return err_sys(err, r, "list sandboxes");
	return answer(a, msg.p, msg.n, &fd, fd >= 0);
}

static int do_images(const struct ask *a, struct err *err)
{
	auto_free struct image *im = calloc(IMAGES_MAX, sizeof(*im));
	auto_free struct ipc_image *out = calloc(IMAGES_MAX, sizeof(*out));
	int n;

	if (!im || !out)
		return err_sys(err, -ENOMEM, "images");
	n = image_list(a->d->path.images, im, IMAGES_MAX, err);
	for (int i = 0; i < n; i++) {
		snprintf(out[i].name, sizeof(out[i].name), "%s", im[i].name);
		snprintf(out[i].digest, sizeof(out[i].digest), "%s", im[i].digest);
		out[i].bytes = im[i].bytes;
		image_done(&im[i]);
	}
	return n < 0 ? n : answer(a, out, (size_t)n * sizeof(*out), NULL, 0);
}

static int do_info(const struct ask *a, struct err *err)
{
	struct ipc_host_info info = { .version = IPC_VERSION,
		.has_ipv6 = a->d->uplink.ipv6,
		.slots_max = a->d->uplink.slots,
		.slots_used = slots_used(a->d->slots) };
	struct sysinfo s;

	if (sysinfo(&s) == 0) {
		info.mem_total = (uint64_t)s.totalram * s.mem_unit;
		info.mem_free = (uint64_t)(s.freeram + s.bufferram) * s.mem_unit;
	}
	gethostname(info.hostname, sizeof(info.hostname) - 1);
	runners_tell(a->d, &info);
	info.n_host = net_host_addresses(a->d, info.host, IPC_HOST_ADDRS);
	return answer(a, &info, sizeof(info), NULL, 0);
}

static int do_machines(const struct ask *a, struct err *err)
{
	struct ipc_machines m;

	runners_tally(a->d, &m);
	return answer(a, &m, sizeof(m), NULL, 0);
}

/* --- sandboxes --- */

static int do_reserve(const struct ask *a, struct err *err)
{
	const struct ipc_reserve *q = (const void *)a->m->payload.p;

	if (q->n > ARRAY_SIZE(q->slots))
		return err_set(err, -EPROTO, ERR_INTERNAL, "more slots than the message holds");
	slots_reserve(a->d->slots, q->slots, q->n);
	return answer(a, NULL, 0, NULL, 0);
}

static int do_spawn(const struct ask *a, struct err *err)
{
	const struct ipc_spawn *q = (const void *)a->m->payload.p;
	int r;

	if ((r = TEXT_OK(q->id, err)) < 0 || (r = TEXT_OK(q->hostname, err)) < 0 ||
		(r = TEXT_OK(q->image, err)) < 0 || (r = TEXT_OK(q->runtime, err)) < 0 ||
		(r = TEXT_OK(q->from, err)) < 0)
		return r;
	return burst_add(a->d->burst, q, a->who->life, a->m->serial, err);
}

static int do_commit(const struct ask *a, struct err *err)
{
	const struct ipc_commit *q = (const void *)a->m->payload.p;
	auto_buf struct buf blob = BUF_MAX(POLICY_BLOB_MAX);
	auto_policy struct policy *p = NULL;
	auto_fd int fd = chan_take_fd(a->m, 0);
	struct box *x = NULL;
	int r = TEXT_OK(q->id, err);
	bool build = r == 0 && builds_has(a->d->builds, q->id);

	if (r == 0 && !build)
		r = find(a, q->id, &x, err);
	if (r == 0) {
		r = fd < 0 ? fd : memfd_read(fd, POLICY_BLOB_MAX, &blob);
		if (r < 0)
			return err_sys(err, r, "read the policy of %s", q->id);
	}
	if (r < 0 || (r = policy_decode(buf_str(&blob), &p, err)) < 0 ||
		(r = build ? builds_commit(a->d->builds, q, p, err)
			   : box_commit(x, q->slot, q->share, q->policy, p, err)) < 0)
		return r;
	return answer(a, NULL, 0, NULL, 0);
}

static int do_nets(const struct ask *a, struct err *err)
{
	const struct ipc_nets *q = (const void *)a->m->payload.p;
	struct box *x;
	int r = find(a, q->id, &x, err);

	if (r == 0)
		r = box_nets(x, q, err);
	return r < 0 ? r : answer(a, NULL, 0, NULL, 0);
}

static int do_net(const struct ask *a, struct err *err)
{
	int r = net_rules(a->d, (const void *)a->m->payload.p, err);

	return r < 0 ? r : answer(a, NULL, 0, NULL, 0);
}

static int do_ingress(const struct ask *a, struct err *err)
{
	const struct ipc_ingress *q = (const void *)a->m->payload.p;
	int fds[IPC_INGRESS_PORTS];
	unsigned int n = 0;
	struct box *x;
	int r = find(a, q->id, &x, err);

	if (r == 0)
		r = box_ingress(x, q, fds, &n, err);
	return r < 0 ? r : answer(a, NULL, 0, fds, n);
}

struct waiting { /* who waits; by life, since the api role may be another by then */
	struct daemon *d;
	uint32_t life, serial;
};

static struct waiting *waiting_new(const struct ask *a)
{
	struct waiting *w = malloc(sizeof(*w));

	if (w)
		*w = (struct waiting){ .d = a->d, .life = a->who->life, .serial = a->m->serial };
	return w;
}

static void over(const struct err *err, void *arg)
{
	struct waiting *w = arg;
	struct chan *c = roles_api(w->d->roles, w->life);

	if (c && err)
		chan_reply_err(c, w->serial, err);
	else if (c)
		chan_reply(c, w->serial, 0, NULL, 0, NULL, 0);
	free(w);
}

typedef int (*nap_fn)(struct box *x, box_done_fn done, void *arg, struct err *err);

static int do_nap(const struct ask *a, nap_fn fn, struct err *err)
{
	const struct ipc_id *q = (const void *)a->m->payload.p;
	auto_free struct waiting *w = NULL;
	struct box *x;
	int r = find(a, q->id, &x, err);

	if (r < 0)
		return r;
	w = waiting_new(a);
	if (!w)
		return err_sys(err, -ENOMEM, "wait for a sandbox");
	r = fn(x, over, w, err);
	if (r == 0)
		take_ptr(w);
	return r;
}

static int do_freeze(const struct ask *a, struct err *err)
{
	return do_nap(a, box_freeze, err);
}

static int do_thaw(const struct ask *a, struct err *err)
{
	return do_nap(a, box_thaw, err);
}

static int do_copy(const struct ask *a, struct err *err)
{
	const struct ipc_copy *q = (const void *)a->m->payload.p;
	auto_free struct waiting *w = NULL;
	struct box *x;
	int r = find(a, q->id, &x, err);

	if (r == 0 && q->step > IPC_COPY_DROP)
		r = err_set(err, -EPROTO, ERR_INTERNAL, "no such step of a copy");
	if (r < 0)
		return r;
	w = waiting_new(a);
	if (!w)
		return err_sys(err, -ENOMEM, "wait for a copy");
	r = box_copy(x, (enum ipc_copy_step)q->step, over, w, err);
	if (r == 0)
		take_ptr(w);
	return r;
}

static int do_destroy(const struct ask *a, struct err *err)
{
	const struct ipc_destroy *q = (const void *)a->m->payload.p;
	struct waiting *w;
	struct box *x;
	int r = text_ok(q->id, sizeof(q->id), err);

	if (r < 0)
		return r;
	x = box_find(a->d->boxes, q->id);
	if (!x) {
		/* Paused on disk, or from before a reboot: its layer is all there is. */
		if (!record_id_ok(q->id))
			return err_field(
				err, -EINVAL, ERR_INVALID, "id", "not the id of a sandbox");
		if (!q->keep_disk)
			r = runners_drop_layer(a->d, q->id, err);
		return r < 0 ? r : answer(a, NULL, 0, NULL, 0);
	}
	w = waiting_new(a);
	if (!w)
		return err_sys(err, -ENOMEM, "destroy");
	box_destroy(x, q->keep_disk, over, w);
	return 0;
}

static int do_stats(const struct ask *a, struct err *err)
{
	const struct ipc_id *q = (const void *)a->m->payload.p;
	struct ipc_stats s = { .mem_bytes = 0 };
	struct box *x;
	int r = find(a, q->id, &x, err);

	if (r == 0)
		r = box_stats(x, &s, err);
	return r < 0 ? r : answer(a, &s, sizeof(s), NULL, 0);
}

static int do_grow(const struct ask *a, struct err *err)
{
	const struct ipc_grow *q = (const void *)a->m->payload.p;
	auto_free struct waiting *w = NULL;
	struct box *x;
	int r = find(a, q->id, &x, err);

	if (r < 0)
		return r;
	w = waiting_new(a);
	if (!w)
		return err_sys(err, -ENOMEM, "grow");
	r = box_grow(x, q, over, w, err);
	if (r == 0)
		take_ptr(w);
	return r;
}

/* --- channels between the others --- */

static int do_pair(const struct ask *a, struct err *err)
{
	const struct ipc_edge_up *q = (const void *)a->m->payload.p;
	int r = roles_pair(a->d->roles, q->worker);

	return r < 0 ? err_sys(err, r, "channel to worker %u", q->worker)
		     : answer(a, NULL, 0, NULL, 0);
}

/* --- images, sockets --- */

static int do_build(const struct ask *a, struct err *err)
{
	const struct ipc_build *q = (const void *)a->m->payload.p;
	auto_fd int auth = chan_take_fd(a->m, 0);
	int r;

	if ((r = TEXT_OK(q->id, err)) < 0 || (r = TEXT_OK(q->name, err)) < 0 ||
		(r = TEXT_OK(q->from, err)) < 0)
		return r;
	return builds_ask(a->d->builds, q, take_fd(auth), a->who->life, a->m->serial, err);
}

static int do_image_drop(const struct ask *a, struct err *err)
{
	const struct ipc_image_drop *q = (const void *)a->m->payload.p;
	int r = TEXT_OK(q->name, err);

	return r < 0 ? r : builds_drop(a->d->builds, q->name, a->who->life, a->m->serial, err);
}

static int do_upstream(const struct ask *a, struct err *err)
{
	const struct ipc_upstream *q = (const void *)a->m->payload.p;
	const struct resolver *found = NULL;
	int fds[IPC_FDS_MAX], r = 0;
	unsigned int n = 0;

	for (unsigned int i = 0; i < a->d->resolv.n; i++)
		if (a->d->resolv.r[i].in_host && ip_eq(a->d->resolv.r[i].ip, q->addr))
			found = &a->d->resolv.r[i];
	if (!found || q->count < 1 || q->count > IPC_FDS_MAX)
		return err_set(err, -EINVAL, ERR_INVALID, "not a resolver of the host's namespace");
	/* What waits to be read holds our descriptors. */
	if (chan_queued(a->who->chan) >= UPSTREAM_QUEUED_MAX)
		return err_set(err, -EBUSY, ERR_CAPACITY, "answers wait to be read");
	while (n < q->count && r >= 0) {
		r = resolv_socket(found, q->tcp);
		if (r >= 0)
			fds[n++] = r;
	}
	r = r < 0 ? err_sys(err, r, "socket towards %s", ip_text(q->addr).s)
		  : answer(a, NULL, 0, fds, n);
	while (n)
		fd_close(fds[--n]);
	return r;
}

/* --- the table --- */

#define FROM_API  (1u << ROLE_API)
#define FROM_EDGE (1u << ROLE_EDGE)
#define SERVING	  DAEMON_SERVING

/* clang-format off */
static const struct broker_op {
	uint16_t type;
	unsigned int from; /* bits of enum role_kind */
	enum daemon_phase phase;
	size_t size;
	unsigned int fds;
	int (*fn)(const struct ask *a, struct err *err);
} ops[] = {
	/* request, from, during, payload, descriptors, handler */
	{ IPC_HOST_LIST,     FROM_API, SERVING, 0,                           0, do_list },
	{ IPC_HOST_RESERVE,  FROM_API, SERVING, sizeof(struct ipc_reserve),  0, do_reserve },
	{ IPC_HOST_SPAWN,    FROM_API, SERVING, sizeof(struct ipc_spawn),    0, do_spawn },
	{ IPC_HOST_COMMIT,   FROM_API, SERVING, sizeof(struct ipc_commit),   1, do_commit },
	{ IPC_HOST_FREEZE,   FROM_API, SERVING, sizeof(struct ipc_id),       0, do_freeze },
	{ IPC_HOST_THAW,     FROM_API, SERVING, sizeof(struct ipc_id),       0, do_thaw },
	{ IPC_HOST_COPY,     FROM_API, SERVING, sizeof(struct ipc_copy),     0, do_copy },
	{ IPC_HOST_DESTROY,  FROM_API, SERVING, sizeof(struct ipc_destroy),  0, do_destroy },
	{ IPC_HOST_STATS,    FROM_API, SERVING, sizeof(struct ipc_id),       0, do_stats },
	{ IPC_HOST_GROW,     FROM_API, SERVING, sizeof(struct ipc_grow),     0, do_grow },
	{ IPC_HOST_IMAGES,   FROM_API, SERVING, 0,                           0, do_images },
	{ IPC_HOST_BUILD,    FROM_API, SERVING, sizeof(struct ipc_build),    1, do_build },
	{ IPC_HOST_INFO,     FROM_API, SERVING, 0,                           0, do_info },
	{ IPC_HOST_MACHINES, FROM_API, SERVING, 0,                           0, do_machines },
	{ IPC_HOST_NETS,     FROM_API, SERVING, sizeof(struct ipc_nets),     0, do_nets },
	{ IPC_HOST_INGRESS,  FROM_API, SERVING, sizeof(struct ipc_ingress),  0, do_ingress },
	{ IPC_HOST_NET,      FROM_API, SERVING, sizeof(struct ipc_net),      0, do_net },
	{ IPC_HOST_IMAGE_DROP, FROM_API, SERVING, sizeof(struct ipc_image_drop), 0, do_image_drop },
	{ IPC_HOST_PAIR,     FROM_API, SERVING, sizeof(struct ipc_edge_up),  0, do_pair },
	{ IPC_HOST_UPSTREAM, FROM_EDGE, SERVING, sizeof(struct ipc_upstream), 0, do_upstream },
}; /* anything else: logged, refused, peer dropped */
/* clang-format on */

static const struct broker_op *op_of(uint16_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		if (ops[i].type == type)
			return &ops[i];
	return NULL;
}

static int refuse(const struct ask *a, const char *why)
{
	struct err err;

	log_event(LOG_ERROR, "broker.refused",
		"role=%s worker=%u type=%u bytes=%zu fds=%u why=\"%s\"",
		a->who->kind == ROLE_API ? "api" : "edge", a->who->worker, a->m->type,
		a->m->payload.n, a->m->n_fds, why);
	err_set(&err, -EPROTO, ERR_INTERNAL, "%s", why);
	if (a->m->serial)
		chan_reply_err(a->who->chan, a->m->serial, &err);
	return -EPROTO;
}

int broker_msg(struct daemon *d, const struct role_peer *who, struct chan_msg *m)
{
	const struct broker_op *op = op_of(m->type);
	struct ask a = { .d = d, .who = who, .m = m };
	struct err err = { .code = 0 };
	int r;

	if (!op || !m->serial)
		return refuse(&a, "no such request");
	if (!(op->from & 1u << who->kind))
		return refuse(&a, "not this role's to ask");
	if (m->payload.n != op->size || m->n_fds != op->fds)
		return refuse(&a, "malformed request");
	if (d->phase != op->phase) {
		err_set(&err, -ESHUTDOWN, ERR_CAPACITY, "the daemon is stopping");
		chan_reply_err(who->chan, m->serial, &err);
		return 0;
	}
	r = op->fn(&a, &err);
	if (r == -EPROTO)
		return refuse(&a, err.text);
	if (r < 0) {
		if (!err.code)
			err_sys(&err, r, "request %u", op->type);
		log_event(LOG_WARN, "broker.failed", "request=%u error=\"%s\"", op->type, err.text);
		chan_reply_err(who->chan, m->serial, &err);
	}
	return 0;
}
