/* See the header. The byte of offset o is at p[o % cap]; both rings have sizes of powers of two. */
#include "agent/ring.h"

static size_t all;

size_t rings_bytes(void)
{
	return all;
}

struct ring ring_new(size_t max)
{
	size_t size = RING_MIN;

	while (size < max && size < RINGS_MAX)
		size *= 2;
	return (struct ring){ .max = size };
}

static struct ring_seg *seg(const struct ring *r, uint32_t i)
{
	return &r->segs[(r->seg_first + i) & (r->seg_cap - 1)];
}

/* Everything before `to` goes. */
static void drop(struct ring *r, uint64_t to)
{
	if (to <= r->start)
		return;
	r->start = to;
	if (r->end < to)
		r->end = to;
	while (r->n_segs && (r->start == r->end || (r->n_segs > 1 && seg(r, 1)->at <= to))) {
		r->seg_first++;
		r->n_segs--;
	}
}

void ring_done(struct ring *r)
{
	drop(r, r->end);
	all -= r->cap;
	free(r->p);
	free(r->segs);
	r->p = NULL;
	r->segs = NULL;
	r->cap = r->seg_cap = r->n_segs = 0;
}

static void put(char *p, size_t cap, uint64_t at, struct str data)
{
	size_t i = at & (cap - 1), first = MIN(data.n, cap - i);

	memcpy(p + i, data.p, first);
	memcpy(p, data.p + first, data.n - first);
}

/* Bytes at `at`, as far as they lie in one piece. */
static struct str piece(const struct ring *r, uint64_t at)
{
	size_t i = at & (r->cap - 1);

	return str_n(r->p + i, (size_t)MIN(r->end - at, (uint64_t)(r->cap - i)));
}

/* To the size that n bytes need, as far as limits and memory allow. */
static void grow(struct ring *r, size_t n)
{
	size_t cap = MAX(r->cap, (size_t)RING_MIN);
	char *p;

	while (cap < n && cap < r->max && all - r->cap + cap * 2 <= RINGS_MAX)
		cap *= 2;
	if (cap == r->cap)
		return;
	p = malloc(cap);
	if (!p)
		return;
	for (uint64_t at = r->start; at < r->end;) {
		struct str s = piece(r, at);

		put(p, cap, at, s);
		at += s.n;
	}
	all += cap - r->cap;
	free(r->p);
	r->p = p;
	r->cap = cap;
}

/* A new segment begins at the end. False: no memory for it. */
static bool seg_add(struct ring *r, uint8_t stream)
{
	if (r->n_segs == RING_SEGS_MAX)
		drop(r, seg(r, 1)->at);
	if (r->n_segs == r->seg_cap) {
		uint32_t cap = MAX(r->seg_cap * 2, 4u);
		struct ring_seg *segs = calloc(cap, sizeof(*segs));

		if (!segs)
			return false;
		for (uint32_t i = 0; i < r->n_segs; i++)
			segs[i] = *seg(r, i);
		free(r->segs);
		r->segs = segs;
		r->seg_cap = cap;
		r->seg_first = 0;
	}
	r->n_segs++;
	*seg(r, r->n_segs - 1) = (struct ring_seg){ r->end, stream };
	return true;
}

void ring_add(struct ring *r, uint8_t stream, struct str data)
{
	uint64_t end = r->end + data.n;

	if (!data.n)
		return;
	grow(r, (size_t)(end - r->start));
	if (end - r->start > r->cap)
		drop(r, end - r->cap);
	data = str_skip(data, data.n - (size_t)(end - r->end));
	if (r->cap && (!r->n_segs || seg(r, r->n_segs - 1)->stream != stream) && !seg_add(r, stream))
		data.n = 0; /* of a stream that cannot be told: lost */
	if (!r->cap || !data.n) {
		r->end = end;
		drop(r, end);
		return;
	}
	put(r->p, r->cap, r->end, data);
	r->end = end;
}

size_t ring_room(const struct ring *r, uint64_t floor)
{
	uint64_t kept = r->end - MAX(MIN(floor, r->end), r->start);
	size_t cap = MAX(r->cap, (size_t)RING_MIN);

	/* Half of the segments stay spare, so that a floor does not fall to many short pieces. */
	if (r->n_segs > RING_SEGS_MAX / 2 && kept)
		return 0;
	while (cap < r->max && all - r->cap + cap * 2 <= RINGS_MAX)
		cap *= 2;
	return cap - (size_t)MIN(kept, (uint64_t)cap);
}

struct str ring_read(const struct ring *r, uint64_t *at, uint8_t *stream)
{
	uint32_t low = 0, high = r->n_segs; /* the segment is in [low, high) */
	struct str s;

	*at = MAX(*at, r->start);
	if (*at >= r->end)
		return STR_NONE;
	while (high - low > 1) {
		uint32_t mid = low + (high - low) / 2;

		if (seg(r, mid)->at <= *at)
			low = mid;
		else
			high = mid;
	}
	*stream = seg(r, low)->stream;
	s = piece(r, *at);
	if (low + 1 < r->n_segs)
		s.n = (size_t)MIN((uint64_t)s.n, seg(r, low + 1)->at - *at);
	return s;
}
