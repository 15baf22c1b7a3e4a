/*
 * GET /metrics, in Prometheus' text form: what there is, what was refused, who was visited.
 *
 * Refusals only grow: those of sandboxes that are gone from the kernel are kept in api->denied
 * (box_unplace), those of the others are read from its counters.
 *
 * Visits are told of all sandboxes together, and of each that had any, of at most VISITED_MAX, the
 * oldest: what a scraper has to keep must not grow with what users make. How many were left out is
 * told as well.
 *
 * Machines are counted by the host role, which is asked each time. What it does not tell within two
 * seconds is left out: who watches wants to be answered above all when a role hangs.
 */
#include "api/box.h"
#include "api/native/native.h"
#include "api/peers.h"
#include "api/tick.h"
#include "policy/policy.h"

#define VISITED_MAX 200u
#define HOST_MS 2000u

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

static const struct visits {
	const char *name, *type, *help;
	size_t at; /* in struct ingress_use */
} visits[] = {
	{ "open", "gauge", "Requests and tunnels under way", offsetof(struct ingress_use, open) },
	{ "requests_total", "counter", "Requests", offsetof(struct ingress_use, requests) },
	{ "refused_total", "counter", "Requests that ingress refused",
		offsetof(struct ingress_use, refused) },
	{ "failed_total", "counter", "Requests that the sandbox did not answer, or not to the end",
		offsetof(struct ingress_use, failed) },
	{ "in_bytes_total", "counter", "Bytes of bodies and tunnels to sandboxes",
		offsetof(struct ingress_use, bytes_in) },
	{ "out_bytes_total", "counter", "Bytes of bodies and tunnels from sandboxes",
		offsetof(struct ingress_use, bytes_out) },
};

static uint64_t visit_count(const struct visits *v, struct ingress_use use)
{
	return *(const uint64_t *)((const char *)&use + v->at);
}

static bool visited(const struct box *b)
{
	return b->ingress.use || b->ingress.past.requests;
}

static void ingress_of_all(const struct api *a, struct buf *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(visits); i++) {
		const struct visits *v = &visits[i];

		buf_fmt(out, "# HELP weir_ingress_%s %s.\n# TYPE weir_ingress_%s %s\n"
			     "weir_ingress_%s %" PRIu64 "\n",
			v->name, v->help, v->name, v->type, v->name,
			visit_count(v, ingress_total(a)));
	}
}

static void ingress_of_each(const struct api *a, struct buf *out)
{
	const struct box *b, *tmp;
	uint64_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(visits); i++) {
		const struct visits *v = &visits[i];

		n = 0;
		buf_fmt(out, "# HELP weir_sandbox_ingress_%s %s, by sandbox.\n"
			     "# TYPE weir_sandbox_ingress_%s %s\n",
			v->name, v->help, v->name, v->type);
		HASH_ITER (hh, a->boxes, b, tmp)
			if (visited(b) && n++ < VISITED_MAX)
				buf_fmt(out,
					"weir_sandbox_ingress_%s{sandbox=\"%s\"} %" PRIu64 "\n",
					v->name, b->row.id, visit_count(v, ingress_sum(b)));
	}
	title(out, "weir_sandbox_ingress_unlisted", "gauge",
		"Visited sandboxes that are not told of one by one.");
	buf_fmt(out, "weir_sandbox_ingress_unlisted %" PRIu64 "\n",
		n > VISITED_MAX ? n - VISITED_MAX : 0);
}

static const char *const start_names[IPC_STARTS] = {
	[IPC_START_BOOT] = "boot",
	[IPC_START_WARM] = "warm",
	[IPC_START_READY] = "ready",
	[IPC_START_RESUME] = "resume",
	[IPC_START_FORK] = "fork",
};
static const char *const template_names[IPC_TEMPLATES] = {
	[IPC_TEMPLATE_WARM] = "warm",
	[IPC_TEMPLATE_FORK] = "fork",
};

