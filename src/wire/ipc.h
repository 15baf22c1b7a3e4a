/*
 * Messages between roles. Plain structs of fixed size: both ends are the same
 * build on the same machine; text is NUL-terminated inside its array, and the
 * receiver checks sizes and terminators (ipc_text_ok) before use.
 *
 *   api  -> host   sandboxes and policies, kernel objects            IPC_HOST_*
 *   host -> api    what happened by itself                           IPC_EVENT_*
 *   api  -> edge   who exists, and what each may resolve             IPC_EDGE_*
 *   edge -> api    names that were refused; use of ingress           IPC_EVENT_DNS, _INGRESS_*
 *   edge -> host   sockets that only the host namespace can make     IPC_HOST_UPSTREAM
 *   host -> both   IPC_BOOT_*, IPC_SHUTDOWN, IPC_ALIVE
 *
 * Order of a create, which closes L1 (no packet before its policy):
 *   1 api -> host  SPAWN      slot taken, agent up, slot still quarantined
 *     api -> host  NETS       its private networks, if it is in any
 *   2 api -> edge  SET        slot, link, policy id, networks; learned names are re-pinned
 *   3 api -> host  COMMIT     prefixes written, slot flipped to the policy id
 *     api -> host  INGRESS    if it may be reached from outside, then edge INGRESS (ipc_ingress.h)
 *   4 api answers the client
 * A build of an image is BUILD, 2, 3, and IPC_EVENT_BUILD when it has ended.
 * A policy change is 2, 3, then edge RETIRE of the old id. Joining or leaving a network is NETS,
 * then 2. NET, the rules of a network with the slots of the members they name, goes before the NETS
 * that makes a slot a member. Adoption after a restart is LIST, then 2 (and 3 where the slot's policy
 * id is not the stored one, NETS where its networks are not), then INGRESS.
 */
#pragma once
#include "base/ulid.h"
#include "base/err.h"
#include "base/ip.h"

#ifndef WEIR_LATER
#define WEIR_LATER 0 /* 1: the build to come, as far as a test needs one (tests/later) */
#endif
#define IPC_VERSION  (2 + WEIR_LATER)
#define IPC_MSG_MAX  32768
#define IPC_FDS_MAX  4
#define IPC_ID_LEN   32	 /* "sb-" + ULID + NUL, rounded up */
#define IPC_NAME_LEN 64
#define IPC_NETS_MAX 8	 /* private networks of one sandbox: WEIR_NETS_MAX */
#define IPC_INGRESS_PORTS 2 /* of the host, for one sandbox: /proxy/{port}/…, and straight to 8080 */
#define IPC_CALLS_MAX	   64 /* rules of one network: CALLS_RULES_MAX */
#define IPC_CALL_PORTS_MAX 16
#define IPC_HOST_ADDRS 64 /* told to the api role; the kernel's floor holds all of them */

enum ipc_type {
	IPC_NONE = 0,
	IPC_REPLY,
	/* boot, host role to the others */
	IPC_BOOT_FD,   /* struct ipc_boot_fd + 1 descriptor */
	IPC_BOOT_DONE, /* struct ipc_boot_done */
	IPC_SHUTDOWN,  /* finish what is answered soon, then exit */
	IPC_ALIVE,     /* call without payload; the channel answers it itself (event/chan.h) */

