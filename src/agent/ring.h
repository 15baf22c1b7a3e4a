/*
 * The last bytes of an output, each under its offset, each marked with the stream it came by.
 *
 * Offsets begin at 0 and never repeat; what is older than `start` has been overwritten. Memory grows
 * with the output up to `max` bytes, and over all rings up to RINGS_MAX: past that a ring keeps
 * the size it has (at least RING_MIN, if there is memory at all) and overwrites earlier.
 */
#pragma once
#include "base/str.h"

#define RING_MIN      4096u
#define RING_SEGS_MAX 4096u	   /* changes of stream that are kept; the oldest bytes go past it */
#define RINGS_MAX     (16u << 20) /* all rings together, but for RING_MIN of each */

struct ring_seg {
	uint64_t at;
	uint8_t stream;
};
struct ring {
	char *p;
	size_t cap, max; /* powers of two */
	uint64_t start, end;
	struct ring_seg *segs; /* a ring too */
	uint32_t seg_cap, seg_first, n_segs;
};

struct ring ring_new(size_t max);
void ring_done(struct ring *r);	 /* forgets the bytes, keeps the offsets */
void ring_add(struct ring *r, uint8_t stream, struct str data);
/* How many bytes can be added while all from `floor` on stay. */
size_t ring_room(const struct ring *r, uint64_t floor);
/* Bytes of one stream from *at on, which moves up to what is kept; none: at the end. */
struct str ring_read(const struct ring *r, uint64_t *at, uint8_t *stream);
/* Held by all rings. */
size_t rings_bytes(void);
