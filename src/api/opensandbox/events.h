/*
 * The event stream of OpenSandbox's execd: one JSON object on a line, a blank line behind it, each
 * with the milliseconds since 1970 when it was made. Output is told by lines, as they are complete;
 * a line longer than EVENT_LINE_MAX in several. Pure.
 */
#pragma once
#include "wire/json.h"

#define EVENT_LINE_MAX 16384u

/* What follows one of these is a blank line: see event_end(). */
void event_begin(struct jw *w, struct buf *out, const char *type, uint64_t now_ms);
void event_end(struct jw *w);
void event_text(struct buf *out, const char *type, uint64_t now_ms, struct str text);
void event_complete(struct buf *out, uint64_t now_ms, uint64_t took_ms);
void event_error(struct buf *out, uint64_t now_ms, struct str name, struct str value,
	struct str trace);
/* How a command ended: the last event of its stream. */
void event_exit(struct buf *out, uint64_t now_ms, uint64_t took_ms, int code, int signal);

struct lines { /* of one stream */
	struct buf rest; /* of a line whose end has not come: BUF_MAX(EVENT_LINE_MAX) */
	bool cr;	 /* a carriage return ended the last line: a line feed belongs to it */
};
#define LINES ((struct lines){ .rest = BUF_MAX(EVENT_LINE_MAX) })
void lines_add(struct lines *l, struct buf *out, const char *type, uint64_t now_ms, struct str data);
void lines_flush(struct lines *l, struct buf *out, const char *type, uint64_t now_ms);
void lines_done(struct lines *l);
