/*
 * Slots: numbers, and a pool of ready networks for them.
 *
 *	FREE -> MAKING -> READY -> TAKEN -> DYING -> FREE
 *
 * A slot that is READY has its namespace, its link with the tc programs attached, quarantine in
 * the kernel's slot table and the agent's listening socket; nothing runs in it. It is held by
 * descriptors only, so a crash of the host role frees it. TAKEN, it belongs to a sandbox. DYING,
 * its link is on its way out (reaper.h), and only then may the number be used again.
 *
 * Numbers are handed out round, so that an address rests as long as possible before it means
 * another sandbox. A reserved number belongs to a stored sandbox that is not running: only a SPAWN
 * that asks for it by number gets it. Link names are "w" and a counter that a file keeps
 * across restarts: none is used twice while the machine runs.
 *
 * The pool is refilled by libuv's worker threads (a namespace with its link takes one to two
 * milliseconds), a moment after a slot was taken, so that the create that took it goes first.
 */
#pragma once
#include <uv.h>
#include "host/slotnet.h"

struct daemon;
struct slots;

struct slot {
	uint32_t number;
	char link[16];
	struct ip ip4, ip6;
	struct slotnet net; /* net.ns and net.agent_fd are the taker's to close */
};

int slots_new(struct daemon *d, struct slots **ret, struct err *err);
/* Ends the refilling and lets the ready slots go, through the reaper; not inside a callback. */
void slots_close(struct slots *s);
void slots_free(struct slots *s); /* after reaper_free(); NULL is fine */

/* Take a slot: from the pool, or made at once if the pool is empty or `number` (0: any) asks for
 * one that is not in it. ERR_CONFLICT if the number is in use, ERR_CAPACITY if all are. */
int slots_take(struct slots *s, uint32_t number, struct slot *ret, struct err *err);
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
/* These numbers, and no others, are reserved. */
void slots_reserve(struct slots *s, const uint32_t *numbers, unsigned int n);
/* Begin to fill the pool: after adoption. */
void slots_serve(struct slots *s);
unsigned int slots_used(const struct slots *s);
