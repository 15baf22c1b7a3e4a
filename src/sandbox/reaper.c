/*
 * The deletion thread: see the header.
 *
 * Two lists under one lock: `todo`, which the loop appends to and the thread takes whole, and
 * `done`, which the thread appends to and the loop takes whole when the async handle fires.
 */
#include "base/fd.h"
#include "base/log.h"
#include "host/link.h"
#include "host/netns.h"
#include "sandbox/reaper.h"

#define GROUP_DEAD 0x57454144u

struct job {
	struct job *next;
	uint32_t ifindex;
	reaper_fn fn;
	void *arg;
};

struct reaper {
	uv_thread_t thread;
	uv_mutex_t lock;
	uv_cond_t more;
	uv_async_t finished;
	int router_ns;
	bool stop;
	struct job *todo, *done;
};

static void delete_batch(struct rtnl *n, struct job *batch)
{
	unsigned int marked = 0;
	struct err err;
	int r;

	for (struct job *j = batch; j; j = j->next)
		if (link_set_group(n, j->ifindex, GROUP_DEAD, NULL) == 0)
			marked++;
	if (!marked)
		return;
	r = link_del_group(n, GROUP_DEAD, &err);
	if (r < 0 && r != -ENODEV)
		log_event(LOG_ERROR, "links.delete", "links=%u error=\"%s\"", marked, err.text);
}

static void reaper_thread(void *arg)
{
	struct reaper *r = arg;
	struct netns_visit v = NETNS_HOME;
	auto_rtnl struct rtnl n = RTNL_NONE;
	int failed = netns_visit(&v, r->router_ns);

	if (failed == 0)
		failed = rtnl_open(&n);
	if (failed < 0)
		log_event(LOG_ERROR, "links.delete", "error=\"%s\"", strerror(-failed));
	uv_mutex_lock(&r->lock);
	for (;;) {
		struct job *batch = r->todo, **end;

		if (!batch) {
			if (r->stop)
				break;
			uv_cond_wait(&r->more, &r->lock);
			continue;
		}
		r->todo = NULL;
		uv_mutex_unlock(&r->lock);
		if (failed == 0)
			delete_batch(&n, batch);
		uv_mutex_lock(&r->lock);
		for (end = &r->done; *end; end = &(*end)->next)
			;
		*end = batch;
		uv_async_send(&r->finished);
	}
	uv_mutex_unlock(&r->lock);
	fd_close(v.home); /* the thread ends where it worked: no way home is needed */
}

static void tell(struct reaper *r)
{
	struct job *j, *next;

	uv_mutex_lock(&r->lock);
	j = r->done;
	r->done = NULL;
	uv_mutex_unlock(&r->lock);
	for (; j; j = next) {
		next = j->next;
		j->fn(j->arg);
		free(j);
	}
}

static void on_finished(uv_async_t *a)
{
	tell(a->data);
}

int reaper_new(uv_loop_t *loop, int router_ns, struct reaper **ret, struct err *err)
{
	struct reaper *r = calloc(1, sizeof(*r));

	if (!r)
		return err_sys(err, -ENOMEM, "reaper");
	r->router_ns = router_ns;
	r->finished.data = r;
	if (uv_mutex_init(&r->lock) || uv_cond_init(&r->more) ||
		uv_async_init(loop, &r->finished, on_finished) ||
		uv_thread_create(&r->thread, reaper_thread, r)) {
		free(r);
		return err_set(err, -EAGAIN, ERR_INTERNAL, "cannot start the link deletion thread");
	}
	uv_unref((uv_handle_t *)&r->finished);
	*ret = r;
	return 0;
}

int reaper_add(struct reaper *r, uint32_t ifindex, reaper_fn fn, void *arg)
{
	struct job *j = malloc(sizeof(*j));

	if (!j)
		return -ENOMEM;
	uv_mutex_lock(&r->lock);
	*j = (struct job){ .next = r->todo, .ifindex = ifindex, .fn = fn, .arg = arg };
	r->todo = j;
	uv_cond_signal(&r->more);
	uv_mutex_unlock(&r->lock);
	return 0;
}

static void closed(uv_handle_t *h)
{
	free(h->data);
}

void reaper_free(struct reaper *r)
{
	if (!r)
		return;
	uv_mutex_lock(&r->lock);
	r->stop = true;
	uv_cond_signal(&r->more);
	uv_mutex_unlock(&r->lock);
	uv_thread_join(&r->thread);
	tell(r);
	uv_mutex_destroy(&r->lock);
	uv_cond_destroy(&r->more);
	uv_close((uv_handle_t *)&r->finished, closed);
}
