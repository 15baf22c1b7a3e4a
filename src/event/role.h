/*
 * How an unprivileged role begins: fork and exec by the host role, with one
 * channel to it as descriptor 3, then named descriptors over that channel, then
 * isolation, then work.
 *
 * Boot is synchronous: role_boot() reads IPC_BOOT_FD messages (name + descriptor)
 * until IPC_BOOT_DONE, keeps the descriptors in a table, and leaves descriptor 3
 * ready for chan_open(). Names in use: "listen.api.<n>", "dns.udp4", "dns.udp6",
 * "dns.tcp4", "dns.tcp6" (with ".<worker>"), "map.<name of the BPF map>",
 * "events" (the BPF ring buffer), "peer.edge.<n>" in the api role and "peer.api" in
 * an edge worker (the channel between them), "config" (the configuration file),
 * "state" (a directory the role may write: the api role's database),
 * "resolv" (the resolvers to ask, edge only), "upstream.udp.<n>" (edge only), "ingress.<n>",
 * "ingress.cert", "ingress.key" (edge only; wire/ipc_ingress.h), "gateway.keys" (api role only, and
 * again after boot whenever they change; the same).
 *
 * "resolv" is text made by the host role, a line "nameserver ADDRESS PORT" per resolver in order of
 * preference; a line that ends in " host" names one that only the host's namespace reaches. For
 * those, "upstream.udp.0" to "upstream.udp.15" are UDP sockets connected to them (getpeername()
 * tells to which); further and fresh ones, and TCP, come by the call IPC_HOST_UPSTREAM.
 *
 * After boot an edge worker may receive IPC_BOOT_FD "peer.api" again over descriptor 3: the api
 * role was restarted and this channel replaces the old one. The api role is told of a restarted
 * edge worker by IPC_EVENT_EDGE.
 */
#pragma once
#include "base/err.h"
#include "wire/ipc.h"

#define ROLE_CHAN_FD 3

struct role;
int role_boot(struct role **ret, struct err *err);
/* The descriptor of that name, handed over; -ENOENT if the host role gave none. */
int role_fd(struct role *r, const char *name);
/* What the host role said at the end of boot: which worker this is, the machine's boot id. */
const struct ipc_boot_done *role_info(const struct role *r);
/* Call once no more descriptors are wanted: closes the rest and frees r. NULL is fine. */
void role_boot_done(struct role *r);

/* Last stage: drop to uid/gid given by the host role at exec (already done there),
 * no_new_privs, and a seccomp filter that allows `syscalls` (libseccomp names, ending with NULL)
 * beside a common set of the C library, libuv and malloc; anything else is EPERM and logged once. */
int role_confine(const char *const *syscalls, struct err *err);
