/*
 * The api role's conversations with agents: one TCP connection per operation, bound
 * to the sandbox's link (SO_BINDTODEVICE), from 169.254.77.1 to 169.254.77.2.
 *
 * Everything an agent says is hostile: frames are bounded, an agent that sends
 * garbage, floods or dribbles ends its operation with ERR_UPSTREAM and nothing else.
 * Each operation is an object the caller frees; freeing one at any time, also inside
 * its callbacks, closes its connection, which makes the agent kill an exec's process
 * group. Callbacks end with exactly one on_end. All run on the loop's thread.
 */
#pragma once
#include <uv.h>
#include "base/err.h"
#include "base/ip.h"

struct agent_link { /* which sandbox */
	char link[16]; /* interface name in the router namespace */
	uint32_t ifindex;
};

struct agent_env {
	struct str name, value;
};

/* --- exec --- */
struct agent_exec;
struct agent_exec_spec {
	const struct str *argv; /* argv[0] is looked up in PATH */
	size_t n_argv;
	const struct agent_env *env; /* added to the agent's base environment and the sandbox's */
	size_t n_env;
	struct str cwd;		/* empty: /root */
	struct str stdin_data;	/* sent, then EOF; or stdin_open */
	bool stdin_open;	/* more through agent_exec_stdin() */
	bool kill_on_close;	/* true: disconnect kills the process group */
};
struct agent_exit {
	int code;		/* exit code; 128 + signal; 127 not found, 126 not executable */
	int signal;
	bool truncated;
	char error[200];	/* start failure as a sentence, or "" */
};
struct agent_exec_ops {
	void (*on_output)(struct agent_exec *x, int stream /* 1 or 2 */, struct str data, void *arg);
	/* err: NULL when *exit is valid */
	void (*on_end)(struct agent_exec *x, const struct agent_exit *exit, const struct err *err,
		void *arg);
};
int agent_exec_start(uv_loop_t *loop, const struct agent_link *link,
	const struct agent_exec_spec *spec, const struct agent_exec_ops *ops, void *arg,
	struct agent_exec **ret, struct err *err);
void agent_exec_pause(struct agent_exec *x, bool paused); /* stop reading: backpressure to the child */
int agent_exec_stdin(struct agent_exec *x, struct str data, bool end);
int agent_exec_kill(struct agent_exec *x, int signal);
void agent_exec_free(struct agent_exec *x);

/* --- files --- */
struct agent_put;
struct agent_put_ops {
	void (*on_drain)(struct agent_put *x, void *arg); /* room again after agent_put_write said 0 */
	void (*on_end)(struct agent_put *x, uint64_t bytes, const struct err *err, void *arg);
};
int agent_put_start(uv_loop_t *loop, const struct agent_link *link, struct str path, unsigned int mode,
	const struct agent_put_ops *ops, void *arg, struct agent_put **ret, struct err *err);
/* … with a mode that counts for a file which is there, too, and an owner (names or numbers; empty: as
 * it is). */
struct agent_put_mark {
	unsigned int mode; /* 0: 0644, or as it is */
	struct str owner, group;
};
int agent_put_as(uv_loop_t *loop, const struct agent_link *link, struct str path,
	const struct agent_put_mark *mark, const struct agent_put_ops *ops, void *arg,
	struct agent_put **ret, struct err *err);
/* 1: go on; 0: taken, but wait for on_drain; negative: failed (on_end follows). */
int agent_put_write(struct agent_put *x, struct str data);
int agent_put_finish(struct agent_put *x);
void agent_put_free(struct agent_put *x); /* before on_end: the upload leaves no trace */

struct agent_get;
struct agent_get_ops {
	/* The file is there, and so many bytes of it follow. */
	void (*on_open)(struct agent_get *x, uint64_t size, void *arg);
	void (*on_data)(struct agent_get *x, struct str data, void *arg);
	void (*on_end)(struct agent_get *x, const struct err *err, void *arg); /* ERR_NOT_FOUND, … */
};
int agent_get_start(uv_loop_t *loop, const struct agent_link *link, struct str path,
	const struct agent_get_ops *ops, void *arg, struct agent_get **ret, struct err *err);
