/*
 * The loop: one epoll set, a sorted list of timers, one signalfd for ended children.
 *
 * Handlers may close any descriptor, also one whose event is still waiting in the current batch:
 * watch_set(w, 0) strikes it from the batch, so a handler never hears of a descriptor it gave up.
 */
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include "agent/agent.h"

#define BATCH 64

static int epoll_fd = -EBADF;
static struct epoll_event batch[BATCH];
static int batch_n, batch_at;
static struct timer *timers;
static struct child *children;
static struct watch sigchld = { .fd = -EBADF };

char scratch[FRAME_MAX];

/* --- descriptors --- */

int watch_set(struct watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };
	int op = !events ? EPOLL_CTL_DEL : w->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (events == w->events || w->fd < 0)
		return 0;
	if (epoll_ctl(epoll_fd, op, w->fd, &ev) < 0)
		return -errno;
	w->events = events;
	for (int i = batch_at; !events && i < batch_n; i++)
		if (batch[i].data.ptr == w)
			batch[i].data.ptr = NULL;
	return 0;
}

void watch_close(struct watch *w)
{
	if (w->fd < 0)
		return;
	watch_set(w, 0);
	close(w->fd);
	w->fd = -EBADF;
}

/* --- timers --- */

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void timer_stop(struct timer *t)
{
	if (!t->armed)
		return;
	for (struct timer **at = &timers; *at; at = &(*at)->next)
		if (*at == t) {
			*at = t->next;
			break;
		}
	t->armed = false;
}

void timer_set(struct timer *t, unsigned int ms, void (*fn)(struct timer *t))
{
	struct timer **at = &timers;

	timer_stop(t);
	t->at = now_ms() + ms;
	t->fn = fn;
	t->armed = true;
	while (*at && (*at)->at <= t->at)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
}

static void timers_run(void)
{
	uint64_t now = now_ms();

	while (timers && timers->at <= now) {
		struct timer *t = timers;

		timers = t->next;
		t->armed = false;
		t->fn(t);
	}
}

static int timers_wait(void)
{
	uint64_t now = now_ms();

	if (!timers)
		return -1;
	return timers->at <= now ? 0 : (int)MIN(timers->at - now, (uint64_t)INT32_MAX);
}

/* --- children --- */

void child_add(struct child *c, pid_t pid, void (*fn)(struct child *c, int status))
{
	c->pid = pid;
	c->fn = fn;
	c->next = children;
	children = c;
}

static void child_ended(pid_t pid, int status)
{
	for (struct child **at = &children; *at; at = &(*at)->next) {
		struct child *c = *at;

		if (c->pid == pid) {
			*at = c->next;
			c->fn(c, status);
			return;
		}
	}
}

static void on_sigchld(struct watch *w, uint32_t events)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(w->fd, &info, sizeof(info)) > 0)
		; /* one for many: what counts is who can be waited for */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		child_ended(pid, status);
}

void signals_reset(void)
{
	/* The kernel's own form: the C library keeps a few numbers to itself, and whoever started the
	 * daemon may have ignored those too. */
	const struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		uint64_t mask;
	} by_default = { SIG_DFL, 0, NULL, 0 };
	sigset_t none;

	for (long s = 1; s < NSIG; s++)
		syscall(SYS_rt_sigaction, s, &by_default, NULL, sizeof(by_default.mask));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* --- the loop --- */

int loop_open(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	sigchld.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	sigchld.fn = on_sigchld;
	if (epoll_fd < 0 || sigchld.fd < 0)
		return -errno;
	return watch_set(&sigchld, EPOLLIN);
}

void loop_run(void)
{
	for (;;) {
		batch_n = epoll_wait(epoll_fd, batch, BATCH, timers_wait());
		for (batch_at = 0; batch_at < batch_n; batch_at++) {
			struct watch *w = batch[batch_at].data.ptr;

			if (w)
				w->fn(w, batch[batch_at].events);
		}
		batch_n = 0;
		timers_run();
	}
}
