/*
 * The configuration. `keys` below is all there is to know: a key's place in struct config, its
 * kind, default, limits, what is allowed in words, and a sentence of help. Defaults are text and
 * go through the same setter as the file and --set, so a default that the table itself would
 * refuse cannot exist (a test looks). After the table: one setter and one printer per kind,
 * then reading lines.
 *
 * Setting is all or nothing: a value that is refused leaves the old one.
 */
#include "base/log.h"
#include "wire/config.h"

enum kind { TEXT, U32, U16, SWITCH, LEVEL, LISTENS, PORTS, PREFIX, PREFIXES, IPS };

struct key {
	const char *name;
	enum kind kind;
	size_t offset, size;		 /* in struct config */
	const char *def;
	uint32_t min, max;		 /* numbers; prefix lengths */
	uint8_t family;			 /* PREFIX */
	bool plain;			 /* LISTENS: no dialect may be named */
	bool (*ok)(struct str);		 /* TEXT: beyond fitting */
	const char *words[2];		 /* SWITCH: false, true */
	const char *allowed;		 /* for people; numbers and switches make their own */
	const char *help;
};

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

#define AT(member) offsetof(struct config, member), sizeof(((struct config *)0)->member)
#define UID_BASE_MAX (UINT32_MAX - 1 - 65001u * 65536u + 1) /* slot 65,000 still fits below -1 */

static const struct key keys[] = {
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
	{ "egress.flows_per_user", U32, AT(egress_flows_per_user), "65536", 64, 1048576,
		.help = "The same for all sandboxes of a user together." },
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
	{ "cgroup.root", TEXT, AT(cgroup_root), "", .ok = is_cgroup,
		.allowed = "empty, or one name of a-z, 0-9 and _-.",
		.help = "The top-level cgroup that sandboxes live in. Empty: daemon.name." },

	{ "store.sync", SWITCH, AT(store_sync_full), "normal", .words = { "normal", "full" },
		.help = "full: every change waits for the disk. normal: safe against crashes of "
			"Weir, but a power cut may forget the last moments." },
	{ "destroyed.keep_hours", U32, AT(destroyed_keep_hours), "24", 0, 87600,
		.help = "How long a destroyed sandbox stays readable." },
};

static const char *const dialects[] = { "all", "createos", "opensandbox", "sandbox0" };

/* --- setting: 0 or a negative errno; -EINVAL where the value is at fault --- */

static int set_number(const struct key *k, struct str v, void *at)
{
	uint64_t n;

	if (str_u64(v, k->max, &n) < 0 || n < k->min)
		return -EINVAL;
	if (k->kind == U16)
		*(uint16_t *)at = (uint16_t)n;
	else
		*(uint32_t *)at = (uint32_t)n;
	return 0;
}

static int set_text(const struct key *k, struct str v, void *at)
{
	if (k->ok && !k->ok(v))
		return -EINVAL;
	return str_copy(at, k->size, v) < 0 ? -EINVAL : 0;
}

static int set_switch(const struct key *k, struct str v, void *at)
{
	for (int i = 0; i < 2; i++)
		if (str_eq_c(v, k->words[i])) {
			*(bool *)at = i;
			return 0;
		}
	return -EINVAL;
}