/* … a part of it; length 0: to its end. ERR_INVALID: it is shorter than offset. */
int agent_get_part(uv_loop_t *loop, const struct agent_link *link, struct str path, uint64_t offset,
	uint64_t length, const struct agent_get_ops *ops, void *arg, struct agent_get **ret,
	struct err *err);
uint64_t agent_get_size(const struct agent_get *x); /* of the whole file, from on_open on */
void agent_get_pause(struct agent_get *x, bool paused);
void agent_get_free(struct agent_get *x);

/* --- tunnels: a connection to a port of the sandbox's loopback; tunnel.c --- */
struct agent_tunnel;
struct agent_tunnel_ops {
	void (*on_open)(struct agent_tunnel *x, void *arg); /* it stands; nothing else comes before */
	void (*on_data)(struct agent_tunnel *x, struct str data, void *arg);
	void (*on_half)(struct agent_tunnel *x, void *arg); /* the service has said all it will */
	void (*on_drain)(struct agent_tunnel *x, void *arg); /* room again after agent_tunnel_write said 0 */
	/* err NULL: both sides are over. Before on_open: the connection was refused. */
	void (*on_end)(struct agent_tunnel *x, const struct err *err, void *arg);
};
int agent_tunnel_start(uv_loop_t *loop, const struct agent_link *link, uint16_t port,
	const struct agent_tunnel_ops *ops, void *arg, struct agent_tunnel **ret, struct err *err);
/* 1: go on; 0: taken, but wait for on_drain; negative: failed (on_end follows). */
int agent_tunnel_write(struct agent_tunnel *x, struct str data);
void agent_tunnel_finish(struct agent_tunnel *x); /* half-close; on_end may follow at once */
void agent_tunnel_pause(struct agent_tunnel *x, bool paused);
void agent_tunnel_free(struct agent_tunnel *x);

/* --- wake: after create, resume, adoption --- */
struct agent_wake_spec {
	struct str hostname;
	struct ip ip4, ip6; /* VMs: to be set inside; containers: for /etc/hosts */
	uint64_t wall_ns;   /* 0: leave the clock alone (containers); VMs need it */
	struct ip overlay;  /* VMs only: agents of older builds do not know the field */
	struct str machine; /* VMs only: 16 bytes for /etc/machine-id */
	const struct agent_env *env; /* the sandbox's environment for every exec */
	size_t n_env;
	const struct str *ssh_keys;  /* become /root/.ssh/authorized_keys */
	size_t n_ssh_keys;
};
typedef void (*agent_done_fn)(const struct err *err, void *arg);
int agent_wake(uv_loop_t *loop, const struct agent_link *link, const struct agent_wake_spec *spec,
	uint32_t timeout_ms, agent_done_fn done, void *arg, struct err *err);

/* Before a machine is paused or copied: nothing in it runs until it is woken. */
int agent_sleep(uv_loop_t *loop, const struct agent_link *link, uint32_t timeout_ms,
	agent_done_fn done, void *arg, struct err *err);

/* … and it was, and is not the copy: that runs on, with its clock set. */
int agent_go(uv_loop_t *loop, const struct agent_link *link, uint64_t wall_ns, uint32_t timeout_ms,
	agent_done_fn done, void *arg, struct err *err);

/* --- watch: one per running sandbox, reconnects by itself until freed --- */
struct agent_watch;
enum agent_signal { AGENT_SIGNAL_PAUSE = 1, AGENT_SIGNAL_DELETE };
typedef void (*agent_signal_fn)(struct agent_watch *w, enum agent_signal what, struct str reason,
	void *arg);
int agent_watch_start(uv_loop_t *loop, const struct agent_link *link, agent_signal_fn on_signal,
	void *arg, struct agent_watch **ret);
void agent_watch_free(struct agent_watch *w);
