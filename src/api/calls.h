/*
 * Who may call whom in a private network, as its user says it: rules that name members.
 *
 *	{"default": "deny", "rules": [
 *		{"from": "web", "to": "db", "ports": ["5432"], "protocol": "tcp"},
 *		{"action": "deny", "from": "sb-01…", "to": "*"}]}
 *
 * An end is a member's name, a sandbox's id, or "*". What it names need not be there: a name means
 * whoever is called so at the time. So the slots behind the names are looked up anew each time the
 * rules are sent to the host role, which happens before a sandbox becomes a member (flow_nets.c,
 * flow_create.c) and when the rules change.
 */
#pragma once
#include "api/nets.h"
#include "policy/calls.h"
#include "wire/json.h"

struct net_rules {
	struct calls calls; /* ends are filled in when sent */
	struct {
		char from[IPC_ID_LEN], to[IPC_ID_LEN]; /* "*", a name, an id */
	} ends[CALLS_RULES_MAX];
};

/* *ret is NULL if everybody may call everybody: {"default": "allow", "rules": []}. */
int net_rules_from(const json_t *body, struct net_rules **ret, struct err *err);
void net_rules_write(const struct net_rules *r, struct jw *w); /* NULL: as above */
/* "allow web -> db tcp/5432" */
void net_rule_text(const struct net_rules *r, uint32_t rule, struct buf *out);

/* Give each end that is named a number of its own, as if all were there. */
void net_rules_number_ends(struct net_rules *r);
/* Tell the host role, under a new version. fn comes once; NULL: a failure is logged. */
typedef void (*net_sent_fn)(const struct err *err, void *arg);
void net_rules_send(struct api *a, struct network *n, net_sent_fn fn, void *arg);
/* Those of all networks with rules that the sandbox is in. The NETS that follows fails if one of them
 * did. */
void box_rules_send(struct box *b);

/* It is no more; whatever the host role makes of that. */
void net_gone_send(struct api *a, const struct network *n);

/* Do the rules let this call pass? The index of the rule, or WEIR_RULE_NONE, in *ret_rule. */
bool net_rules_allow(struct network *n, const struct box *from, const struct box *to,
	uint8_t proto, uint16_t port, uint32_t *ret_rule);
