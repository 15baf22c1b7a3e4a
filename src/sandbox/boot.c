/* Boot descriptors: see the header. */
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include "base/fd.h"
#include "datapath/datapath.h"
#include "sandbox/boot.h"
#include "sandbox/daemon.h"
#include "sandbox/listen.h"
#include "sandbox/net.h"
#include "sandbox/publish.h"

int boot_fd(struct chan *c, const char *name, int fd)
{
	struct ipc_boot_fd m = { .name = "" };

	if (fd < 0)
		return 0; /* there is none here, an IPv6 socket say: the role finds it missing */
	snprintf(m.name, sizeof(m.name), "%s", name);
	return chan_send(c, IPC_BOOT_FD, &m, sizeof(m), &fd, 1);
}

static int boot_numbered(struct chan *c, const char *name, uint32_t n, int fd)
{
	char full[IPC_NAME_LEN];

	snprintf(full, sizeof(full), "%s.%u", name, n);
	return boot_fd(c, full, fd);
}

static int boot_text(struct chan *c, const char *name, const struct buf *text)
{
	auto_fd int fd = buf_failed(text) ? buf_failed(text) : memfd_sealed(name, buf_str(text));

	return fd < 0 ? fd : boot_fd(c, name, fd);
}

static int boot_config(struct daemon *d, struct chan *c)
{
	auto_buf struct buf text = BUF_MAX(1 << 20);

	config_print(&d->cfg, false, &text);
	return boot_text(c, "config", &text);
}

static int boot_map(struct daemon *d, struct chan *c, const char *map)
{
	char full[IPC_NAME_LEN];

	snprintf(full, sizeof(full), "map.%s", map);
	return boot_fd(c, full, datapath_fd(d->dp, map));
}

/* A descriptor that can look up and not update. */
static int boot_map_to_read(struct daemon *d, struct chan *c, const char *map)
{
	char full[IPC_NAME_LEN], pin[160];
	union bpf_attr attr = { .pathname = (uint64_t)(uintptr_t)pin, .file_flags = BPF_F_RDONLY };
	auto_fd int fd = -EBADF;

	snprintf(full, sizeof(full), "map.%s", map);
	snprintf(pin, sizeof(pin), BPFFS "/%s/%s", d->cfg.daemon_name, map);
	fd = (int)syscall(SYS_bpf, BPF_OBJ_GET, &attr, sizeof(attr));
	return fd < 0 ? -errno : boot_fd(c, full, fd);
}

static int boot_done(struct daemon *d, struct chan *c, uint32_t worker)
{
	struct ipc_boot_done m = { .version = IPC_VERSION, .worker = worker, .boot_id = d->boot };

	return chan_send(c, IPC_BOOT_DONE, &m, sizeof(m), NULL, 0);
}

int boot_api(struct daemon *d, struct chan *c, const int *peers, struct err *err)
{
	auto_fd int state = open(d->path.state_api, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = state < 0 ? -errno : boot_config(d, c);

	if (r == 0)
		r = boot_fd(c, "state", state);
	for (unsigned int i = 0; i < d->cfg.api_listen.n && r == 0; i++)
		r = boot_numbered(c, "listen.api", i, listeners_api(d->listeners, i));
	if (r == 0)
		r = boot_map_to_read(d, c, "weir_counters");
	if (r == 0)
		r = boot_map_to_read(d, c, "weir_dns_counters");
	if (r == 0)
		r = boot_fd(c, "events", datapath_fd(d->dp, "weir_events"));
	for (uint32_t i = 0; i < d->cfg.edge_workers && r == 0; i++)
		r = boot_numbered(c, "peer.edge", i, peers[i]);
	if (r == 0)
		r = publish_boot_api(d->publish, c);
	if (r == 0)
		r = boot_done(d, c, 0);
	return r < 0 ? err_sys(err, r, "boot descriptors of the api role") : 0;
}

/* Sockets towards resolvers that only this namespace reaches, spread evenly over them. */
static int boot_upstreams(struct daemon *d, struct chan *c)
{
	unsigned int made = 0, local = 0;
	int r = 0;

	for (unsigned int i = 0; i < d->resolv.n; i++)
		local += d->resolv.r[i].in_host;
	for (unsigned int i = 0; local && made < RESOLV_POOL && r == 0; i = (i + 1) % d->resolv.n) {
		auto_fd int fd = -EBADF;

		if (!d->resolv.r[i].in_host)
			continue;
		fd = resolv_socket(&d->resolv.r[i], false);
		if (fd < 0)
			return fd;
		r = boot_numbered(c, "upstream.udp", made++, fd);
	}
	return r;
}

int boot_edge(struct daemon *d, struct chan *c, uint32_t worker, int peer, struct err *err)
{
	const struct steer_sockets *s = &d->steer[worker];
	auto_buf struct buf resolv = BUF_MAX(4096);
	int r = boot_config(d, c);

	for (unsigned int i = 0; i < d->cfg.ingress_listen.n && r == 0; i++)
		r = boot_numbered(c, "ingress", i, listeners_ingress(d->listeners, i));
	if (r == 0)
		r = publish_boot(d->publish, c);
	resolv_text(&d->resolv, &resolv);
	if ((r < 0) || (r = boot_text(c, "resolv", &resolv)) < 0 ||
		(r = boot_numbered(c, "dns.udp4", worker, s->udp4)) < 0 ||
		(r = boot_numbered(c, "dns.udp6", worker, s->udp6)) < 0 ||
		(r = boot_numbered(c, "dns.tcp4", worker, s->tcp4)) < 0 ||
		(r = boot_numbered(c, "dns.tcp6", worker, s->tcp6)) < 0 ||
		(r = boot_map(d, c, "weir_dns_counters")) < 0 ||
		(r = boot_map(d, c, "weir_pins")) < 0 || (r = boot_map(d, c, "weir_ports")) < 0 ||
		(r = boot_map(d, c, "weir_names")) < 0 ||
		(r = boot_map_to_read(d, c, "weir_floor")) < 0 ||
		(r = boot_map_to_read(d, c, "weir_config")) < 0 ||
		(r = boot_fd(c, "peer.api", peer)) < 0 || (r = boot_upstreams(d, c)) < 0 ||
		(r = boot_done(d, c, worker)) < 0)
		return err_sys(err, r, "boot descriptors of edge worker %u", worker);
	return 0;
}
