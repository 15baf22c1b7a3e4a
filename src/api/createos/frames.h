/*
 * Output of a command as NDJSON: one object per line, {"stdout":"…"} or {"stderr":"…"}. Lines stay
 * below 64 KiB, a character is never split between two of them, and bytes that are no UTF-8
 * become U+FFFD. Pure.
 */
#pragma once
#include "base/buf.h"

struct frames_carry { /* the beginning of a character whose end has not come yet, per stream */
	uint8_t n;
	char p[4];
};

/* Bytes at the end of s that begin a character which may still be completed: 0 to 3. */
size_t frames_unfinished(struct str s);
/* Append lines for data. */
void frames_output(struct buf *out, const char *stream, struct frames_carry *c, struct str data);
/* The stream is over: what is carried is no character. */
void frames_flush(struct buf *out, const char *stream, struct frames_carry *c);
void frames_error(struct buf *out, struct str text);
void frames_exit(struct buf *out, int code);
#define FRAMES_HEARTBEAT STR("{\"hb\":true}\n")