static int listen_from(struct str v, struct config_listen *ret)
{
	struct str dialect = v, addr = str_cut(&dialect, '/'), port;
	struct config_listen l = { .dialect = "all" };
	uint64_t n;
	ssize_t colon = -1;

	for (size_t i = 0; i < addr.n; i++)
		if (addr.p[i] == ':')
			colon = (ssize_t)i;
	if (colon < 0)
		return -EINVAL;
	port = str_skip(addr, (size_t)colon + 1);
	addr.n = (size_t)colon;
	if (addr.n >= 2 && addr.p[0] == '[' && addr.p[addr.n - 1] == ']') {
		addr = str_n(addr.p + 1, addr.n - 2);
		if (str_find(addr, ':') < 0)
			return -EINVAL;
	} else if (str_find(addr, ':') >= 0) { /* IPv6 wears brackets here */
		return -EINVAL;
	}
	if (ip_from(addr, &l.ip) < 0 || str_u64(port, UINT16_MAX, &n) < 0)
		return -EINVAL;
	l.port = (uint16_t)n;
	if (dialect.p) {
		size_t i = 0;

		while (i < ARRAY_SIZE(dialects) && !str_eq_c(dialect, dialects[i]))
			i++;
		if (i == ARRAY_SIZE(dialects) || str_copy(l.dialect, sizeof(l.dialect), dialect) < 0)
			return -EINVAL;
	}
	*ret = l;
	return 0;
}

static int set_listens(const struct key *k, struct str v, struct config_listens *at)
{
	struct config_listens l = { 0 };

	while (v.p) {
		struct str one = str_trim(str_cut(&v, ','));

		if (l.n == CONFIG_LISTEN_MAX || (k->plain && str_find(one, '/') >= 0) ||
			listen_from(one, &l.at[l.n++]) < 0)
			return -EINVAL;
	}
	*at = l;
	return 0;
}

static int set_ports(struct str v, struct config_ports *at)
{
	struct str last = v, first = str_cut(&last, '-');
	uint64_t a = 0, b = 0;

	if (v.n && (str_u64(first, UINT16_MAX, &a) < 0 || str_u64(last, UINT16_MAX, &b) < 0 ||
			   a == 0 || b < a))
		return -EINVAL;
	*at = (struct config_ports){ (uint16_t)a, (uint16_t)b };
	return 0;
}

static int set_prefix(const struct key *k, struct str v, struct prefix *at)
{
	struct prefix p;

	if (prefix_from(v, true, &p) < 0 || p.ip.family != k->family || p.len < k->min ||
		p.len > k->max)
		return -EINVAL;
	*at = p;
	return 0;
}

static int set_prefixes(struct str v, struct config_prefixes *at)
{
	struct config_prefixes l = { 0 };

	while (v.n) {
		if (l.n == CONFIG_LIST_MAX ||
			prefix_from(str_trim(str_cut(&v, ',')), true, &l.p[l.n++]) < 0)
			return -EINVAL;
		if (v.p && !v.n) /* "a," */
			return -EINVAL;
	}
	*at = l;
	return 0;
}

static int set_ips(struct str v, struct config_ips *at)
{
	struct config_ips l = { 0 };

	while (v.n) {
		if (l.n == ARRAY_SIZE(l.ip) || ip_from(str_trim(str_cut(&v, ',')), &l.ip[l.n++]) < 0)
			return -EINVAL;
		if (v.p && !v.n)
			return -EINVAL;
	}
	*at = l;
	return 0;
}

static int key_set(struct config *c, const struct key *k, struct str v)
{
	void *at = (char *)c + k->offset;
	int level;

	switch (k->kind) {
	case TEXT:
		return set_text(k, v, at);
	case U32:
	case U16:
		return set_number(k, v, at);
	case SWITCH:
		return set_switch(k, v, at);
	case LEVEL:
		level = log_level_from(v);
		if (level >= 0)
			*(int *)at = level;
		return level < 0 ? level : 0;
	case LISTENS:
		return set_listens(k, v, at);
	case PORTS:
		return set_ports(v, at);
	case PREFIX:
		return set_prefix(k, v, at);
	case PREFIXES:
		return set_prefixes(v, at);
	case IPS:
		return set_ips(v, at);
	}
	return -EINVAL;
}

static const struct key *key_find(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (str_eq_c(name, keys[i].name))
			return &keys[i];
	return NULL;
}

