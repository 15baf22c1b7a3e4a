/*
 * GET …/denials: what was refused lately, newest first; with follow=true one line per refusal as
 * it happens, oldest of the kept ones first, and a heartbeat every 5 s. Names of addresses come
 * from the edge, asked for once per answer and, while following, at most every two seconds.
 */
#include "api/box.h"
#include "api/native/native.h"
#include "api/peers.h"
#include "base/clock.h"

#define HEARTBEAT_MS 5000u
#define LEARNED_AGE  (2 * NS_PER_SEC)
#define QUEUE_MAX    256u

struct watch {
	struct follower follower;
	struct req *q;
	struct box *box;
	struct learned_call *call;
	struct tick *tick;
	struct buf learned;
	uint64_t learned_at;
	uint32_t limit;
	bool follow, full; /* full: the client reads slowly; lines are dropped and counted */
	uint64_t dropped;
	struct denial queue[QUEUE_MAX]; /* waiting for names; their texts are copies */
	uint32_t queued;
};

static void watch_free(struct watch *w)
{
	learned_forget(w->call);
	tick_free(w->tick);
	if (w->follow)
		LIST_REMOVE(&w->follower, next);
	for (uint32_t i = 0; i < w->queued; i++)
		free(w->queue[i].name);
	buf_done(&w->learned);
	free(w);
}

static void gone(struct req *q)
{
	watch_free(q->state);
}

/* --- once --- */

static void reply_list(struct watch *w)
{
	struct req *q = w->q;
	struct box *b = q->box;
	const struct denial *d;
	struct answer a;

	answer_begin(&a, 64u << 20);
	jw_obj(&a.w, "data");
	jw_arr(&a.w, "denials");
	for (uint32_t i = 0; i < w->limit && (d = denials_at(&b->denials, i)); i++) {
		jw_obj(&a.w, NULL);
		denial_write(b, d, buf_str(&w->learned), &a.w);
		jw_end(&a.w);
	}
	jw_arr_end(&a.w);
	{
		struct weir_counters sum;
		uint64_t kernel = b->in_kernel && api_counters(q->api, b->row.slot, &sum) == 0 ?
			sum.events_suppressed :
			0;

		jw_u64(&a.w, "suppressed", b->denials.suppressed + kernel);
	}
	jw_end(&a.w);
	watch_free(w);
	reply_send(q, 200, &a);
}

/* --- follow --- */

static void send_line(struct watch *w, const struct denial *d)
{
	auto_buf struct buf out = BUF_MAX(1u << 20);
	struct jw jw = JW(&out);

	if (w->full) {
		w->dropped++;
		return;
	}
	jw_obj(&jw, NULL);
	denial_write(w->box, d, buf_str(&w->learned), &jw);
	jw_end(&jw);
	buf_add(&out, "\n", 1);
	if (!buf_failed(&out) && http_write(w->q->h, buf_str(&out)) == 0)
		w->full = true;
}

static void on_drain(struct http *h, void *arg)
{
	struct watch *w = arg;
	char line[64];
	int n;

	w->full = false;
	if (!w->dropped)
		return;
	n = snprintf(line, sizeof(line), "{\"suppressed\":%" PRIu64 "}\n", w->dropped);
	w->dropped = 0;
	http_write(h, str_n(line, (size_t)n));
}

static void on_heartbeat(void *arg)
{
	struct watch *w = arg;

	http_write(w->q->h, STR("{\"hb\":true}\n"));
}

static void flush_queue(struct watch *w)
{
	for (uint32_t i = 0; i < w->queued; i++) {
		send_line(w, &w->queue[i]);
		free(w->queue[i].name);
	}
	w->queued = 0;
}

static void on_learned(struct str lines, void *arg);

static void on_denial(struct follower *f, const struct denial *d)
{
	struct watch *w = container_of(f, struct watch, follower);

	if (!w->call && clock_mono_ns() - w->learned_at < LEARNED_AGE) {
		send_line(w, d);
		return;
	}
	if (w->queued == QUEUE_MAX) {
		w->dropped++;
		return;
	}
	w->queue[w->queued] = *d;
	w->queue[w->queued++].name = d->name ? strdup(d->name) : NULL;
	if (!w->call) {
		/* NULL: there was no edge to ask, and the queue is flushed already. */
		w->call = edges_learned(w->q->api, w->box->row.slot, on_learned, w);
	}
}

static void on_box_gone(struct follower *f)
{
	struct watch *w = container_of(f, struct watch, follower);
	struct req *q = w->q;

	w->follow = false; /* taken off the list already */
	q->on_gone = NULL;
	watch_free(w);
	req_end(q);
}

static void start_follow(struct watch *w)
{
	struct req *q = w->q;

	w->follow = true;
	http_on_drain(q->h, on_drain, w);
	http_start(q->h, 200, "application/x-ndjson", -1);
	for (uint32_t i = MIN(w->limit, w->box->denials.n); i > 0; i--)
		send_line(w, denials_at(&w->box->denials, i - 1));
	w->follower.on_denial = on_denial;
	w->follower.on_gone = on_box_gone;
	LIST_INSERT_HEAD(&w->box->denials.followers, &w->follower, next);
	w->tick = tick_new(q->api->loop, HEARTBEAT_MS, HEARTBEAT_MS, on_heartbeat, w);
}

static void on_learned(struct str lines, void *arg)
{
	struct watch *w = arg;

	w->call = NULL;
	buf_reset(&w->learned);
	buf_add_str(&w->learned, lines);
	w->learned_at = clock_mono_ns();
	if (w->follow) {
		flush_queue(w);
	} else {
		w->q->on_gone = NULL;
		reply_list(w);
	}
}

void native_denials(struct req *q)
{
	struct learned_call *call;
	uint32_t limit, offset;
	bool follow = false;
	struct watch *w;
	struct err err;
	int r = req_page(q, &limit, &offset, &err);

	if (r == 0)
		r = req_query_bool(q, "follow", &follow, &err);
	if (r == 0 && !q->box)
		r = err_field(&err, -EBUSY, ERR_CONFLICT, "status", "sandbox is %s",
			life_state_name(q->row->state));
	w = r == 0 ? calloc(1, sizeof(*w)) : NULL;
	if (r == 0 && !w)
		r = err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	w->q = q;
	w->box = q->box;
	w->limit = limit;
	w->learned = BUF_MAX(1u << 20);
	q->state = w;
	q->on_gone = gone;
	if (follow) {
		/* The head leaves at once; names come with the first refusal. */
		start_follow(w);
		return;
	}
	call = edges_learned(q->api, q->row->slot, on_learned, w);
	if (call)
		w->call = call;
}
