/*
 * A service behind the reverse proxy: whatever it answers, the client sees answers without fault and
 * nothing after the last that belongs to its request, whole and in pieces whose size the first byte
 * chooses. The second byte says what was asked for: 1 HEAD, 2 an upgrade, 4 by HTTP/1.0.
 */
#include "../../unit/edge/ingress/played.h"
#include "../fuzz.h"
#include "event/httpbody.h"
#include "event/httphead.h"

#define INPUT_MAX  60000u
#define PIECES_MAX 300u

/* Interim answers, then one final one, then its body, all of it or a part. */
static void check(struct str got, unsigned int asked)
{
	struct http_field fields[HTTPD_HEADERS_MAX + 8];
	struct http_head h = { 0 };
	struct err err;

	while (got.n && h.status < 200) {
		struct head_scan scan = { .answer = true, .max = 2 * HTTPD_HEAD_MAX };
		int r = head_scan(&scan, got, &err);

		must(r == 1, "the client gets whole heads without fault");
		must(head_read_answer(str_n(got.p, scan.at), fields, ARRAY_SIZE(fields), &h, &err) == 0,
			"the client gets heads that can be read");
		got = str_skip(got, scan.at);
		if (h.status == 101) {
			must(asked & 2 && !(asked & 4), "only who asked for it is given another protocol");
			return;
		}
		must(h.status >= 200 || !(asked & 4), "HTTP/1.0 knows no interim answers");
	}
	if (asked & 1 || h.status == 204 || h.status == 304) {
		must(!got.n, "no body where there can be none");
	} else if (h.chunked || h.length >= 0) {
		struct body body = body_from(h.chunked, h.length);
		struct str data;
		int r;

		must(!(asked & 4) || !h.chunked, "HTTP/1.0 knows no chunks");
		while ((r = body_next(&body, &got, &data, &err)) == 1)
			;
		must(r != -EBADMSG, "the client gets bodies without fault");
		must(!got.n, "nothing follows the answer");
	}
}

static void once(struct played *p, unsigned int asked, struct str text, size_t piece)
{
	struct buf ask = BUF_MAX(1000);

	if (played_connect(p) < 0)
		abort();
	buf_fmt(&ask, "%s / HTTP/1.%d\r\nHost: " PLAYED_ULID "-80.localhost\r\nConnection: %s\r\n"
		      "Upgrade: x\r\n\r\n", asked & 1 ? "HEAD" : "GET", !(asked & 4),
		asked & 2 ? "upgrade" : "keep-alive");
	talk_send(p, &p->client, buf_str(&ask));
	buf_done(&ask);
	played_run(p);
	must(p->n == 1, "the request arrived");
	while (text.n) {
		size_t n = MIN(piece, text.n);

		talk_send(p, &p->service[0], str_n(text.p, n));
		played_run(p);
		text = str_skip(text, n);
	}
	talk_shut(p, &p->service[0]);
	check(buf_str(&p->client.got), asked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct played p;
	struct ingress_counters n;
	struct str text;

	if (size < 3 || size > INPUT_MAX)
		return 0;
	if (!p.in && played_open(&p) < 0)
		abort();
	text = str_n(data + 2, size - 2);
	once(&p, data[1] & 7, text, text.n);
	once(&p, data[1] & 7, text, MAX((size_t)data[0] + 1, text.n / PIECES_MAX));
	talk_end(&p.client);
	for (unsigned int i = 0; i < p.n; i++)
		talk_end(&p.service[i]);
	played_run(&p);
	ingress_counters(p.in, &n);
	must(n.clients == 0 && n.upstreams == 0, "connections that ended are forgotten");
	return 0;
}