static void key_allowed(const struct key *k, char *text, size_t size)
{
	switch (k->kind) {
	case U32:
	case U16:
		snprintf(text, size, "a number from %u to %u", k->min, k->max);
		break;
	case SWITCH:
		snprintf(text, size, "%s or %s", k->words[0], k->words[1]);
		break;
	case TEXT:
	case LEVEL:
	case LISTENS:
	case PORTS:
	case PREFIX:
	case PREFIXES:
	case IPS:
		snprintf(text, size, "%s", k->allowed);
		break;
	}
}

void config_defaults(struct config *c)
{
	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		key_set(c, &keys[i], str_c(keys[i].def));
}

int config_set(struct config *c, struct str assignment, struct err *err)
{
	struct str value = assignment, name = str_trim(str_cut(&value, '='));
	const struct key *k = key_find(name);
	char allowed[200];

	if (!value.p || name.n == 0)
		return err_set(err, -EINVAL, ERR_INVALID, "expected key = value, got %s",
			log_q(assignment));
	if (!k)
		return err_set(err, -EINVAL, ERR_INVALID, "%s: unknown key", log_q(name));
	value = str_trim(value);
	if (key_set(c, k, value) == 0)
		return 0;
	key_allowed(k, allowed, sizeof(allowed));
	return err_field(err, -EINVAL, ERR_INVALID, k->name, "%s: got %s, allowed is %s", k->name,
		value.n ? log_q(value) : "nothing", allowed);
}

/* A comment begins with # at the start of a line or after a blank. */
static struct str without_comment(struct str line)
{
	for (size_t i = 0; i < line.n; i++)
		if (line.p[i] == '#' && (i == 0 || line.p[i - 1] == ' ' || line.p[i - 1] == '\t'))
			return str_n(line.p, i);
	return line;
}

int config_read(struct config *c, const char *name, struct str text, struct buf *complaints)
{
	unsigned int number = 0;
	int r = 0;

	while (text.p) {
		struct str line = str_trim(without_comment(str_cut(&text, '\n')));
		struct err err;

		number++;
		if (line.n == 0 || config_set(c, line, &err) == 0)
			continue;
		r = -EINVAL;
		buf_fmt(complaints, "%s:%u: %s\n", name, number, err.text);
	}
	return r;
}

/* The proxy takes any name right below ingress.domain for a sandbox's. */
static int check_gateway(const struct config *c, struct buf *complaints)
{
	struct str rest = str_c(c->gateway_address), host = str_cut(&rest, ':'), domain = host, first;
	bool wildcard = str_eq_c(STR("wildcard"), c->gateway_mode);

	if (!c->gateway_address[0] || str_eq_c(STR("off"), c->gateway_mode))
		return 0;
	first = str_cut(&domain, '.');
	if (str_eq_c(first, "*") != wildcard || (wildcard && !str_eq_c(domain, c->ingress_domain)))
		buf_fmt(complaints, "gateway.address: with gateway.mode = %s expected %s%s\n", c->gateway_mode,
			wildcard ? "*." : "a host without *.", wildcard ? c->ingress_domain : "");
	else if (!wildcard && domain.p && str_eq_c(domain, c->ingress_domain))
		buf_fmt(complaints, "gateway.address: names right below ingress.domain %s are sandboxes'\n",
			c->ingress_domain);
	else
		return 0;
	return -EINVAL;
}

int config_finish(struct config *c, struct buf *complaints)
{
	int r = 0;

	if (!c->image_dir[0] && (size_t)snprintf(c->image_dir, sizeof(c->image_dir), "%s/images",
				     c->state_dir) >= sizeof(c->image_dir)) {
		r = -EINVAL;
		buf_fmt(complaints, "daemon.state_dir: too long for a default of daemon.image_dir\n");
	}
	if (!c->cgroup_root[0])
		snprintf(c->cgroup_root, sizeof(c->cgroup_root), "%s", c->daemon_name);
	if (prefix_covers(c->net_range4, c->net_overlay4) ||
		prefix_covers(c->net_overlay4, c->net_range4)) {
		r = -EINVAL;
		buf_fmt(complaints, "net.overlay4: %s overlaps net.range4 %s\n",
			prefix_text(c->net_overlay4).s, prefix_text(c->net_range4).s);
	}
	if (!c->ingress_cert[0] != !c->ingress_key[0]) {
		r = -EINVAL;
		buf_fmt(complaints, "ingress.cert: a certificate and its key come together\n");
	}
	return check_gateway(c, complaints) < 0 ? -EINVAL : r;
}

