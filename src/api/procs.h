/*
 * Long-lived commands: processes, REPLs and terminals that outlive the HTTP call that started them.
 *
 * The agent has them (src/agent/proc.c), with the last bytes of their output; this is the api role's
 * side, which keeps nothing. So they and their output survive the api role, are charged to their
 * sandbox, freeze and go on with it, and end with it. A sandbox that is started again from its disk
 * has none. Whoever starts one names it: `id` is the dialect's own (at most FRAME_ID_MAX bytes, told
 * by no other in the sandbox), `label` the family it is found by, `note` what the dialect wants back
 * later (JSON, say; at most FRAME_NOTE_MAX). What comes back is a tenant's word, like all that
 * agents say.
 *
 * Output has offsets, counted in bytes over all streams of the process from 0 on. The last
 * `keep` bytes of it can be read, from any offset, by any number of readers; on_output says the
 * offset of each piece, and a piece that does not begin where the one before ended is behind a gap.
 * A reader that asks for `pace` is waited for by the process (it stops at a full ring); one that
 * does not loses what it was too slow for. Either costs this role two frames.
 *
 * Limits (src/agent/agent.h): PROCS_MAX processes of a sandbox, ended ones included, of which the
 * oldest ended give way; RINGS_MAX of output over all of them; PROC_KEEP_MS for what is known of an
 * ended one. Readers are connections, of which an agent takes CONNS_MAX.
 *
 * Life of a conversation as in agent.h: callbacks end with exactly one on_end; freeing at any time
 * is fine, and leaves the process as it is. Requests hold a box_use() meanwhile, as with an exec:
 * when the sandbox pauses they are bounced and the process stays.
 */
#pragma once
#include "api/agent.h"

enum proc_stream { PROC_OUT = 1, PROC_ERR, PROC_SIDE }; /* a terminal's output is PROC_OUT */

struct proc_spec {
	struct str id, label, note;
	const struct str *argv; /* argv[0] is looked up in PATH */
	size_t n_argv;
	const struct agent_env *env; /* added to the agent's base environment and the sandbox's */
	size_t n_env;
	struct str cwd;	      /* empty: /root */
	bool pty;	      /* a terminal of rows x cols (0: 24 x 80) instead of pipes */
	uint16_t rows, cols;
	bool stdin_open;      /* input comes later; else /dev/null. A pty always has input. */
	bool side;	      /* descriptor 3 is a pipe: PROC_SIDE */
	bool queue;	      /* one after the other with all of this label that say so too */
	bool brief;	      /* forget the output once it has ended and nobody reads it */
	uint32_t timeout_ms;  /* kill its group after that; 0: never */
	uint32_t idle_ms;     /* … after that without a byte read or written */
	uint32_t keep;	      /* bytes of output; 0: PROC_KEEP */
	uint32_t uid, gid;    /* uid 0: root; gid as the sandbox's files have it, or: */
	bool has_gid;
};

/* How it stands. Texts live until the callback returns. */
struct proc_info {
	struct str id, label, note;
	bool waiting, running; /* neither: ended */
	bool timed_out, pty;
	uint32_t pid;
	uint16_t rows, cols;
	uint64_t started_ms, ended_ms; /* since 1970; ended 0: it has not */
	int code, signal;
	struct str error; /* why it never started or was killed, or empty */
	uint64_t oldest, newest; /* offset of the first byte kept, and behind the last */
};

/* --- reading and writing one process --- */

struct proc;
struct proc_ops {
	/* It runs. Only of proc_start(). */
	void (*on_started)(struct proc *x, uint32_t pid, void *arg);
	void (*on_output)(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data,
		void *arg);
	/* err NULL and exit: it ended, or never started (exit->error, code 126 or 127). Both NULL: the
	 * process runs on, and this was all (no `follow`, no `attach`). */
	void (*on_end)(struct proc *x, const struct agent_exit *exit, const struct err *err,
		void *arg);
	/* There is such a process, and its output begins at this offset. Only of proc_attach(). */
	void (*on_attached)(struct proc *x, uint64_t offset, void *arg);
};

/* Start; with attach the conversation goes on from the first byte to the end of the process. */
int proc_start(uv_loop_t *loop, const struct agent_link *link, const struct proc_spec *spec,
	bool attach, bool pace, const struct proc_ops *ops, void *arg, struct proc **ret,
	struct err *err);

#define PROC_FROM_END UINT64_MAX
struct proc_attach {
	struct str id;
	uint64_t from;	  /* offset, or PROC_FROM_END */
	bool follow;	  /* until the process ends; else what is there */
	bool pace;
	struct str input; /* written first, whole or (ERR_CAPACITY) not at all */
	bool close;	  /* and then its stdin is closed */
};
/* ERR_NOT_FOUND: no process of this id. */
int proc_attach(uv_loop_t *loop, const struct agent_link *link, const struct proc_attach *how,
	const struct proc_ops *ops, void *arg, struct proc **ret, struct err *err);

void proc_pause(struct proc *x, bool paused); /* stop reading */
/* 1: go on; 0: taken, but slow down: many bytes wait for the process; negative: on_end follows. */
int proc_write(struct proc *x, struct str data, bool end);
int proc_kill(struct proc *x, int signal); /* to its process group */
int proc_resize(struct proc *x, uint16_t rows, uint16_t cols);
void proc_free(struct proc *x);

/* --- asking about them, changing them --- */

struct proc_ask;
/* info NULL is the end of the list, or with err the failure; then the ask has freed itself. */
typedef void (*proc_info_fn)(const struct proc_info *info, const struct err *err, void *arg);

/* All of a label (empty: all), or the one of an id, in the order of their starts. */
int procs_list(uv_loop_t *loop, const struct agent_link *link, struct str label, struct str id,
	proc_info_fn fn, void *arg, struct proc_ask **ret, struct err *err);

struct proc_change {
	struct str id;
	int signal;	   /* to its process group; 0: none */
	uint32_t grace_ms; /* SIGKILL after that, if it has not ended */
	uint16_t rows, cols; /* 0: as they are */
	bool close;	   /* its stdin */
	bool forget;	   /* nothing is kept of it once it has ended; it is no longer found from now on
			    * if it is killed, or has a grace */
};
/* fn is told the process as it was, then the end. */
int proc_change(uv_loop_t *loop, const struct agent_link *link, const struct proc_change *how,
	proc_info_fn fn, void *arg, struct proc_ask **ret, struct err *err);
void proc_ask_free(struct proc_ask *x);
