/*
 * A client of the reverse proxy: whatever it sends, what is forwarded is a sequence of requests
 * that a second parser reads without fault and that carry nothing of the platform's; and the proxy
 * leaves nothing behind. Then again in pieces whose size the first byte chooses: the complete
 * requests are the same. (played_serve() is the second parser.)
 */
#include "../../unit/edge/ingress/played.h"
#include "../fuzz.h"

#define INPUT_MAX 60000u
#define PIECES_MAX 300u

static void once(struct played *p, struct str text, size_t piece, struct buf *seen)
{
	if (played_connect(p) < 0)
		abort();
	while (text.n) {
		size_t n = MIN(piece, text.n);

		talk_send(p, &p->client, str_n(text.p, n));
		played_serve(p, seen);
		text = str_skip(text, n);
	}
	talk_shut(p, &p->client);
	played_serve(p, seen);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct played p;
	struct buf whole = BUF_MAX(1u << 22), cut = BUF_MAX(1u << 22);
	struct ingress_counters n;
	struct str text;
	size_t piece;

	if (size < 2 || size > INPUT_MAX)
		return 0;
	if (!p.in && played_open(&p) < 0)
		abort();
	text = str_n(data + 1, size - 1);
	piece = MAX((size_t)data[0] + 1, text.n / PIECES_MAX);
	once(&p, text, text.n, &whole);
	once(&p, text, piece, &cut);
	must(str_eq(buf_str(&whole), buf_str(&cut)), "where a read ends is no property of a request");
	talk_end(&p.client);
	played_run(&p);
	ingress_counters(p.in, &n);
	must(n.clients == 0, "a client that left is forgotten");
	buf_done(&whole);
	buf_done(&cut);
	return 0;
}
