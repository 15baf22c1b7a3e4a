/*
 * /metrics: what the sandbox's control groups count, as the host role reads them. Use of the processor
 * is what was used between two looks, SAMPLE_MS apart.
 */
#include "api/opensandbox/execd.h"
#include "api/peers.h"
#include "api/tick.h"
#include "base/clock.h"

#define SAMPLE_MS 200u
#define WATCH_MS  1000u

struct metrics {
	struct use use;
	struct req *q; /* NULL: the client has left, and the host role's answer is waited for */
	struct tick *tick;
	struct ipc_stats last;
	uint64_t last_ns; /* 0: nothing yet */
	bool watch, asked, started;
};

static void metrics_free(struct metrics *m)
{
	m->tick = tick_free(m->tick);
	box_unuse(&m->use);
	m->q = NULL;
	if (!m->asked)
		free(m);
}

static void metrics_gone(struct req *q)
{
	metrics_free(q->state);
}

static void metrics_fail(struct metrics *m, const struct err *err)
{
	bool started = m->started;
	struct req *q = m->q;

	q->on_gone = NULL;
	metrics_free(m);
	if (started)
		req_end(q);
	else
		reply_err(q, err);
}

static void metrics_bounce(struct use *u, const struct err *err)
{
	metrics_fail(container_of(u, struct metrics, use), err);
}

static void write_metrics(const struct metrics *m, const struct ipc_stats *now, uint64_t now_ns,
	struct buf *out)
{
	const struct sandbox_row *row = m->q->row;
	uint64_t us = (now_ns - m->last_ns) / 1000, vcpu = MAX(row->vcpu, 1u);
	/* Hundredths of a percent of all its processors. */
	uint64_t used = us ? (now->cpu_usec - MIN(now->cpu_usec, m->last.cpu_usec)) * 10000 / us / vcpu : 0;
	uint64_t mib100 = MIN(now->mem_bytes, (uint64_t)row->mem_mib << 20) * 100 >> 20;
	struct jw w = JW(out);
	char text[32];

	used = MIN(used, UINT64_C(10000));
	jw_obj(&w, NULL);
	jw_u64(&w, "cpu_count", vcpu);
	snprintf(text, sizeof(text), "%" PRIu64 ".%02" PRIu64, used / 100, used % 100);
	jw_raw(&w, "cpu_used_pct", str_c(text));
	jw_u64(&w, "mem_total_mib", row->mem_mib);
	snprintf(text, sizeof(text), "%" PRIu64 ".%02" PRIu64, mib100 / 100, mib100 % 100);
	jw_raw(&w, "mem_used_mib", str_c(text));
	jw_u64(&w, "timestamp", api_now_ms());
	jw_end(&w);
}

static void on_tick(void *arg);

static void on_stats(struct chan_msg *msg, const struct err *err, void *arg)
{
	auto_buf struct buf out = BUF_MAX(1024);
	struct metrics *m = arg;
	uint64_t now = clock_mono_ns();
	struct ipc_stats stats = { 0 };
	struct req *q = m->q;

	m->asked = false;
	if (!q) {
		free(m);
		return;
	}
	if (err) {
		metrics_fail(m, err);
		return;
	}
	memcpy(&stats, msg->payload.p, MIN(msg->payload.n, sizeof(stats)));
	if (m->last_ns) {
		write_metrics(m, &stats, now, &out);
		if (!m->watch) {
			q->on_gone = NULL;
			metrics_free(m);
			reply_json(q, 200, &out);
			return;
		}
		buf_add_c(&out, "\n");
		if (!m->started)
			http_start(q->h, 200, "application/x-ndjson", -1);
		m->started = true;
		http_write(q->h, buf_str(&out));
	}
	m->tick = tick_free(m->tick);
	m->tick = tick_new(q->api->loop, m->last_ns ? WATCH_MS : SAMPLE_MS, 0, on_tick, m);
	m->last = stats;
	m->last_ns = now;
}

static void look(struct metrics *m)
{
	struct ipc_id id = { 0 };

	snprintf(id.id, sizeof(id.id), "%s", m->q->row->id);
	m->asked = true;
	host_call(m->q->api, IPC_HOST_STATS, &id, sizeof(id), -1, on_stats, m);
}

static void on_tick(void *arg)
{
	look(arg);
}

static void metrics(struct req *q, bool watch)
{
	struct metrics *m = calloc(1, sizeof(*m));

	if (!m) {
		execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
		return;
	}
	m->q = q;
	m->watch = watch;
	q->state = m;
	q->on_gone = metrics_gone;
	box_use(q->box, &m->use, metrics_bounce);
	look(m);
}

void execd_metrics(struct req *q)
{
	metrics(q, false);
}

void execd_metrics_watch(struct req *q)
{
	metrics(q, true);
}
