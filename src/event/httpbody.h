/*
 * The body of a request as it is framed: nothing, so many bytes, or chunks.
 *
 * A chunk line is hexadecimal digits, perhaps an extension (ignored), CR, LF. A trailer is a name,
 * a colon and a value, kept for who gives a buffer for them. All of it is bounded. Our own reader
 * instead of llhttp's, because version 8.1 takes a lone CR for a line end here and sets no bound to
 * extensions.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#define BODY_EXTRA_MAX 8192u /* bytes of a body's chunk extensions and trailers together */

enum body_at { BODY_PLAIN, BODY_SIZE, BODY_EXT, BODY_SIZE_LF, BODY_CHUNK, BODY_CHUNK_CR,
	BODY_CHUNK_LF, BODY_TRAILER, BODY_TRAILER_LF };

struct body {
	enum body_at at;
	uint64_t left;	     /* bytes of this chunk, or of the whole */
	unsigned int digits; /* of the chunk size */
	unsigned int extra;  /* bytes of extensions and trailers so far */
	size_t line;	     /* length of the trailer line so far */
	bool named;	     /* its colon was seen */
	bool last;	     /* the chunk of size 0 was seen */
	bool done;
	size_t behind;	     /* bytes read so far behind the chunk of size 0: trailers, and their end */
	struct buf *trailers; /* set by who wants them: "Name: value\r\n" each, as they came; or NULL */
};

/* length: -1 without one. */
struct body body_from(bool chunked, int64_t length);
/* Take from the front of *in. 1: *data is the next piece (borrowed); 0: more bytes are needed;
 * -ENODATA: the body is complete; -EBADMSG: its framing is broken. */
int body_next(struct body *b, struct str *in, struct str *data, struct err *err);
