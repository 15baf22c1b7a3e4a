/*
 * Private networks in memory: which there are, and which sandbox is in which.
 *
 * A network is one user's. Its rules are in calls.h. In memory stands what the store says; boxes
 * hold pointers to their networks in the order of the networks' numbers, which is the order the
 * kernel wants. Joining and leaving a running sandbox's networks is an operation (flow_nets.c); the
 * kernel and the edges are told there, and everything here is but the books.
 */
#pragma once
#include "api/box.h"

#define NETS_PER_USER 100u

struct net_rules;
struct network {
	UT_hash_handle hh; /* by id */
	struct network_row row;
	uint32_t members;	 /* boxes that point here */
	struct net_rules *rules; /* who may call whom (calls.h); NULL: everybody everybody */
	uint32_t version;	 /* of the rules, as the host role was told last */
	bool untold;		 /* adoption: the kernel has other rules */
};

/* From the store; boxes are there already. */
int nets_load(struct api *a, struct err *err);
/* By the kernel's number; NULL. */
struct network *nets_by_number(struct api *a, uint32_t number);
/* By id, in either spelling, or by name. NULL: this user has none such. */
struct network *nets_find(struct api *a, const char *user, struct str word);
/* -EEXIST: the user has one of that name; -EDQUOT. */
int nets_add(struct api *a, const char *user, struct str name, struct network **ret,
	struct err *err);
/* The network's rules (taken; NULL: none) are these, in the store and in memory. What was before comes
 * back in *ret_before; the host role is the caller's to tell. */
int nets_rule(struct api *a, struct network *n, struct net_rules *rules,
	struct net_rules **ret_before, struct err *err);
/* -EBUSY: it has members. */
int nets_drop(struct api *a, struct network *n, struct err *err);

/* The books of one box. */
bool box_in(const struct box *b, const struct network *n);
int box_join(struct box *b, struct network *n, struct err *err); /* -E2BIG; in it already: 0 */
void box_leave(struct box *b, struct network *n);
void box_leave_all(struct box *b);
/* Rows for what the books say; within a transaction. */
int box_save_nets(struct box *b, struct err *err);
/* Do these numbers say the same as the books? */
bool box_nets_are(const struct box *b, const uint32_t *nets, uint32_t n);
/* Its overlay address; family 0 without a slot. */
struct ip box_overlay(const struct box *b);
