/*
 * What sandboxes, slots and adoption need of the datapath, in their own terms: a link gets its
 * programs and quarantine, a sandbox its policy, the floor its addresses.
 */
#pragma once
#include "policy/policy.h"
#include "sandbox/slots.h"

#define BPFFS "/sys/fs/bpf"

struct daemon;

/* A BPF file system at BPFFS: mounted if it is not. */
int net_need_bpffs(struct err *err);
/* Open the kernel program and its maps (pinned under the daemon's name), write the floor and keep
 * it current, open the DNS proxy's sockets and put them in place. */
int net_open(struct daemon *d, struct err *err);
void net_close(struct daemon *d); /* also after a failed net_open; pins stay */

/* The host's own addresses, at most max of them, as the floor has them now. Returns how many. */
uint32_t net_host_addresses(const struct daemon *d, struct ip *ret, uint32_t max);

/* A new link: quarantined in the slot table first, then the programs attached. */
int net_attach(struct daemon *d, const struct slot *s, struct err *err);
/* The link of an adopted sandbox, around which this build's programs are put. *policy becomes what
 * the kernel has in force; 0: nothing that fits was found, the slot is quarantined. */
int net_adopt(struct daemon *d, const struct slot *s, uint32_t *policy, struct err *err);
/* No packet passes from here on; the policy's keys go too. */
void net_detach(struct daemon *d, uint32_t number);
/* share: whose sandbox it is, for the limits per user. */
int net_commit(struct daemon *d, uint32_t number, uint32_t share, uint32_t id,
	const struct policy *p, struct err *err);
/* The private networks it is in, each under the rules that the asker means; and what the kernel has. */
int net_members(struct daemon *d, uint32_t number, const struct ipc_nets *nets, struct err *err);
void net_members_get(const struct daemon *d, uint32_t number, struct ipc_sandbox *ret);
/* Who may call whom in a private network. */
int net_rules(struct daemon *d, const struct ipc_net *net, struct err *err);
/* May the edge connect to it? */
int net_ingress(struct daemon *d, uint32_t number, bool on, struct err *err);
bool net_ingress_get(const struct daemon *d, uint32_t number);
/* After adoption: clear every slot that is not owned, and keys that no slot uses. Returns how many
 * slots. */
unsigned int net_sweep(struct daemon *d, bool (*owned)(uint32_t number, void *arg), void *arg);
