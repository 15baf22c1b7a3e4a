/* Public listeners: see the header. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include "base/fd.h"
#include "sandbox/daemon.h"
#include "sandbox/listen.h"

#define BACKLOG 4096

struct listeners {
	unsigned int n;
	int fd[CONFIG_LISTEN_MAX];
};

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static int open_one(const struct config_listen *l, uint16_t *ret_port)
{
	union address a = { .in6 = { .sin6_family = AF_INET6 } };
	socklen_t len = sizeof(a.in6);
	auto_fd int fd = socket(l->ip.family == 4 ? AF_INET : AF_INET6,
		SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;

	if (l->ip.family == 4) {
		a.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(l->port) };
		memcpy(&a.in.sin_addr, l->ip.a, 4);
		len = sizeof(a.in);
	} else {
		a.in6.sin6_port = htons(l->port);
		memcpy(&a.in6.sin6_addr, l->ip.a, 16);
	}
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		(l->ip.family == 6 &&
			setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
		bind(fd, &a.sa, len) < 0 || listen(fd, BACKLOG) < 0 ||
		getsockname(fd, &a.sa, &len) < 0)
		return -errno;
	*ret_port = ntohs(l->ip.family == 4 ? a.in.sin_port : a.in6.sin6_port);
	return take_fd(fd);
}

int listeners_open(struct daemon *d, struct listeners **ret, struct err *err)
{
	struct listeners *l = calloc(1, sizeof(*l));
	auto_buf struct buf addr = BUF_MAX(4096);
	int r;

	if (!l)
		return err_sys(err, -ENOMEM, "listeners");
	for (unsigned int i = 0; i < d->cfg.n_api_listen; i++) {
		const struct config_listen *c = &d->cfg.api_listen[i];
		uint16_t port = 0;

		r = open_one(c, &port);
		if (r < 0) {
			err_sys(err, r, "listen on %s port %u (api.listen)", ip_text(c->ip).s,
				c->port);
			listeners_close(l);
			return r;
		}
		l->fd[l->n++] = r;
		buf_fmt(&addr, c->ip.family == 4 ? "%s:%u\n" : "[%s]:%u\n", ip_text(c->ip).s, port);
	}
	r = buf_failed(&addr)
		    ? buf_failed(&addr)
		    : file_replace(AT_FDCWD, d->path.api_addr, buf_str(&addr), 0644, false);
	if (r < 0) {
		listeners_close(l);
		return err_sys(err, r, "write %s", d->path.api_addr);
	}
	*ret = l;
	return 0;
}

int listeners_fd(const struct listeners *l, unsigned int n)
{
	return n < l->n ? l->fd[n] : -ENOENT;
}

void listeners_close(struct listeners *l)
{
	for (unsigned int i = 0; l && i < l->n; i++)
		fd_close(l->fd[i]);
	free(l);
}
