/*
 * Output nobody wants any more: pipes of processes that are still there are read to nowhere, so that
 * they do not die of SIGPIPE.
 */
#include "agent/agent.h"

struct drain {
	struct watch watch;
	struct drain *next;
};

static struct drain *drains; /* newest first */
static unsigned int n_drains;

static void drain_end(struct drain *d)
{
	struct drain **at = &drains;

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	n_drains--;
	watch_close(&d->watch);
	free(d);
}

static void on_drain(struct watch *w, uint32_t events)
{
	ssize_t k = read(w->fd, scratch, sizeof(scratch));

	if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR))
		drain_end(container_of(w, struct drain, watch));
}

void drain_start(struct watch *from)
{
	struct drain *d;

	if (from->fd < 0)
		return;
	watch_set(from, 0);
	d = calloc(1, sizeof(*d));
	if (!d) {
		watch_close(from);
		return;
	}
	if (n_drains == DRAINS_MAX) {
		struct drain *oldest = drains;

		while (oldest->next)
			oldest = oldest->next;
		drain_end(oldest);
	}
	d->watch = (struct watch){ .fd = take_fd(from->fd), .fn = on_drain };
	d->next = drains;
	drains = d;
	n_drains++;
	watch_set(&d->watch, EPOLLIN);
}
