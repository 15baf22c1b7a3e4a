/*
 * The api role's side in a test: its loop, a dog that watches it, and a real agent to talk to, bound
 * to loopback as to a link. To be included once.
 */
#pragma once
#include <uv.h>
#include "api/agent.h"
#include "base/rd.h" /* before `lo` is a name */
#include "sandbox.h"

static uv_loop_t loop;
static uv_timer_t dog;
static const struct agent_link lo = { .link = "lo", .ifindex = 1 };
static int program = -1;

static unsigned int dog_ticks;

/* It ticks, because UV_RUN_ONCE goes on to wait for a descriptor after a timer did our work. */
static void on_dog(uv_timer_t *t)
{
	if (++dog_ticks > 4000)
		fail_msg("%s", "nothing happened for 20 s");
}

#define run_until(cond)                                                                            \
	do {                                                                                       \
		dog_ticks = 0;                                                                     \
		uv_timer_start(&dog, on_dog, 5, 5);                                                \
		while (!(cond))                                                                    \
			uv_run(&loop, UV_RUN_ONCE);                                                \
	} while (0)

static pid_t agent;

static int start_agent(void **state)
{
	int l = sandbox_listener();

	agent = sandbox_agent(program, l);
	close(l);
	uv_loop_init(&loop);
	return uv_timer_init(&loop, &dog);
}

static int stop_agent(void **state)
{
	uv_close((uv_handle_t *)&dog, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	kill(agent, SIGKILL);
	waitpid(agent, NULL, 0);
	return uv_loop_close(&loop);
}

/* The agent's program from the command line, and a sandbox to run it in. Non-zero: it was not given. */
static int role_begin(int argc, char **argv)
{
	program = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
	if (program < 0) {
		fprintf(stderr, "usage: %s WEIR-AGENT\n", argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	sandbox_enter();
	return 0;
}
