/*
 * GET /metrics, in Prometheus' text form: what there is, and what was refused.
 *
 * Refusals only grow: those of sandboxes that are gone from the kernel are kept in api->denied
 * (box_unplace), those of the others are read from its counters.
 */
#include "api/box.h"
#include "api/native/native.h"
#include "policy/policy.h"

static void title(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_fmt(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void sandboxes(const struct api *a, struct buf *out)
{
	uint64_t n[LIFE_STATES] = { 0 };
	const struct box *b, *tmp;

	HASH_ITER (hh, a->boxes, b, tmp)
		n[b->row.state]++;
	title(out, "weir_sandboxes", "gauge", "Sandboxes by status.");
	for (int s = LIFE_NONE + 1; s < LIFE_DESTROYED; s++)
		buf_fmt(out, "weir_sandboxes{status=\"%s\"} %" PRIu64 "\n",
			life_state_name((enum life_state)s), n[s]);
}

static void denied(const struct api *a, struct buf *out)
{
	const struct box *b, *tmp;
	struct weir_counters one;
	uint64_t sum[WEIR_R_MAX];

	memcpy(sum, a->denied, sizeof(sum));
	HASH_ITER (hh, a->boxes, b, tmp)
		if (b->in_kernel && api_counters(a, b->row.slot, &one) == 0)
			for (unsigned int r = 0; r < WEIR_R_MAX; r++)
				sum[r] += one.denied[r];
	title(out, "weir_denied_total", "counter",
		"Packets and queries of sandboxes that were refused, by reason.");
	for (unsigned int r = WEIR_R_NONE + 1; r < WEIR_R_MAX; r++)
		buf_fmt(out, "weir_denied_total{reason=\"%s\"} %" PRIu64 "\n",
			policy_reason_name((enum weir_reason)r), sum[r]);
}

static void connections(const struct httpd *d, struct buf *out)
{
	struct httpd_refused no;

	httpd_refused(d, &no);
	title(out, "weir_http_connections", "gauge", "Connections of API clients.");
	buf_fmt(out, "weir_http_connections %" PRIu32 "\n", httpd_connections(d));
	title(out, "weir_http_refused_total", "counter",
		"Connections refused or cut, by the limit that did it.");
	buf_fmt(out,
		"weir_http_refused_total{limit=\"connections_max\"} %" PRIu64 "\n"
		"weir_http_refused_total{limit=\"connections_per_address\"} %" PRIu64 "\n",
		no.all, no.per_address);
}

void native_metrics(struct req *q)
{
	auto_buf struct buf out = BUF_MAX(1u << 20);
	struct http *h = q->h;

	sandboxes(q->api, &out);
	denied(q->api, &out);
	connections(q->api->httpd, &out);
	title(&out, "weir_exec_held_bytes", "gauge", "Output held for buffered commands.");
	buf_fmt(&out, "weir_exec_held_bytes %" PRIu64 "\n", q->api->exec_bytes);
	req_release(q);
	http_reply(h, 200, "text/plain; version=0.0.4", buf_str(&out));
}
