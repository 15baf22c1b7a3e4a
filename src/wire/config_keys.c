/*
 * Every key of the configuration, and what a text among them may be. Defaults are text and go through
 * the same setter as the file and --set (config.c), so a default that the table itself would refuse
 * cannot exist (a test looks).
 */
#include "wire/config_keys.h"

/* --- what a text may be --- */

static bool text_is(struct str s, const char *first, const char *rest)
{
	for (size_t i = 0; i < s.n; i++)
		if (!s.p[i] || !strchr(i ? rest : first, s.p[i]))
			return false;
	return true;
}

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGIT "0123456789"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static bool is_name(struct str s)
{
	return s.n && text_is(s, LOWER, LOWER DIGIT "-");
}

static bool is_user(struct str s)
{
	return s.n && text_is(s, LOWER "_", LOWER DIGIT "_-");
}

static bool is_path(struct str s)
{
	/* No "," ":" or "\": these directories are written into mount options. */
	static const char letters[] = LOWER UPPER DIGIT "/._-+@";

	if (s.n < 2 || s.p[s.n - 1] == '/' || !text_is(s, "/", letters))
		return false;
	for (struct str rest = str_skip(s, 1); rest.p;) {
		struct str part = str_cut(&rest, '/');

		if (part.n == 0 || str_eq_c(part, ".") || str_eq_c(part, ".."))
			return false;
	}
	return true;
}

static bool is_path_or_empty(struct str s)
{
	return s.n == 0 || is_path(s);
}

static bool is_cgroup(struct str s)
{
	return text_is(s, LOWER DIGIT, LOWER DIGIT "_-.");
}

static bool is_region(struct str s)
{
	return s.n && text_is(s, LOWER UPPER DIGIT, LOWER UPPER DIGIT "._-");
}

static bool is_image(struct str s)
{
	return s.n && text_is(s, LOWER DIGIT, LOWER DIGIT "._/:-");
}

/* What the list means is policy/createos.h's; here, that it can be one. */
static bool is_targets(struct str s)
{
	return text_is(s, LOWER UPPER DIGIT "*[", LOWER UPPER DIGIT "*._/:[]-, ");
}

/* No user and no password: it stands in the environment of foreign code. */
static bool is_proxy(struct str s)
{
	return !s.n || (str_starts(s, STR("http://")) && s.n > 7 &&
			       text_is(str_skip(s, 7), LOWER UPPER DIGIT "[", LOWER UPPER DIGIT ".:[]-"));
}

static bool is_domain(struct str s)
{
	for (struct str rest = s; rest.p;) {
		struct str label = str_cut(&rest, '.');

		if (label.n > 63 || !text_is(label, LOWER DIGIT, LOWER DIGIT "-") || !label.n ||
			label.p[label.n - 1] == '-')
			return false;
	}
	return true;
}

static bool is_template(struct str s)
{
	return str_eq_c(s, "auto") || str_eq_c(s, "host") || str_eq_c(s, "path");
}

static bool is_ports_open(struct str s)
{
	return str_eq_c(s, "both") || str_eq_c(s, "proxy") || str_eq_c(s, "direct");
}

static bool is_gateway(struct str s)
{
	return str_eq_c(s, "off") || str_eq_c(s, "wildcard") || str_eq_c(s, "header") || str_eq_c(s, "uri");
}

/* host, perhaps with a port; "*." in front of it for names below it. */
static bool is_address(struct str s)
{
	struct str rest = str_starts(s, STR("*.")) ? str_skip(s, 2) : s, host = rest;
	struct ip ip;
	uint64_t port;
	bool v6 = rest.n && rest.p[0] == '[';

	if (!s.n)
		return true;
	if (v6) {
		rest = str_skip(rest, 1);
		host = str_cut(&rest, ']');
		if (!rest.p || ip_from(host, &ip) < 0 || ip.family != 6 || host.p != s.p + 1 ||
			(rest.n && rest.p[0] != ':'))
			return false;
		rest = rest.n ? str_skip(rest, 1) : STR_NONE;
	} else {
		host = str_cut(&rest, ':');
	}
	return (v6 || is_domain(host)) &&
		(!rest.p || (str_u64(rest, UINT16_MAX, &port) == 0 && port && rest.p[0] != '0'));
}