	/* api -> host, all calls */
	IPC_HOST_LIST = 32,  /* -> struct ipc_sandbox[] in one reply (memfd if many, see ipc_list) */
	IPC_HOST_RESERVE,    /* struct ipc_reserve: these slots belong to stored sandboxes */
	IPC_HOST_SPAWN,	     /* struct ipc_spawn -> struct ipc_sandbox */
	IPC_HOST_COMMIT,     /* struct ipc_commit + memfd of policy_encode() */
	IPC_HOST_FREEZE,     /* struct ipc_id */
	IPC_HOST_THAW,	     /* struct ipc_id */
	IPC_HOST_DESTROY,    /* struct ipc_destroy: answered when everything is reclaimed */
	IPC_HOST_STATS,	     /* struct ipc_id -> struct ipc_stats */
	IPC_HOST_GROW,	     /* struct ipc_grow: writable layer or memory, online */
	IPC_HOST_IMAGES,     /* -> struct ipc_image[] : images in the store */
	IPC_HOST_BUILD,	     /* struct ipc_build + its credentials -> struct ipc_sandbox, its slot, and
			      * 1 descriptor: the log, read to its end. It begins with COMMIT */
	IPC_HOST_INFO,	     /* -> struct ipc_host_info */
	IPC_HOST_NETS,	     /* struct ipc_nets: it is in these private networks and in no others */
	IPC_HOST_INGRESS,    /* struct ipc_ingress -> its ports' listeners, 0 to 2 descriptors */
	IPC_HOST_NET,	     /* struct ipc_net: who may call whom in a private network */
	IPC_HOST_IMAGE_DROP, /* struct ipc_image_drop: no sandbox has it, and none will. Answered
			      * when it is gone */
	IPC_HOST_PAIR,	     /* struct ipc_edge_up: the channel to that worker broke, make another;
			      * it comes as IPC_EVENT_EDGE. -EAGAIN: the worker is starting */
	IPC_HOST_COPY,	     /* struct ipc_copy: of a machine that runs, for the next SPAWN from it */
	IPC_HOST_MACHINES,   /* -> struct ipc_machines */

	/* host -> api, sends */
	IPC_EVENT_EXITED = 64, /* struct ipc_exited: a sandbox's first process ended by itself */
	IPC_EVENT_EDGE,	       /* struct ipc_edge_up + 1 descriptor: a (new) edge worker's channel */
	IPC_EVENT_BUILD,       /* struct ipc_build_done */

	/* api -> edge, calls */
	IPC_EDGE_SET = 96,     /* struct ipc_edge_set + memfd of policy_encode() */
	IPC_EDGE_RETIRE,       /* struct ipc_edge_retire */
	IPC_EDGE_DEL,	       /* struct ipc_edge_retire: the sandbox is gone */
	IPC_EDGE_SYNCED,       /* after adoption: slots not SET since the connection are unknown */
	IPC_EDGE_LEARNED,      /* struct ipc_slot -> text lines "address name ttl", for explain */
	IPC_EDGE_INGRESS = 112, /* struct ipc_edge_ingress (wire/ipc_ingress.h) + its listeners */
	IPC_EDGE_INGRESS_KEYS,	/* struct ipc_ingress_keys */

	/* edge -> api, sends */
	IPC_EVENT_DNS = 128,   /* struct ipc_event_dns */
	IPC_EVENT_INGRESS_SEEN = 144, /* struct ipc_ingress_seen (wire/ipc_ingress.h) */
	IPC_EVENT_INGRESS_CONN,	      /* struct ipc_ingress_conn + 1 descriptor */
	IPC_EVENT_INGRESS_WAKE,	      /* struct ipc_ingress_wake, a call */

	/* edge -> host, calls */
	IPC_HOST_UPSTREAM = 160, /* struct ipc_upstream -> 1 to IPC_FDS_MAX descriptors */
};

struct ipc_error { /* payload of a reply whose status is negative */
	uint32_t kind;
	char field[64];
	char text[400];
};
struct ipc_boot_fd {
	char name[IPC_NAME_LEN];
};
struct ipc_boot_done {
	uint32_t version; /* IPC_VERSION */
	uint32_t worker;  /* edge: its number */
	uint64_t boot_id; /* changes when the machine rebooted: kernel state is new */
};
struct ipc_id {
	char id[IPC_ID_LEN];
};
struct ipc_slot {
	uint32_t slot;
};

/* BEGIN: what can be copied while it runs. REST: the rest, for which it stands still; it runs on when this is
 * answered, also with an error. Between the two its agent has it hold its processes. DROP: nobody wants it. */