/* --- printing --- */

static void print_listens(const struct config_listens *ls, struct buf *out)
{
	for (unsigned int i = 0; i < ls->n; i++) {
		const struct config_listen *l = &ls->at[i];

		buf_fmt(out, l->ip.family == 6 ? "%s[%s]:%u" : "%s%s:%u", i ? ", " : "",
			ip_text(l->ip).s, l->port);
		if (!str_eq_c(STR("all"), l->dialect))
			buf_fmt(out, "/%s", l->dialect);
	}
}

static void print_value(const struct config *c, const struct key *k, struct buf *out)
{
	static const char *const levels[] = { "debug", "info", "warn", "error" };
	const void *at = (const char *)c + k->offset;

	switch (k->kind) {
	case TEXT:
		buf_add_c(out, at);
		break;
	case U32:
		buf_fmt(out, "%u", *(const uint32_t *)at);
		break;
	case U16:
		buf_fmt(out, "%u", *(const uint16_t *)at);
		break;
	case SWITCH:
		buf_add_c(out, k->words[*(const bool *)at]);
		break;
	case LEVEL:
		buf_add_c(out, levels[*(const int *)at]);
		break;
	case LISTENS:
		print_listens(at, out);
		break;
	case PORTS:
		if (((const struct config_ports *)at)->first)
			buf_fmt(out, "%u-%u", ((const struct config_ports *)at)->first,
				((const struct config_ports *)at)->last);
		break;
	case PREFIX:
		buf_add_c(out, prefix_text(*(const struct prefix *)at).s);
		break;
	case PREFIXES:
		for (unsigned int i = 0; i < ((const struct config_prefixes *)at)->n; i++)
			buf_fmt(out, "%s%s", i ? ", " : "",
				prefix_text(((const struct config_prefixes *)at)->p[i]).s);
		break;
	case IPS:
		for (unsigned int i = 0; i < ((const struct config_ips *)at)->n; i++)
			buf_fmt(out, "%s%s", i ? ", " : "",
				ip_text(((const struct config_ips *)at)->ip[i]).s);
		break;
	}
}

/* Help and limits as comment lines of at most 79 letters. */
static void print_comment(const char *text, struct buf *out)
{
	struct str rest = str_c(text);
	size_t column = 0;

	while (rest.p) {
		struct str word = str_cut(&rest, ' ');

		if (column && column + 1 + word.n > 79) {
			buf_add_c(out, "\n");
			column = 0;
		}
		buf_add_c(out, column ? " " : "# ");
		column += word.n + (column ? 1 : 2);
		buf_add_str(out, word);
	}
	buf_add_c(out, "\n");
}

int config_print(const struct config *c, bool with_help, struct buf *out)
{
	if (with_help)
		buf_add_c(out, "# The configuration of weird: every key with its default.\n"
			       "# Lists are separated by commas. `weird --check` reads this file "
			       "and prints\n# every complaint.\n");
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const struct key *k = &keys[i];

		if (with_help) {
			char allowed[200], line[256];

			buf_add_c(out, "\n");
			print_comment(k->help, out);
			key_allowed(k, allowed, sizeof(allowed));
			snprintf(line, sizeof(line), "Allowed: %s.", allowed);
			print_comment(line, out);
		}
		buf_fmt(out, "%s =", k->name);
		{
			size_t before = out->n;

			buf_add_c(out, " ");
			print_value(c, k, out);
			if (out->n == before + 1) /* no blank at the end of an empty value */
				out->n = before;
		}
		buf_add_c(out, "\n");
	}
	return buf_failed(out);
}