static bool is_backend(struct str s)
{
	return str_eq_c(s, "auto") || str_eq_c(s, "quota") || str_eq_c(s, "loop");
}

static bool is_runtime(struct str s)
{
	return str_eq_c(s, "auto") || str_eq_c(s, "container") || str_eq_c(s, "vm");
}

static bool is_accel(struct str s)
{
	return str_eq_c(s, "auto") || str_eq_c(s, "tcg");
}

static bool is_word(struct str s)
{
	return text_is(s, LOWER UPPER DIGIT, LOWER UPPER DIGIT "._/:@-");
}

static bool is_secure_runtime(struct str s)
{
	return !s.n || str_eq_c(s, "gvisor") || str_eq_c(s, "kata") || str_eq_c(s, "firecracker");
}

static bool is_origins(struct str s)
{
	static const char host[] = LOWER UPPER DIGIT ".-:[]";

	if (s.n == 0)
		return true;
	while (s.p) {
		struct str o = str_trim(str_cut(&s, ','));
		struct str rest = str_starts(o, STR("https://")) ? str_skip(o, 8) :
			str_starts(o, STR("http://"))		 ? str_skip(o, 7) :
								   STR_NONE;

		if (!str_eq_c(o, "*") && (!rest.n || !text_is(rest, host, host)))
			return false;
	}
	return true;
}

/* --- the keys --- */

#define AT(member) offsetof(struct config, member), sizeof(((struct config *)0)->member)
#define UID_BASE_MAX (UINT32_MAX - 1 - 65001u * 65536u + 1) /* slot 65,000 still fits below -1 */

