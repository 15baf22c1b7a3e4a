/*
 * The api role as a whole: what it holds, how it starts, and what the rest of the room asks of it.
 *
 *	httpd -> dispatch.c -> handlers (createos/, native/) -> box.c, flow_*.c -> peers.c -> host, edge
 *	                                      |                    |
 *	                                      +--> agent.c         +--> store/
 *
 * Handlers translate requests and answers; they hold no state. A `struct box` (box.h) is one
 * sandbox in memory; the flows change it step by step, each step an answer of a peer. Everything
 * runs on one loop; nothing here touches a kernel object other than sockets.
 */
#pragma once
#include <sys/queue.h>
#include <time.h>
#include <uv.h>
#include "api/auth.h"
#include "api/route.h"
#include "api/store.h"
#include "event/chan.h"
#include "policy/floor.h"
#include "bpf/maps.h"
#include "wire/config.h"

#define EDGES_MAX  16u
#define IMAGES_MAX 256u

struct box;
struct network;
struct req;
struct tick;
struct edge {
	struct chan *chan; /* NULL: none in this place */
	uint32_t worker;
	struct api *api;
	uint32_t tell_next; /* the slot to tell it of next; 0: it has been told all */
	uint32_t tell_open; /* told, and not answered yet */
};

TAILQ_HEAD(hold_list, hold);

struct ingress_use { /* visits of a sandbox, or of many: ingress.h */
	uint64_t open; /* now; the rest only grows */
	uint64_t requests, refused, failed, bytes_in, bytes_out;
};

struct api {
	uv_loop_t *loop;
	struct config config;
	struct policy_floor floor; /* for refusing rules inside it, and for explain */
	struct store *store;
	struct keyring *keys;
	struct httpd *httpd;
	struct chan *host;
	struct edge edges[EDGES_MAX];
	struct ipc_host_info info;
	struct ipc_image images[IMAGES_MAX];
	unsigned int n_images;
	uint64_t images_at; /* clock_mono_ns() of the last answer */
	struct network *nets; /* by id: nets.h */
	struct box *boxes;  /* by id: all sandboxes that are not destroyed */
	struct box **by_slot; /* [WEIR_SLOTS_MAX + 1] */
	LIST_HEAD(, websocket) websockets;
	struct hold_list holds; /* requests waiting for a state to settle, by deadline */
	struct tick *hold_timer, *sweep_timer, *stop_timer;
	struct tick *pair_timer; /* runs while a worker has no channel; NULL until the first */
	uint32_t policy_next, policy_end; /* reserved policy ids */
	struct counters *counters;	  /* the kernel's, or NULL: kmaps.h */
	struct events *events;		  /* the kernel's denials, or NULL */
	uint32_t relays;		  /* connections to ports of sandboxes: relay.h */
	uint32_t ports_next;		  /* pair of host ports to be tried next: ingress.c */
	uint64_t exec_bytes;		  /* output held for buffered commands */
	uint64_t denied[WEIR_R_MAX];	  /* what the kernel counted for sandboxes it has no more */
	struct ingress_use ingress_past;  /* of sandboxes that are gone */
	struct builds *builds;
	struct pulls *pulls;
	struct mint *mint;
	struct always *always;		  /* the operator's lists: opensandbox/always.h */
	struct gateway *gateway;	  /* opensandbox/gateway.h */
	bool ready;
	char not_ready[200]; /* why */
	void (*on_stop)(struct api *a, int code); /* the loop's owner: end the program */
};

/* What boot hands over. Descriptors are taken. */
struct api_spec {
	struct config config;
	int state_dir;
	int host;		/* channel */
	int listeners[CONFIG_LISTEN_MAX];
	unsigned int n_listeners;
	int edges[EDGES_MAX];	/* channels, numbered by worker */
	unsigned int n_edges;
	int counters, dns_counters, events; /* maps, or -EBADF */
	int gateway_keys;	/* or -EBADF */
};
/* Opens the store and the listeners. Set on_stop, then api_begin(): adoption, and when that is done
 * the role is ready and answers more than healthz. There is no way back: a role ends with its process,
 * however that ends, and what it leaves is what kill -9 leaves. */
int api_start(uv_loop_t *loop, struct api_spec *spec, struct api **ret, struct err *err);
void api_begin(struct api *a);
/* Finish what is answered soon, then on_stop. */
void api_shutdown(struct api *a);

/* dispatch.c */
void api_on_request(struct http *h, void *arg);
void api_on_refuse(struct http *h, int status, const struct err *err, struct buf *body,
	const char **type, void *arg);

/* adopt.c: compare the store with the host's LIST, finish or undo; sets ready. */
void api_adopt(struct api *a);

/* The kernel's counters of a slot, summed over CPUs. -ENODATA without the map. */
int api_counters(const struct api *a, uint32_t slot, struct weir_counters *ret);
/* A reply to IPC_HOST_IMAGES. */
void api_on_images(struct api *a, struct chan_msg *m);
/* A policy id never used before. */
int api_policy_id(struct api *a, uint32_t *ret, struct err *err);
/* The number that stands for a user where limits are counted per user. */
uint32_t api_share(const char *user);
static inline uint64_t api_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}