static const struct template_figure {
	const char *name, *type, *help;
	size_t at; /* in struct ipc_templates */
	unsigned int shift;
} template_figures[] = {
	{ "weir_vm_templates_made_total", "counter", "Templates made, by the kind of start they are for.",
		offsetof(struct ipc_templates, made), 0 },
	{ "weir_vm_templates", "gauge", "Templates kept.", offsetof(struct ipc_templates, kept), 0 },
	{ "weir_vm_templates_bytes", "gauge", "Memory that counts for templates, with one that is being made.",
		offsetof(struct ipc_templates, mib), 20 },
};

static void machines(const struct ipc_machines *m, struct buf *out)
{
	title(out, "weir_vm_starts_total", "counter", "Virtual machines that began, by how.");
	for (unsigned int i = 0; i < IPC_STARTS; i++)
		buf_fmt(out, "weir_vm_starts_total{kind=\"%s\"} %" PRIu64 "\n", start_names[i],
			m->starts[i]);
	for (size_t f = 0; f < ARRAY_SIZE(template_figures); f++) {
		const struct template_figure *t = &template_figures[f];

		title(out, t->name, t->type, t->help);
		for (unsigned int i = 0; i < IPC_TEMPLATES; i++)
			buf_fmt(out, "%s{kind=\"%s\"} %" PRIu64 "\n", t->name, template_names[i],
				*(const uint64_t *)((const char *)&m->templates[i] + t->at) << t->shift);
	}
	title(out, "weir_vm_ready", "gauge", "Virtual machines that stand ready.");
	buf_fmt(out, "weir_vm_ready %" PRIu64 "\n", m->ready);
	title(out, "weir_vm_ready_bytes", "gauge", "Memory that counts for them, with those that soon do.");
	buf_fmt(out, "weir_vm_ready_bytes %" PRIu64 "\n", m->ready_mib << 20);
}

static void answer(struct req *q, const struct ipc_machines *m)
{
	auto_buf struct buf out = BUF_MAX(1u << 20);
	struct http *h = q->h;

	sandboxes(q->api, &out);
	denied(q->api, &out);
	connections(q->api->httpd, &out);
	ingress_of_all(q->api, &out);
	ingress_of_each(q->api, &out);
	if (m)
		machines(m, &out);
	title(&out, "weir_exec_held_bytes", "gauge", "Output held for buffered commands.");
	buf_fmt(&out, "weir_exec_held_bytes %" PRIu64 "\n", q->api->exec_bytes);
	req_release(q);
	http_reply(h, 200, "text/plain; version=0.0.4", buf_str(&out));
}

struct scrape {
	struct req *q; /* NULL: nobody waits any more */
	struct tick *patience;
};

/* Whoever waited does not any more. */
static struct req *scrape_end(struct scrape *s)
{
	struct req *q = s->q;

	s->patience = tick_free(s->patience);
	s->q = NULL;
	if (q)
		q->on_gone = NULL;
	return q;
}

static void on_machines(struct chan_msg *msg, const struct err *err, void *arg)
{
	auto_free struct scrape *s = arg;
	struct req *q = scrape_end(s);
	struct ipc_machines m = { .ready = 0 };

	if (!q)
		return;
	if (!err)
		memcpy(&m, msg->payload.p, MIN(msg->payload.n, sizeof(m)));
	answer(q, err ? NULL : &m);
}

static void too_late(void *arg)
{
	answer(scrape_end(arg), NULL);
}

static void gone(struct req *q)
{
	scrape_end(q->state);
}

void native_metrics(struct req *q)
{
	struct scrape *s = calloc(1, sizeof(*s));

	if (s)
		s->patience = tick_new(q->api->loop, HOST_MS, 0, too_late, s);
	if (!s || !s->patience) {
		free(s);
		answer(q, NULL);
		return;
	}
	s->q = q;
	q->state = s;
	q->on_gone = gone;
	host_call(q->api, IPC_HOST_MACHINES, NULL, 0, -1, on_machines, s);
}
