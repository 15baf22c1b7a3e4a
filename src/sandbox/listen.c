/* Public listeners: see the header. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include "base/fd.h"
#include "sandbox/daemon.h"
#include "sandbox/listen.h"

#define BACKLOG 4096

struct listeners {
	struct listener_set {
		unsigned int n;
		int fd[CONFIG_LISTEN_MAX];
	} api, ingress;
};

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* *port: 0 becomes the port that was chosen. */
static int open_one(struct ip ip, uint16_t *port)
{
	union address a = { .in6 = { .sin6_family = AF_INET6 } };
	socklen_t len = sizeof(a.in6);
	auto_fd int fd = socket(ip.family == 4 ? AF_INET : AF_INET6,
		SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;

	if (ip.family == 4) {
		a.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(*port) };
		memcpy(&a.in.sin_addr, ip.a, 4);
		len = sizeof(a.in);
	} else {
		a.in6.sin6_port = htons(*port);
		memcpy(&a.in6.sin6_addr, ip.a, 16);
	}
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		(ip.family == 6 &&
			setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
		bind(fd, &a.sa, len) < 0 || listen(fd, BACKLOG) < 0 ||
		getsockname(fd, &a.sa, &len) < 0)
		return -errno;
	*port = ntohs(ip.family == 4 ? a.in.sin_port : a.in6.sin6_port);
	return take_fd(fd);
}

static int open_set(const struct config_listens *want, const char *key, const char *path,
	struct listener_set *ret, uint16_t port[CONFIG_LISTEN_MAX], struct err *err)
{
	auto_buf struct buf addr = BUF_MAX(4096);
	int r;

	for (unsigned int i = 0; i < want->n; i++) {
		const struct config_listen *c = &want->at[i];

		port[i] = c->port;
		r = open_one(c->ip, &port[i]);
		if (r < 0)
			return err_sys(err, r, "listen on %s port %u (%s)", ip_text(c->ip).s,
				c->port, key);
		ret->fd[ret->n++] = r;
		buf_fmt(&addr, c->ip.family == 4 ? "%s:%u\n" : "[%s]:%u\n", ip_text(c->ip).s,
			port[i]);
	}
	r = buf_failed(&addr) ? buf_failed(&addr)
			      : file_replace(AT_FDCWD, path, buf_str(&addr), 0644, false);
	return r < 0 ? err_sys(err, r, "write %s", path) : 0;
}

int listeners_open(struct daemon *d, struct listeners **ret, struct err *err)
{
	struct listeners *l = calloc(1, sizeof(*l));
	uint16_t port[CONFIG_LISTEN_MAX];
	int r;

	if (!l)
		return err_sys(err, -ENOMEM, "listeners");
	/* The api's last: who sees its address finds the other file too. */
	r = open_set(&d->cfg.ingress_listen, "ingress.listen", d->path.ingress_addr, &l->ingress,
		port, err);
	for (unsigned int i = 0; r == 0 && i < d->cfg.ingress_listen.n; i++)
		d->cfg.ingress_listen.at[i].port = port[i];
	if (r == 0)
		r = open_set(&d->cfg.api_listen, "api.listen", d->path.api_addr, &l->api, port, err);
	if (r < 0) {
		listeners_close(l);
		return r;
	}
	*ret = l;
	return 0;
}

int listener_of_port(const struct daemon *d, uint16_t port, struct err *err)
{
	const struct config_ports *range = &d->cfg.ingress_ports;
	struct ip ip = d->cfg.ingress_listen.at[0].ip;
	int r;

	if (!port || port < range->first || port > range->last)
		return err_set(err, -EINVAL, ERR_INVALID, "port %u is not one of ingress.ports", port);
	r = open_one(ip, &port);
	return r < 0 ? err_sys(err, r, "listen on %s port %u (ingress.ports)", ip_text(ip).s, port)
		     : r;
}

static int nth(const struct listener_set *s, unsigned int n)
{
	return n < s->n ? s->fd[n] : -ENOENT;
}

int listeners_api(const struct listeners *l, unsigned int n)
{
	return nth(&l->api, n);
}

int listeners_ingress(const struct listeners *l, unsigned int n)
{
	return nth(&l->ingress, n);
}

static void close_set(struct listener_set *s)
{
	while (s->n)
		fd_close(s->fd[--s->n]);
}

void listeners_close(struct listeners *l)
{
	if (!l)
		return;
	close_set(&l->api);
	close_set(&l->ingress);
	free(l);
}
