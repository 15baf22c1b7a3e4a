/* GET /v1/rootfs/pulls: the images that creates are waiting for; an admin sees everybody's. */
#include "api/native/native.h"
#include "api/pull.h"
#include "base/clock.h"

struct listing {
	struct answer a;
	uint32_t limit, offset;
	uint64_t total, count;
};

static void one(const struct pull_view *v, void *arg)
{
	struct listing *l = arg;
	struct jw *w = &l->a.w;

	if (l->total++ < l->offset || l->count == l->limit)
		return;
	l->count++;
	jw_obj(w, NULL);
	jw_c(w, "image", v->from);
	jw_c(w, "status", v->running ? "fetching" : "queued");
	jw_u64(w, "creates", v->creates);
	jw_c(w, "created_at", rfc3339_from(v->since_ms * NS_PER_MS).s);
	jw_end(w);
}

void native_pulls(struct req *q)
{
	struct listing l = { .total = 0 };
	struct err err;

	if (req_page(q, &l.limit, &l.offset, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	answer_begin(&l.a, 1u << 17);
	answer_page_begin(&l.a);
	pulls_each(q->api, q->who.admin ? NULL : q->who.user, one, &l);
	answer_page_end(&l.a, l.total, l.limit, l.offset, l.count);
	reply_send(q, 200, &l.a);
}