const struct key config_keys[] = {
	{ "daemon.name", TEXT, AT(daemon_name), "weir", .ok = is_name,
		.allowed = "1 to 11 of a-z, 0-9 and -, a letter first",
		.help = "Begins the names of this daemon's namespaces, links and cgroups: unique on "
			"the machine." },
	{ "daemon.user", TEXT, AT(daemon_user), "weir", .ok = is_user,
		.allowed = "a user name of at most 31 letters",
		.help = "The user that the api and edge roles run as." },
	{ "daemon.state_dir", TEXT, AT(state_dir), "/var/lib/weir", .ok = is_path,
		.allowed = "an absolute path of letters, digits and ._-+@/, at most 199 long",
		.help = "What outlives a reboot: the database and the writable layers." },
	{ "daemon.run_dir", TEXT, AT(run_dir), "/run/weir", .ok = is_path,
		.allowed = "an absolute path of letters, digits and ._-+@/, at most 199 long",
		.help = "What a reboot forgets: mounts, pinned maps, addresses of this daemon." },
	{ "daemon.image_dir", TEXT, AT(image_dir), "", .ok = is_path_or_empty,
		.allowed = "empty, or an absolute path of letters, digits and ._-+@/, at most 199 long",
		.help = "Root file systems; several daemons may share them. Empty: images below "
			"daemon.state_dir." },
	{ "log.level", LEVEL, AT(log_level), "info", .allowed = "debug, info, warn or error",
		.help = "The least serious event that is logged." },

	{ "api.listen", LISTENS, AT(api_listen), "127.0.0.1:8080",
		.allowed = "1 to 8 of address:port, each optionally followed by /all, /createos, "
			   "/opensandbox or /sandbox0",
		.help = "Where the API listens. A dialect after the port binds that listener to it; "
			"port 0 takes a free one and writes it to api.addr in daemon.run_dir." },
	{ "api.cors_origins", TEXT, AT(api_cors_origins), "", .ok = is_origins,
		.allowed = "* or a list of http://host:port and https://host:port",
		.help = "Web origins that may call the API from a browser. Empty: none." },
	{ "api.body_max_mib", U32, AT(api_body_max_mib), "8", 1, 1024,
		.help = "The largest JSON request body, in MiB. File uploads are not bound by it." },
	{ "api.connections_max", U32, AT(api_connections_max), "4096", 16, 65536,
		.help = "Client connections at the same time." },
	{ "api.connections_per_address", U32, AT(api_connections_per_address), "2048", 0, 65536,
		.help = "The same from one address (IPv6: from one /64). 0: no limit of its own, for "
			"listeners behind a proxy." },
	{ "api.region", TEXT, AT(api_region), "local", .ok = is_region,
		.allowed = "1 to 31 letters, digits and ._-",
		.help = "The region that the API reports for this machine." },
	{ "sandboxes.per_user", U32, AT(sandboxes_per_user), "0", 0, 65000,
		.help = "Sandboxes that one user may have at the same time. 0: no limit." },

	{ "sandboxes.timeout_max", U32, AT(sandboxes_timeout_max_s), "0", 0, 31536000,
		.help = "The longest life in seconds that a sandbox with an expiry may ask for; every "
			"sandbox must then ask for one, where its API can. 0: no limit." },
	{ "ingress.listen", LISTENS, AT(ingress_listen), "127.0.0.1:8081", .plain = true,
		.allowed = "1 to 8 of address:port",
		.help = "Where sandboxes' web services are reached from outside, HTTP and HTTPS on "
			"the same port; port 0 takes a free one and writes it to ingress.addr in "
			"daemon.run_dir." },
	{ "ingress.domain", TEXT, AT(ingress_domain), "localhost", .ok = is_domain,
		.allowed = "a domain name of at most 199 letters, digits, - and .",
		.help = "Services are published as <sandbox>-<port> below this domain, to which all "
			"such names must resolve." },
	{ "ingress.scheme", SWITCH, AT(ingress_https), "http", .words = { "http", "https" },
		.help = "The scheme of published addresses. Both work, whatever is published." },
	{ "ingress.public_port", U16, AT(ingress_public_port), "0", 0, 65535,
		.help = "The port of published addresses. 0: that of the first listener." },
	{ "ingress.template", TEXT, AT(ingress_template), "auto", .ok = is_template,
		.allowed = "auto, host or path",
		.help = "How addresses are published: host, a name for each service; path, the "
			"listener's address and a path, which resolves everywhere, but breaks pages "
			"with absolute links. auto: path if the domain is localhost and this machine "
			"does not resolve names below it, else host." },
	{ "ingress.cert", TEXT, AT(ingress_cert), "", .ok = is_path_or_empty,
		.allowed = "empty, or an absolute path of letters, digits and ._-+@/, at most 199 long",
		.help = "The certificate for HTTPS with its chain, a PEM file; it should name *.domain. "
			"Read again when it changes. Empty: one is made." },
	{ "ingress.key", TEXT, AT(ingress_key), "", .ok = is_path_or_empty,
		.allowed = "empty, or an absolute path of letters, digits and ._-+@/, at most 199 long",
		.help = "Its key, a PEM file that only root needs to read." },
	{ "ingress.ports", PORTS, AT(ingress_ports), "30000-32767",
		.allowed = "first-last, from 1 to 65535, or nothing",
		.help = "Ports of the first listener's address that sandboxes may be given, two each, for "
			"clients that cannot choose a name. Empty: none are given." },
	{ "ingress.ports_open", TEXT, AT(ingress_ports_open), "both", .ok = is_ports_open,
		.allowed = "both, proxy or direct",
		.help = "Which of the two may be opened: proxy, for /proxy/<port>/ of any port; direct, "
			"straight to port 8080." },
	{ "ingress.connections_max", U32, AT(ingress_connections_max), "12288", 16, 65536,
		.help = "Client connections at the same time, in each edge process." },
	{ "ingress.connections_per_address", U32, AT(ingress_connections_per_address), "4096", 0,
		65536, .help = "The same from one address (IPv6: from one /64). 0: no limit of its own, "
			       "for a listener behind a proxy." },
	{ "ingress.connections_per_sandbox", U32, AT(ingress_connections_per_sandbox), "1024", 1,
		65536, .help = "Requests and tunnels under way for one sandbox." },
	{ "ingress.upstreams_max", U32, AT(ingress_upstreams_max), "4096", 1, 65536,
		.help = "Connections to sandboxes, in each edge process, idle ones too." },
	{ "ingress.head_max", U32, AT(ingress_head_max), "32768", 4096, 262144,
		.help = "Bytes that the head of a request or of an answer may have." },
	{ "ingress.head_s", U32, AT(ingress_head_s), "20", 1, 3600,
		.help = "Seconds for the head of a request to arrive." },
	{ "ingress.idle_s", U32, AT(ingress_idle_s), "120", 1, 86400,
		.help = "Seconds that a client may wait between two requests." },
	{ "ingress.connect_s", U32, AT(ingress_connect_s), "5", 1, 3600,
		.help = "Seconds for a connection to a sandbox to stand." },
	{ "ingress.answer_s", U32, AT(ingress_answer_s), "300", 1, 86400,
		.help = "Seconds for a sandbox to begin its answer." },
	{ "ingress.silence_s", U32, AT(ingress_silence_s), "3600", 1, 604800,
		.help = "Seconds that nothing may move on a body, a stream or a WebSocket." },
	{ "ingress.hold_s", U32, AT(ingress_hold_s), "60", 1, 3600,
		.help = "Seconds that a request waits for its sandbox to resume, where that is asked "
			"for." },
	{ "ingress.held_max", U32, AT(ingress_held_max), "1024", 1, 65536,
		.help = "Requests that wait for one sandbox to resume." },
	{ "gateway.mode", TEXT, AT(gateway_mode), "off", .ok = is_gateway,
		.allowed = "off, wildcard, header or uri",
		.help = "Where OpenSandbox's endpoints lead. off: to ports of the host. Else to the "
			"listeners of ingress, as OpenSandbox's ingress gateway: wildcard, a host name for "
			"each sandbox and port; header, one address and a header that names them; uri, a "
			"path that does. secureAccess and signed endpoints need one of these." },
	{ "gateway.address", TEXT, AT(gateway_address), "", .ok = is_address,
		.allowed = "empty, or a host with :port or without; with wildcard, *. and ingress.domain",
		.help = "How clients reach the gateway. Empty: the first listener's address, or "
			"ingress.domain, with ingress.public_port." },
	{ "gateway.keys", TEXT, AT(gateway_keys), "", .ok = is_path_or_empty,
		.allowed = "empty, or an absolute path of letters, digits and ._-+@/, at most 199 long",
		.help = "The keys that endpoints are signed with, a file that only root needs to read: a line "
			"for each, an id of one letter or digit, =, 16 to 64 bytes in base64. The first "
			"signs, all are good; at most 8. Read again when it changes. Empty: endpoints "
			"cannot be signed." },

	{ "edge.workers", U32, AT(edge_workers), "1", 1, 64,
		.help = "Edge processes; the kernel spreads sandboxes' flows over them." },
	{ "net.range4", PREFIX, AT(net_range4), "10.60.0.0/16", 12, 24, 4,
		.allowed = "an IPv4 prefix from /12 to /24 without host bits",
		.help = "IPv4 addresses of sandboxes; the last /30 connects to the host." },
	{ "net.range6", PREFIX, AT(net_range6), "fd77:6569:7200::/64", 64, 64, 6,
		.allowed = "an IPv6 /64 without host bits",
		.help = "IPv6 addresses of sandboxes; the last /126 connects to the host." },
	{ "net.overlay4", PREFIX, AT(net_overlay4), "10.42.0.0/16", 8, 24, 4,
		.allowed = "an IPv4 prefix from /8 to /24 without host bits",
		.help = "IPv4 addresses of private networks." },
	{ "net.ipv6", SWITCH, AT(net_ipv6), "on", .words = { "off", "on" },
		.help = "Give sandboxes IPv6. Off: their links have none at all." },

	{ "dns.upstream", IPS, AT(dns_upstream), "", .allowed = "up to 8 addresses",
		.help = "Resolvers to ask. Empty: those of the host." },
	{ "dns.upstream_port", U16, AT(dns_upstream_port), "53", 1, 65535,
		.help = "The port of these resolvers." },
	{ "dns.qps", U32, AT(dns_qps), "200", 1, 100000,
		.help = "Queries per second and sandbox; bursts may be twice that." },
	{ "dns.cache_entries", U32, AT(dns_cache_entries), "65536", 16, 16777216,
		.help = "Answers kept, in each edge process." },
	{ "dns.pins_per_sandbox", U32, AT(dns_pins_per_sandbox), "1024", 16, 65536,
		.help = "Addresses that a sandbox may have learned from names at the same time." },

	{ "egress.refuse", SWITCH, AT(egress_reject), "reject", .words = { "drop", "reject" },
		.help = "What a refused connection sees: an error at once (reject), or nothing "
			"(drop)." },
	{ "egress.other_protocols", SWITCH, AT(egress_other_protocols), "drop",
		.words = { "drop", "allow" },
		.help = "Protocols besides TCP, UDP and ICMP echo, under policies that allow "
			"everything." },
	{ "egress.smtp", SWITCH, AT(egress_smtp), "drop", .words = { "drop", "allow" },
		.help = "TCP port 25 where no rule names it." },
	{ "egress.flows_per_sandbox", U32, AT(egress_flows_per_sandbox), "32768", 64, 1048576,
		.help = "Connections and other flows that a sandbox may have open at the same time; "
			"also bounds what the host's connection tracking holds for it." },
	{ "egress.flows_per_user", U32, AT(egress_flows_per_user), "40960", 64, 1048576,
		.help = "The same for all sandboxes of a user together. They share the 64,512 ports of the "
			"host's address towards each port of a server; below that number no user has them all." },
	{ "egress.rules_per_user", U32, AT(egress_rules_per_user), "131072", 16, 1048576,
		.help = "Entries of the kernel's policy tables that the egress rules of all sandboxes "
			"of a user may take together." },
	{ "egress.deny_always", TEXT, AT(egress_deny_always), "",
		.ok = is_path_or_empty,
		.allowed = "empty, or an absolute path of letters, digits and ._-+@/, at most 199 long",
		.help = "A file of targets, one per line, that OpenSandbox's policies deny whatever "
			"their rules say. Read again when it changes; daemon.user must be able to read "
			"it. Empty, or no file: none." },
	{ "egress.allow_always", TEXT, AT(egress_allow_always), "",
		.ok = is_path_or_empty,
		.allowed = "empty, or an absolute path of letters, digits and ._-+@/, at most 199 long",
		.help = "The same for targets that they allow, after what is denied." },
	{ "egress.block_doh_443", SWITCH, AT(egress_block_doh_443), "off", .words = { "off", "on" },
		.help = "OpenSandbox's policies close TCP port 443, by which names can be resolved over "
			"HTTPS: of the prefixes of egress.doh_blocklist, or everywhere if that is empty." },
	{ "egress.doh_blocklist", PREFIXES, AT(egress_doh_blocklist), "", .allowed = "up to 64 prefixes",
		.help = "Resolvers over HTTPS, for egress.block_doh_443." },
	{ "egress.image", TEXT, AT(egress_image), "built-in", .ok = is_word,
		.allowed = "a name of an image, or empty",
		.help = "OpenSandbox's [egress].image. Nothing is started from it; empty refuses every "
			"create with a networkPolicy, as upstream does." },
	{ "secure_runtime.type", TEXT, AT(secure_runtime_type), "", .ok = is_secure_runtime,
		.allowed = "empty, gvisor, kata or firecracker",
		.help = "OpenSandbox's [secure_runtime].type. gvisor refuses every create with a "
			"networkPolicy, as upstream does." },
	{ "floor.deny", PREFIXES, AT(floor_deny), "", .allowed = "up to 64 prefixes",
		.help = "Prefixes that no rule of a user can open." },
	{ "floor.allow", PREFIXES, AT(floor_allow), "", .allowed = "up to 64 prefixes",
		.help = "Prefixes that the built-in floor would close and rules may open." },

	{ "pool.slots", U32, AT(pool_slots), "16", 0, 1024,
		.help = "Sandboxes kept ready, half a megabyte each: so many creates at once wait for "
			"nothing." },
	{ "uid.base", U32, AT(uid_base), "1048576", 65536, UID_BASE_MAX,
		.help = "Start of the host's user ids that sandboxes use: 65,536 each, up to 65,000 "
			"sandboxes." },
	{ "sandbox.pids", U32, AT(sandbox_pids), "1024", 16, 1000000,
		.help = "Processes and threads in one sandbox." },
	{ "disk.max_mib", U32, AT(disk_max_mib), "102400", 64, 16777216,
		.help = "The largest writable layer that a sandbox may ask for, in MiB." },
	{ "disk.backend", TEXT, AT(disk_backend), "auto", .ok = is_backend,
		.allowed = "auto, quota or loop",
		.help = "How writable layers are bounded: project quota on one volume, or a loop "
			"image each. auto takes quota where the kernel has it." },
	{ "build.allow", TEXT, AT(build_allow), "", .ok = is_targets,
		.allowed = "a list of name, *.name, address and prefix, each with :port or without",
		.help = "What may be reached while an image is built or fetched: mirrors, registries, "
			"what they redirect to. Empty: nothing." },
	{ "build.proxy", TEXT, AT(build_proxy), "", .ok = is_proxy,
		.allowed = "empty, or http://host:port",
		.help = "The proxy that builds use for HTTP and HTTPS; it may be reached without being "
			"in build.allow. Empty: none, whatever the daemon's environment says." },
	{ "build.ca", TEXT, AT(build_ca), "", .ok = is_path_or_empty,
		.allowed = "empty, or an absolute path of letters, digits and ._-+@/, at most 199 long",
		.help = "The certificate authorities that builds trust, a PEM file. Empty: the "
			"machine's." },
	{ "build.at_once", U32, AT(build_at_once), "2", 1, 16,
		.help = "Images that may be built or fetched at the same time." },
	{ "build.time_s", U32, AT(build_time_s), "1800", 1, 86400,
		.help = "Seconds that this may take for one." },
	{ "build.memory_mib", U32, AT(build_memory_mib), "4096", 64, 1048576,
		.help = "Memory for one." },
	{ "build.disk_mib", U32, AT(build_disk_mib), "16384", 64, 1048576,
		.help = "How large an image may become, with what its making needs beside it." },
	{ "images.registries", TEXT, AT(images_registries), "", .ok = is_targets,
		.allowed = "a list of host or host:port, with http:// in front for one without TLS",
		.help = "Registries that images are fetched from when a create names one that is not "
			"in the store; the first is asked for names without a host. What a registry "
			"redirects to must be in build.allow. Empty: none." },
	{ "images.pulled_mib", U32, AT(images_pulled_mib), "20480", 1, 16777216,
		.help = "How much of what creates fetched is kept. Images that no sandbox has go, the "
			"one used longest ago first." },
	{ "images.layers_mib", U32, AT(images_layers_mib), "8192", 1, 1048576,
		.help = "How large the layers of an image may be as a registry sends them." },
	{ "rootfs.default", TEXT, AT(rootfs_default), "devbox:1", .ok = is_image,
		.allowed = "the name of an image, name:tag",
		.help = "The image of a create that names none." },
	{ "runtime.default", TEXT, AT(runtime_default), "auto", .ok = is_runtime,
		.allowed = "auto, container or vm",
		.help = "The runtime of a create that names none. auto: vm where KVM was seen to boot a "
			"guest, else container." },
	{ "vm.accel", TEXT, AT(vm_accel), "auto", .ok = is_accel, .allowed = "auto or tcg",
		.help = "What virtual machines run by. auto: KVM if a guest boots with it, which is tried "
			"for seconds once per kernel, QEMU and guest bundle; else QEMU's emulation. tcg: "
			"emulation." },
	{ "vm.warm_mib", U32, AT(vm_warm_mib), "2048", 0, 1048576,
		.help = "How much memory templates of virtual machines may have together. One is booted "
			"in the background after the first create of an image and size, and the next "
			"begin from it. 0: every create boots." },
	{ "vm.ready", U32, AT(vm_ready), "1", 0, 64,
		.help = "Virtual machines that stand ready for the next creates like the last one, started "
			"from its template and stopped, within vm.warm_mib. 0: none." },
	{ "vm.fork_mib", U32, AT(vm_fork_mib), "4096", 0, 1048576,
		.help = "How much memory of paused virtual machines is kept for their next forks; a machine "
			"that is larger is kept alone." },
	{ "cgroup.root", TEXT, AT(cgroup_root), "", .ok = is_cgroup,
		.allowed = "empty, or one name of a-z, 0-9 and _-.",
		.help = "The top-level cgroup that sandboxes live in. Empty: daemon.name." },

	{ "store.sync", SWITCH, AT(store_sync_full), "normal", .words = { "normal", "full" },
		.help = "full: every change waits for the disk. normal: safe against crashes of "
			"Weir, but a power cut may forget the last moments." },
	{ "destroyed.keep_hours", U32, AT(destroyed_keep_hours), "24", 0, 87600,
		.help = "How long a destroyed sandbox stays readable." },
};
const size_t config_n_keys = ARRAY_SIZE(config_keys);
