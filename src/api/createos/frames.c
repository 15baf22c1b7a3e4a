/* Output as NDJSON: see the header. */
#include "api/createos/frames.h"
#include "wire/json.h"

#define PIECE 10240u /* raw bytes per line: escaped, at most six times as many */

static void line(struct buf *out, const char *member, struct str text)
{
	struct jw w = JW(out);

	jw_obj(&w, NULL);
	jw_str(&w, member, text);
	jw_end(&w);
	buf_add(out, "\n", 1);
}

size_t frames_unfinished(struct str s)
{
	for (size_t back = 1; back <= 3 && back <= s.n; back++) {
		unsigned char c = (unsigned char)s.p[s.n - back];
		size_t len = c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : 2;

		if ((c & 0xc0) == 0x80)
			continue; /* inside a character: look further back */
		return c >= 0xc2 && c < 0xf5 && len > back ? back : 0;
	}
	return 0;
}

void frames_output(struct buf *out, const char *stream, struct frames_carry *c, struct str data)
{
	while (data.n) {
		char piece[PIECE + sizeof(c->p)];
		size_t take = MIN(data.n, (size_t)PIECE), n = c->n, tail;

		memcpy(piece, c->p, c->n);
		memcpy(piece + n, data.p, take);
		n += take;
		data = str_skip(data, take);
		tail = frames_unfinished(str_n(piece, n));
		if (n > tail)
			line(out, stream, str_n(piece, n - tail));
		memcpy(c->p, piece + n - tail, tail);
		c->n = (uint8_t)tail;
	}
}

void frames_flush(struct buf *out, const char *stream, struct frames_carry *c)
{
	if (c->n)
		line(out, stream, str_n(c->p, c->n));
	c->n = 0;
}

void frames_error(struct buf *out, struct str text)
{
	line(out, "error", text);
}

void frames_exit(struct buf *out, int code)
{
	struct jw w = JW(out);

	jw_obj(&w, NULL);
	jw_i64(&w, "exit_code", code);
	jw_end(&w);
	buf_add(out, "\n", 1);
}
