/* A timer descriptor in a loop: see the header. */
#include <sys/timerfd.h>
#include "base/fd.h"
#include "event/pulse.h"

static void on_due(uv_poll_t *poll, int status, int events)
{
	struct pulse *p = container_of(poll, struct pulse, poll);
	uint64_t beats;

	/* However many were missed, it is one. */
	if (read(p->fd, &beats, sizeof(beats)) == sizeof(beats))
		p->fn(p);
}

int pulse_start(uv_loop_t *loop, uint64_t ms, pulse_fn fn, struct pulse *ret)
{
	struct timespec every = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
	auto_fd int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	if (timerfd_settime(fd, 0, &(struct itimerspec){ every, every }, NULL) < 0)
		return -errno;
	r = uv_poll_init(loop, &ret->poll, fd);
	if (r < 0)
		return r;
	ret->fn = fn;
	ret->fd = take_fd(fd);
	uv_poll_start(&ret->poll, UV_READABLE, on_due); /* only a closing handle can fail */
	return 0;
}

void pulse_close(struct pulse *p, uv_close_cb on_closed)
{
	uv_close((uv_handle_t *)&p->poll, on_closed);
	p->fd = fd_close(p->fd);
}
