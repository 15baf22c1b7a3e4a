/*
 * Slots: numbers, and a pool of ready ones.
 *
 *	FREE -> MAKING -> READY -> TAKEN -> DYING -> FREE
 *
 * A slot that is READY has its namespace, its link with the tc programs attached, quarantine in
 * the kernel's slot table, the agent's listening socket, and in all that a parked sandbox
 * (runtime/runtime.h) which waits for its name. It is held by descriptors only, so a crash of the
 * host role frees it. TAKEN, it belongs to a sandbox. DYING, its link is on its way out (reaper.h),
 * and only then may the number be used again.
 *
 * What is parked is made from an image and for a disk size. The pool bets on what was asked for
 * last; a request that finds no such slot gets one made (an order), in the net of a ready slot that
 * was made for something else if there is one. So the pool follows the mix of requests, one slot a
 * miss.
 *
 * Only one runtime is pooled, and its kind of link. Of another `vm.ready` slots are had ready with what it
 * can have standing (runtime.h), made one at a time in a pause of requests; the rest when they are ordered.
 *
 * Numbers are handed out round, so that an address rests as long as possible before it means
 * another sandbox. A reserved number belongs to a stored sandbox that is not running: only a SPAWN
 * that asks for it by number gets it. Link names are "w" and a counter that a file keeps
 * across restarts: none is used twice while the machine runs.
 *
 * Making happens off the loop: nets in libuv's worker threads (one to two milliseconds each), what
 * is parked in processes of its own. Orders go first: the pool is refilled while there are none, in
 * a pause after a slot was taken, so that the creates that the pool can serve are through.
 */
#pragma once
#include <uv.h>
#include "host/slotnet.h"
#include "runtime/runtime.h"

struct daemon;
struct runner;
struct slots;

struct slot {
	uint32_t number;
	char link[16];
	struct ip ip4, ip6;
	struct slotnet net;
	const struct runner *runner;   /* whose kind the link is of */
	struct runtime_parked *parked; /* NULL: nothing */
};

struct slots_want {
	const struct runner *runner;
	uint32_t number; /* 0: any */
	char image[IPC_NAME_LEN]; /* "": a net with nothing parked in it */
	uint32_t vcpu_milli, mem_mib, disk_mib;
	char revive[IPC_ID_LEN]; /* the sandbox whose layer is used; "": a new one */
	char from[IPC_ID_LEN];	 /* the paused sandbox that it begins as; "": none */
	bool paused;
};
/* slot NULL: there is none, err says why. What net and parked hold is the taker's from here on. */
typedef void (*slots_fn)(struct slot *slot, const struct err *err, void *arg);

int slots_new(struct daemon *d, struct slots **ret, struct err *err);
/* Ends the refilling and lets the ready slots go, through the reaper; not inside a callback. */
void slots_close(struct slots *s);
void slots_free(struct slots *s); /* after reaper_free(); NULL is fine */

/* Order a slot with a sandbox parked in it: fn is called once, at once if one is ready. ERR_CONFLICT
 * if the number is in use, ERR_CAPACITY if all are. */
void slots_order(struct slots *s, const struct slots_want *want, slots_fn fn, void *arg);
/* A taken slot whose sandbox never began: descriptors, what is parked, and slots_drop(). */
void slots_give_up(struct slots *s, struct slot *slot);
/* Its sandbox is gone: quarantine at once, delete the link, then the number is free; done (may be
 * NULL) is called then. keep: the number stays out of circulation (its sandbox is dead, not
 * destroyed) until slots_release(). */
void slots_drop(struct slots *s, uint32_t number, uint32_t ifindex, bool keep,
	void (*done)(void *arg), void *arg);
void slots_release(struct slots *s, uint32_t number);
/* An adopted sandbox has it. */
int slots_adopt(struct slots *s, uint32_t number, struct err *err);
/* It turned out to be dead: as after slots_drop() with `keep`, whoever takes its link away. */
void slots_keep(struct slots *s, uint32_t number);
/* The image is going: nothing parked with it stays. */
void slots_forget(struct slots *s, const char *image);
/* These numbers, and no others, are reserved. */
void slots_reserve(struct slots *s, const uint32_t *numbers, unsigned int n);
/* A runtime has something new in the background: more may stand ready. */
void slots_news(struct daemon *d);
/* Begin to fill the pool: after adoption. */
void slots_serve(struct slots *s);
unsigned int slots_used(const struct slots *s);
/* The network of a slot whose number, addresses, link and runner are known. Borrows its link's name. */
struct slotnet_plan slots_plan(const struct slots *s, const struct slot *slot);
