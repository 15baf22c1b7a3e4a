/*
 * The configuration: one table of keys (config_keys.c), each with its type, default,
 * limits and a sentence of help. The same table reads the file, prints every
 * complaint of `weird --check` with file and line, writes the example file and
 * the manual page's list.
 *
 * Form: `key = value` lines, `#` comments; lists are comma-separated. Later
 * settings (--set key=value) override earlier ones. Unknown keys are errors.
 * The file is root's, read by the host role and handed to the others.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/ip.h"

#define CONFIG_LISTEN_MAX 8
#define CONFIG_LIST_MAX	  64

struct config_listen { /* "127.0.0.1:8080", optionally "…/createos": bound to one dialect */
	struct ip ip;
	uint16_t port; /* 0: any free port; the chosen one is written to <run>/api.addr */
	char dialect[16]; /* "all", "createos", … */
};
struct config_listens {
	struct config_listen at[CONFIG_LISTEN_MAX];
	unsigned int n;
};
struct config_ports { /* "30000-32767"; both 0: none */
	uint16_t first, last;
};
struct config_prefixes {
	struct prefix p[CONFIG_LIST_MAX];
	unsigned int n;
};
struct config_ips {
	struct ip ip[8];
	unsigned int n;
};

struct config {
	char daemon_name[12];	  /* names of namespaces, cgroups, links: [a-z0-9-]; default "weir" */
	char daemon_user[32];	  /* user of the api and edge roles; default "weir" */
	char state_dir[200];	  /* /var/lib/weir */
	char run_dir[200];	  /* /run/weir */
	char image_dir[200];	  /* <state_dir>/images when empty; several daemons may share one */
	int log_level;		  /* enum log_level */
	struct config_listens api_listen;
	char api_cors_origins[1024];
	uint32_t api_body_max_mib;	/* JSON bodies; default 8 */
	uint32_t api_connections_max;	/* default 4096 */
	uint32_t api_connections_per_address; /* default 2048 */
	char api_region[32];		/* default "local" */
	uint32_t sandboxes_per_user;	/* 0: no limit */
	uint32_t sandboxes_timeout_max_s; /* 0: no limit, and a sandbox may live for ever */
	uint32_t edge_workers;		/* default 1 */
	struct config_listens ingress_listen; /* 127.0.0.1:8081 */
	char ingress_domain[200];	/* default "localhost" */
	bool ingress_https;		/* ingress.scheme = http (default) | https */
	uint16_t ingress_public_port;	/* 0: that of the first listener */
	char ingress_template[8];	/* auto | host | path; the host role settles auto */
	char ingress_cert[200], ingress_key[200]; /* PEM files; empty: self-made */
	struct config_ports ingress_ports; /* 30000-32767 */
	char ingress_ports_open[8];	   /* both | proxy | direct */
	uint32_t ingress_connections_max;	  /* default 12288 */
	uint32_t ingress_connections_per_address; /* default 4096 */
	uint32_t ingress_connections_per_sandbox; /* default 1024 */
	uint32_t ingress_upstreams_max;		  /* default 4096 */
	uint32_t ingress_head_max;	/* bytes; default 32768 */
	uint32_t ingress_head_s, ingress_idle_s, ingress_connect_s, ingress_answer_s,
		ingress_silence_s, ingress_hold_s;
	uint32_t ingress_held_max;	/* requests waiting for one sandbox; default 1024 */
	char gateway_mode[12];		/* off (default) | wildcard | header | uri */
	char gateway_address[256];	/* "": as ingress_* has it */
	char gateway_keys[200];		/* a file: wire/keys.h; "": none */
	struct prefix net_range4;	/* 10.60.0.0/16: /12../24; its last /30 is the uplink */
	struct prefix net_range6;	/* fd77:6569:7200::/64, a /64; its last /126 is the uplink */
	struct prefix net_overlay4;	/* 10.42.0.0/16 */
	bool net_ipv6;			/* default true; off: links get no IPv6 at all */
	struct config_ips dns_upstream;	/* empty: from the host's resolver configuration */
	uint16_t dns_upstream_port;	/* default 53; for tests */
	uint32_t dns_qps;		/* per sandbox; default 200, burst twice that */
	uint32_t dns_cache_entries;	/* default 65536 */
	uint32_t dns_pins_per_sandbox;	/* default 1024 */
	bool egress_reject;		/* egress.refuse = reject (default) | drop */
	bool egress_other_protocols;	/* allow | drop (default) */
	bool egress_smtp;		/* allow | drop (default) */
	uint32_t egress_flows_per_sandbox; /* default 32768 */
	uint32_t egress_flows_per_user;	   /* default 40960 */
	uint32_t egress_rules_per_user;	   /* kernel entries of policies; default 131072 */
	char egress_deny_always[200], egress_allow_always[200]; /* files; "": none */
	bool egress_block_doh_443;	/* on | off (default): OpenSandbox's policies */
	struct config_prefixes egress_doh_blocklist;
	char egress_image[200];		/* "": policies are refused where upstream would */
	char secure_runtime_type[16];	/* "", gvisor, kata, firecracker */
	struct config_prefixes floor_deny, floor_allow;
	uint32_t pool_slots;		/* ready sandboxes; default 16 */
	uint32_t uid_base;		/* first host uid of slot 1's range of 65536; default 1048576 */
	uint32_t sandbox_pids;		/* default 1024 */
	uint32_t disk_max_mib;		/* default 102400 */
	char disk_backend[8];		/* auto | quota | loop */
	char build_allow[2048];		/* what builds may reach; "": nothing */
	char build_proxy[200], build_ca[200]; /* "": none; the machine's */
	uint32_t build_at_once;		/* default 2 */
	uint32_t build_time_s;		/* default 1800 */
	uint32_t build_memory_mib;	/* default 4096 */
	uint32_t build_disk_mib;	/* unpacked; default 16384 */
	char images_registries[1024];	/* where creates may fetch from; "": nowhere */
	uint32_t images_pulled_mib;	/* kept of what they fetched; default 20480 */
	uint32_t images_layers_mib;	/* as sent; default 8192 */
	char rootfs_default[64];	/* devbox:1 */
	char runtime_default[16];	/* auto | container */
	char vm_accel[8];		/* auto | tcg */
	uint32_t vm_ready;		/* machines; default 1 */
	uint32_t vm_fork_mib;		/* of what forks begin from; default 4096 */
	uint32_t vm_warm_mib;		/* of templates; default 2048 */
	char cgroup_root[64];		/* name of the top-level cgroup; default: daemon.name */
	bool store_sync_full;		/* fsync each commit; default false: safe against kill -9, not
					 * against power loss of the last moments */
	uint32_t destroyed_keep_hours;	/* destroyed rows stay readable; default 24 */
};

void config_defaults(struct config *c);
/* Read text (name: for complaints). All complaints go to `complaints`, one line each,
 * "file:line: key: what is wrong, what is allowed". 0 or -EINVAL if there was any. */
int config_read(struct config *c, const char *name, struct str text, struct buf *complaints);
/* One "key=value". */
int config_set(struct config *c, struct str assignment, struct err *err);
/* After the last setting: fills the keys whose default is another key's value (image_dir,
 * cgroup_root) and checks what only several keys together can violate. 0 or -EINVAL. */
int config_finish(struct config *c, struct buf *complaints);
/* Print all keys with their current values (the example file: with help as comments). */
int config_print(const struct config *c, bool with_help, struct buf *out);
