/* Denial events: see the header. libbpf maps the ring and keeps its positions. */
#include <bpf/libbpf.h>
#include "ring.h"

struct events_ring {
	struct ring_buffer *ring;
	events_fn fn;
	void *arg;
};

static int one_event(void *arg, void *data, size_t size)
{
	struct events_ring *r = arg;

	if (size >= sizeof(struct weir_event))
		r->fn(data, r->arg);
	return 0;
}

int events_ring_open(int ring_fd, events_fn fn, void *arg, struct events_ring **ret, struct err *err)
{
	struct events_ring *r = calloc(1, sizeof(*r));

	if (!r)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r->fn = fn;
	r->arg = arg;
	r->ring = ring_buffer__new(ring_fd, one_event, r, NULL);
	if (!r->ring) {
		int code = errno ? -errno : -EINVAL;

		free(r);
		return err_sys(err, code, "map the ring of denial events");
	}
	*ret = r;
	return 0;
}

struct events_ring *events_ring_free(struct events_ring *r)
{
	if (!r)
		return NULL;
	ring_buffer__free(r->ring);
	free(r);
	return NULL;
}

int events_ring_fd(const struct events_ring *r)
{
	return ring_buffer__epoll_fd(r->ring);
}

int events_ring_read(struct events_ring *r)
{
	return ring_buffer__consume(r->ring);
}
