/* Body framing, one byte of framing at a time: see the header. */
#include "event/httpbody.h"

#define DIGITS_MAX 15u /* 2^60 bytes; no overflow to think about */

struct body body_from(bool chunked, int64_t length)
{
	if (chunked)
		return (struct body){ .at = BODY_SIZE };
	return (struct body){ .at = BODY_PLAIN, .left = length > 0 ? (uint64_t)length : 0,
		.done = length <= 0 };
}

static int broken(struct err *err, const char *text)
{
	return err_set(err, -EBADMSG, ERR_INVALID, "chunked body: %s", text);
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool control(char c)
{
	return ((unsigned char)c < ' ' && c != '\t') || c == 0x7f;
}

static int size_byte(struct body *b, char c, struct err *err)
{
	int v = hex_value(c);

	if (v >= 0) {
		if (++b->digits > DIGITS_MAX)
			return broken(err, "the chunk size is too large");
		b->left = b->left << 4 | (unsigned int)v;
		return 0;
	}
	if (!b->digits)
		return broken(err, "a chunk without a size");
	if (c == ';')
		b->at = BODY_EXT;
	else if (c == '\r')
		b->at = BODY_SIZE_LF;
	else
		return broken(err, "malformed chunk size");
	return 0;
}

static bool name_byte(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
		(c && strchr("!#$%&'*+-.^_`|~", c));
}

/* A line of the trailers; the empty one is their end. */
static int trailer_byte(struct body *b, char c, struct err *err)
{
	if (c == '\r') {
		if (b->line && !b->named)
			return broken(err, "a trailer without a colon");
		b->at = BODY_TRAILER_LF;
		return 0;
	}
	if (b->named ? control(c) : c == ':' ? !b->line : !name_byte(c))
		return broken(err, "malformed trailer");
	if (++b->extra > BODY_EXTRA_MAX)
		return broken(err, "the trailers are too long");
	if (b->trailers && buf_add(b->trailers, &c, 1) < 0)
		return broken(err, "out of memory");
	b->named |= c == ':';
	b->line++;
	return 0;
}

static int framing_byte(struct body *b, char c, struct err *err)
{
	switch (b->at) {
	case BODY_SIZE:
		return size_byte(b, c, err);
	case BODY_EXT:
		if (c == '\r')
			b->at = BODY_SIZE_LF;
		else if (control(c))
			return broken(err, "a control byte in a chunk extension");
		else if (++b->extra > BODY_EXTRA_MAX)
			return broken(err, "too many chunk extensions");
		return 0;
	case BODY_SIZE_LF:
		if (c != '\n')
			return broken(err, "a CR that no LF follows");
		b->last = b->left == 0;
		b->at = b->last ? BODY_TRAILER : BODY_CHUNK;
		return 0;
	case BODY_CHUNK_CR:
		if (c != '\r')
			return broken(err, "a chunk is longer than its size");
		b->at = BODY_CHUNK_LF;
		return 0;
	case BODY_CHUNK_LF:
		if (c != '\n')
			return broken(err, "a CR that no LF follows");
		b->digits = 0;
		b->at = BODY_SIZE;
		return 0;
	case BODY_TRAILER:
		b->behind++;
		return trailer_byte(b, c, err);
	case BODY_TRAILER_LF:
		b->behind++;
		if (c != '\n')
			return broken(err, "a CR that no LF follows");
		b->done = !b->line;
		if (b->line && b->trailers && buf_add_c(b->trailers, "\r\n") < 0)
			return broken(err, "out of memory");
		b->line = 0;
		b->named = false;
		b->at = BODY_TRAILER;
		return 0;
	case BODY_PLAIN:
	case BODY_CHUNK:
		break;
	}
	return broken(err, "internal confusion");
}

int body_next(struct body *b, struct str *in, struct str *data, struct err *err)
{
	while (!b->done) {
		int r;

		if (!in->n)
			return 0;
		if (b->at == BODY_PLAIN || b->at == BODY_CHUNK) {
			size_t n = b->left < in->n ? (size_t)b->left : in->n;

			*data = str_n(in->p, n);
			*in = str_skip(*in, n);
			b->left -= n;
			if (!b->left) {
				b->done = b->at == BODY_PLAIN;
				b->at = b->done ? BODY_PLAIN : BODY_CHUNK_CR;
			}
			return 1;
		}
		r = framing_byte(b, in->p[0], err);
		if (r < 0)
			return r;
		*in = str_skip(*in, 1);
	}
	return -ENODATA;
}
