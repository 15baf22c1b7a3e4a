/*
 * A played world around the unchanged resolver: scripted queries, upstream answers and time, a
 * table instead of the kernel's pins. Each test reads like a transcript.
 */
#pragma once
#include "base/clock.h"
#include "edge/resolver.h"
#include "../unit.h"

#define PLAY_SENT_MAX  64
#define PLAY_PINS_MAX  4096
#define PLAY_PORTS_MAX 4096
#define PLAY_NOTES_MAX 4096

struct play_sent { /* a question that went upstream */
	uint64_t sock;
	struct server server;
	bool tcp, open;
	struct dns_query q;
	bool sent;
};
struct play_pin {
	uint32_t policy;
	struct ip ip;
	struct weir_decision decision;
	uint64_t last_used;
};
struct play_note { /* what the next process will be told */
	char box[IPC_ID_LEN];
	struct kept kept;
};
struct play {
	struct resolver *r;
	struct resolver_conf conf;
	uint64_t now;
	struct play_sent sent[PLAY_SENT_MAX];
	size_t n_sent, n_sent_total;
	struct play_pin pins[PLAY_PINS_MAX];
	size_t n_pins;
	struct policy_port_entry ports[PLAY_PORTS_MAX];
	size_t n_ports;
	struct play_note notes[PLAY_NOTES_MAX];
	size_t n_notes, n_keeps;
	const char *hostname, *nets; /* that SET says; nets: "7:backend 9:front" */
	const char *box; /* the id that SET says; NULL: one of the slot's own */
	struct buf reply; /* the last one */
	struct dns_client replied_to;
	size_t n_replies;
	struct ipc_event_dns event; /* the last one */
	size_t n_events;
	bool events_lost; /* nobody takes them now */
	int pin_fails; /* what pin() returns */
	uint64_t random;
	bool refuse_open;
	struct ip closed; /* the operator has put it on the floor */
	size_t n_floor;	  /* how often the floor was asked */
};

struct play_conf {
	const char *upstreams; /* "9.9.9.9 8.8.8.8" */
	uint32_t qps, cache_entries, pins_max;
};
struct play *play_new(const struct play_conf *conf);
void play_free(struct play *p);
void play_restart(struct play *p); /* a new process: pins, port tables and notes stay */

/* A policy as words: "deny: allow api.example.com; allow 10.0.0.0/8 8080; deny *.x.org". The word
 * before the colon is the default. A condition that reads as a port is one, as a prefix likewise.
 */
struct policy *play_policy(const char *text);
/* SET slot (its link is 100 + slot, its address 10.60.0.slot). */
int play_set(struct play *p, uint32_t slot, uint32_t policy_id, const char *text);

/* A query from a slot to 169.254.77.1; name "a.b", EDNS. */
void play_ask(struct play *p, uint32_t slot, const char *name, uint16_t type);
void play_ask_at(
	struct play *p, uint32_t slot, const char *resolver, const char *name, uint16_t type);
void play_ask_raw(struct play *p, uint32_t slot, struct str msg);

/* An upstream answer to the i-th question sent (from 0): records as words separated by commas,
 * "name TYPE ttl value". rcode and TC as given. */
void play_answer(struct play *p, size_t i, uint8_t rcode, const char *records);
/* The same as bytes, for tampering. */
void play_answer_build(
	struct play *p, size_t i, uint8_t rcode, const char *records, struct buf *out);
void play_wait(struct play *p, uint64_t ms); /* time passes, ticks and sweeps come */

/* What the last reply says, as words: "NOERROR www.x.org A 60 1.2.3.4, …", flags TC and AD first.
 */
const char *play_reply(struct play *p);
int play_reply_ede(struct play *p); /* -1: none */
const struct play_pin *play_pin(struct play *p, uint32_t policy, const char *ip);
/* The kernel's verdict through a pin: 1 allow, 0 deny, -1 no pin. */
int play_pin_verdict(struct play *p, uint32_t policy, const char *ip, uint8_t proto, uint16_t port);
