/* GET …/counters and …/egress/versions: what the kernel counted, and which policies there were. */
#include "api/box.h"
#include "api/dialect.h"
#include "api/native/native.h"
#include "base/clock.h"

void native_counters(struct req *q)
{
	struct weir_counters n = { 0 };
	struct ingress_use use = { 0 };
	struct answer a;

	if (q->box) {
		use = ingress_sum(q->box);
		box_count(q->box);
		if (q->box->in_kernel)
			api_counters(q->api, q->row->slot, &n);
	}
	answer_begin(&a, 16384);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "id", q->row->id);
	/* Bytes are the sandbox's own, over its whole life; the rest is its slot's. */
	jw_u64(&a.w, "out_bytes", q->row->out_used);
	jw_u64(&a.w, "in_bytes", q->row->in_used);
	jw_u64(&a.w, "out_packets", n.out_packets);
	jw_u64(&a.w, "in_packets", n.in_packets);
	jw_u64(&a.w, "dns_packets", n.dns_packets);
	jw_u64(&a.w, "overlay_out_bytes", n.overlay_out_bytes);
	jw_u64(&a.w, "overlay_in_bytes", n.overlay_in_bytes);
	jw_u64(&a.w, "overlay_out_packets", n.overlay_out_packets);
	jw_u64(&a.w, "overlay_in_packets", n.overlay_in_packets);
	jw_u64(&a.w, "ingress_out_bytes", n.ingress_out_bytes);
	jw_u64(&a.w, "ingress_in_bytes", n.ingress_in_bytes);
	jw_u64(&a.w, "ingress_out_packets", n.ingress_out_packets);
	jw_u64(&a.w, "ingress_in_packets", n.ingress_in_packets);
	jw_u64(&a.w, "ingress_requests", use.requests);
	jw_u64(&a.w, "ingress_refused", use.refused);
	jw_u64(&a.w, "ingress_failed", use.failed);
	jw_u64(&a.w, "ingress_open", use.open);
	jw_obj(&a.w, "denied");
	for (unsigned int r = WEIR_R_NONE + 1; r < WEIR_R_MAX; r++)
		if (n.denied[r])
			jw_u64(&a.w, policy_reason_name((enum weir_reason)r), n.denied[r]);
	jw_end(&a.w);
	jw_u64(&a.w, "events_suppressed", n.events_suppressed);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

struct versions {
	struct answer a;
	const struct sandbox_row *row;
	uint64_t count;
};

static int write_version(const struct version_row *v, void *arg)
{
	struct versions *all = arg;
	struct jw *w = &all->a.w;

	jw_obj(w, NULL);
	jw_u64(w, "version", v->version);
	jw_u64(w, "policy_id", v->policy);
	jw_bool(w, "current", v->version == all->row->policy_version);
	jw_c(w, "at", rfc3339_from(v->at_ms * NS_PER_MS).s);
	jw_c(w, "dialect", dialect_stored_by(v->dialect));
	jw_raw(w, "egress", v->json);
	jw_end(w);
	all->count++;
	return 0;
}

void native_versions(struct req *q)
{
	struct versions all = { .row = q->row };
	uint32_t limit, offset;
	uint64_t total;
	struct err err;
	int r = req_page(q, &limit, &offset, &err);

	answer_begin(&all.a, 64u << 20);
	answer_page_begin(&all.a);
	if (r == 0)
		r = store_versions(q->api->store, q->row->id, limit, offset, write_version, &all,
			&total, &err);
	if (r < 0) {
		buf_done(&all.a.buf);
		reply_err(q, &err);
		return;
	}
	answer_page_end(&all.a, total, limit, offset, all.count);
	reply_send(q, 200, &all.a);
}