enum ipc_copy_step { IPC_COPY_BEGIN, IPC_COPY_REST, IPC_COPY_DROP };
struct ipc_copy {
	char id[IPC_ID_LEN];
	uint32_t step;
};

enum ipc_run { IPC_RUN_RUNNING, IPC_RUN_FROZEN, IPC_RUN_DEAD };

struct ipc_sandbox { /* a sandbox as the kernel has it */
	char id[IPC_ID_LEN];
	uint32_t slot, ifindex, policy, state; /* enum ipc_run */
	struct ip ip4, ip6;	 /* ip6.family 0: no IPv6 here */
	char link[16];		 /* name of the link in the router namespace */
	uint32_t spawn_us;	 /* time the host role took */
	int32_t exit_status;	 /* DEAD: wait status, or -1 if unknown */
	uint32_t n_nets, nets[IPC_NETS_MAX];
	uint32_t ingress; /* 1: the edge may connect to it */
	uint32_t net_versions[IPC_NETS_MAX]; /* of their rules in force; UINT32_MAX: not known */
};
struct ipc_list { /* reply of LIST; with more than fit, n is set and a memfd holds them all */
	uint32_t n;
	struct ipc_sandbox s[];
};
struct ipc_reserve {
	uint32_t n;
	uint32_t slots[4096];
};
struct ipc_spawn {
	char id[IPC_ID_LEN];
	char hostname[IPC_NAME_LEN];
	char image[IPC_NAME_LEN];   /* catalogue name, resolved by the image store */
	char runtime[16];	    /* "container" */
	uint32_t slot;		    /* wanted; 0: any */
	uint32_t vcpu_milli;	    /* CPU cap in thousandths of one CPU; 0: none */
	uint32_t mem_mib, disk_mib, pids;
	uint32_t revive;	    /* 1: the writable layer of this id exists and is to be used */
	char from[IPC_ID_LEN];	    /* a paused sandbox that it goes on from, with what it had in memory
				     * and on disk, or one that runs and that COPY was asked of; "":
				     * it begins anew */
	uint32_t paused;	    /* 1: such a one that is FROZEN at first */
};
struct ipc_commit {
	char id[IPC_ID_LEN];
	uint32_t slot, policy; /* the new id; the old one is deleted after the flip */
	uint32_t share;	       /* stands for the user, whose sandboxes have limits together; not 0 */
};
struct ipc_nets {
	char id[IPC_ID_LEN];
	uint32_t slot;
	uint32_t n, nets[IPC_NETS_MAX];	 /* numbers, ascending */
	uint32_t versions[IPC_NETS_MAX]; /* of rules that NET put in force; 0: the network has none */
};
struct ipc_call { /* policy/calls.h has the meaning of all */
	uint32_t from, to;
	uint8_t action, protos;
	uint16_t n_ports;
	uint16_t ports[IPC_CALL_PORTS_MAX][2];
};
struct ipc_net {
	uint32_t number;
	uint32_t version; /* new; 0: no rules */
	uint32_t gone;	  /* 1: the network is no more, the rest does not count */
	uint32_t fallback, n;
	struct ipc_call rules[IPC_CALLS_MAX];
};
struct ipc_ingress {
	char id[IPC_ID_LEN];
	uint32_t slot;
	uint32_t on; /* the edge may connect to it */
	/* Ports of the host, of the range in the configuration, that are its until it is destroyed or
	 * this is said anew; 0: none. -EADDRINUSE: somebody has one of them, and nothing changed. */
	uint16_t port[IPC_INGRESS_PORTS];
};
struct ipc_destroy {
	char id[IPC_ID_LEN];
	uint32_t keep_disk; /* 1: the writable layer stays (for revive) */
};
struct ipc_grow {
	char id[IPC_ID_LEN];
	uint32_t disk_mib, mem_mib; /* 0: stays as it is. Memory may become less, too: -EBUSY if that
				     * much is in use */
};
struct ipc_stats {
	uint64_t mem_bytes, cpu_usec, pids, disk_bytes;
};
/* How a machine began: it booted; as a clone of a template, or as one of those that stood ready; from its own file;
 * from another's. */
