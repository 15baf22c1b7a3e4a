/* Work beside the loop: see the header. */
#include "sandbox/aside.h"

#define AGAIN_MS 5

static void go_on(struct aside *a);

static void in_thread(uv_work_t *w)
{
	struct aside_job *job = container_of(w, struct aside, work)->now;

	job->result = job->work(job, &job->err);
}

static void after(uv_work_t *w, int status)
{
	struct aside *a = container_of(w, struct aside, work);
	struct aside_job *job = take_ptr(a->now);

	if (job->result == -EAGAIN) {
		job->tried = true;
		TAILQ_INSERT_TAIL(&a->jobs, job, next);
	} else {
		job->done(job, job->result, &job->err);
	}
	go_on(a);
}

static void on_again(uv_timer_t *t)
{
	struct aside *a = t->data;
	struct aside_job *job;

	TAILQ_FOREACH(job, &a->jobs, next)
		job->tried = false;
	go_on(a);
}

static void go_on(struct aside *a)
{
	struct aside_job *job = TAILQ_FIRST(&a->jobs);

	if (a->now || !job)
		return;
	while (job && job->tried)
		job = TAILQ_NEXT(job, next);
	if (!job) {
		uv_timer_start(&a->again, on_again, AGAIN_MS, 0);
		return;
	}
	TAILQ_REMOVE(&a->jobs, job, next);
	a->now = job;
	uv_queue_work(a->loop, &a->work, in_thread, after); /* fails only without a function */
}

int aside_open(struct aside *a, uv_loop_t *loop, struct err *err)
{
	int r = uv_timer_init(loop, &a->again);

	if (r < 0)
		return err_sys(err, r, "work beside the loop");
	a->loop = loop;
	a->again.data = a;
	TAILQ_INIT(&a->jobs);
	return 0;
}

void aside_do(struct aside *a, struct aside_job *job)
{
	job->tried = false;
	job->err = (struct err){ .code = 0 };
	TAILQ_INSERT_TAIL(&a->jobs, job, next);
	go_on(a);
}

void aside_close(struct aside *a)
{
	if (!a->loop)
		return;
	while (a->now || !TAILQ_EMPTY(&a->jobs))
		uv_run(a->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&a->again, NULL);
	a->loop = NULL;
}