enum ipc_start { IPC_START_BOOT, IPC_START_WARM, IPC_START_READY, IPC_START_RESUME, IPC_START_FORK, IPC_STARTS };
enum ipc_template { IPC_TEMPLATE_WARM, IPC_TEMPLATE_FORK, IPC_TEMPLATES }; /* what begins from it */
struct ipc_machines { /* counted since the host role began */
	uint64_t starts[IPC_STARTS];
	struct ipc_templates {
		uint64_t made;
		uint64_t kept, mib; /* now; what counts for them, with what is being made */
	} templates[IPC_TEMPLATES];
	uint64_t ready, ready_mib; /* now; the memory with what will stand ready soon */
};
struct ipc_image {
	char name[IPC_NAME_LEN];
	char digest[72]; /* "sha256:…" of the content */
	uint64_t bytes;
};
struct ipc_build {
	char id[IPC_ID_LEN];	 /* for COMMIT */
	char name[IPC_NAME_LEN]; /* "devbox:1" */
	char from[256];		 /* an image of a registry; "": the recipe of that name. The
				  * descriptor is a memory file as of containers-auth.json(5), or
				  * an empty one */
};
struct ipc_image_drop {
	char name[IPC_NAME_LEN];
};
struct ipc_build_done {
	char id[IPC_ID_LEN];
	char name[IPC_NAME_LEN];
	int32_t status; /* 0 or an exit code; 124: it took too long */
};
struct ipc_exited {
	char id[IPC_ID_LEN];
	int32_t status;
	uint32_t oom;
};
struct ipc_edge_up {
	uint32_t worker;
};
struct ipc_host_info {
	uint64_t mem_total, mem_free;
	uint32_t slots_max, slots_used, has_ipv6, version;
	char hostname[IPC_NAME_LEN];
	char runtimes[IPC_NAME_LEN]; /* "container" or "container vm" */
	char preferred[16];	     /* what "auto" means: "vm" where KVM was seen to work */
	char vm[460];		     /* what machines run by, and why; or why there are none */
	uint32_t n_host;
	struct ip host[IPC_HOST_ADDRS]; /* its own addresses: rules inside them are refused */
};
struct ipc_edge_set {
	char id[IPC_ID_LEN];
	uint32_t slot, ifindex, policy; /* names that are answered from now on pin under this id too */
	uint32_t has_ipv6;
	char hostname[IPC_NAME_LEN];
	struct ip ip4, ip6;
	uint32_t n_nets; /* its private networks: whom it can name, and who can name it */
	struct ipc_edge_net {
		uint32_t number;
		char name[IPC_NAME_LEN];
	} nets[IPC_NETS_MAX];
};
struct ipc_edge_retire {
	uint32_t slot, policy;
};
/* Sockets towards a resolver that only the host's namespace reaches (loopback or an address of the
 * host's own): nonblocking, connected (TCP: connecting), each from a random source port. addr must
 * be an upstream of "resolv"; anything else is refused. */
struct ipc_upstream {
	struct ip addr;
	uint32_t tcp;	/* 0: UDP */
	uint32_t count; /* 1..IPC_FDS_MAX */
};
struct ipc_event_dns {
	uint32_t slot, policy;
	uint32_t reason; /* enum weir_reason: NAME, REBIND, DNS_LIMIT, DNS_INVALID */
	uint16_t rule, qtype;
	uint32_t suppressed; /* refusals since the last event that the rate bound kept back */
	struct ip addr;	     /* REBIND: the address removed */
	char name[256];
};

/* Is the array a terminated string? */
static inline bool ipc_text_ok(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}
