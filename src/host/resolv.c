/* Resolvers: see the header. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include "base/fd.h"
#include "host/resolv.h"

#define RESOLV_CONF_MAX 65536

static void add(struct resolv *to, struct ip ip, uint16_t port)
{
	for (unsigned int i = 0; i < to->n; i++)
		if (ip_eq(to->r[i].ip, ip) && to->r[i].port == port)
			return;
	if (to->n < RESOLV_MAX)
		to->r[to->n++] = (struct resolver){ .ip = ip, .port = port };
}

void resolv_parse(struct str text, uint16_t port, struct resolv *ret)
{
	while (text.n) {
		struct str line = str_trim(str_cut(&text, '\n'));
		struct ip ip;

		for (size_t i = 0; i < line.n; i++)
			if (line.p[i] == '#' || line.p[i] == ';' || line.p[i] == '\r')
				line.n = i;
		if (!str_starts(line, STR("nameserver")) || line.n < 12 ||
			(line.p[10] != ' ' && line.p[10] != '\t'))
			continue;
		if (ip_from(str_trim(str_skip(line, 11)), &ip) == 0)
			add(ret, ip, port);
	}
}

static bool is_loopback(struct ip ip)
{
	static const uint8_t one[16] = { [15] = 1 };

	return ip.family == 4 ? ip.a[0] == 127 : memcmp(ip.a, one, 16) == 0;
}

static int mark_own(const struct link_addr_info *a, void *arg)
{
	struct resolv *to = arg;

	for (unsigned int i = 0; i < to->n; i++)
		if (ip_eq(to->r[i].ip, a->ip))
			to->r[i].in_host = true;
	return 0;
}

int resolv_find(const struct ip *upstream, unsigned int n_upstream, uint16_t port, const char *path,
	struct rtnl *host, struct resolv *ret, struct err *err)
{
	auto_buf struct buf text = BUF_MAX(RESOLV_CONF_MAX);
	int r;

	*ret = (struct resolv){ .n = 0 };
	for (unsigned int i = 0; i < n_upstream; i++)
		add(ret, upstream[i], port);
	if (!n_upstream) {
		r = file_read(AT_FDCWD, path, &text);
		if (r < 0 && r != -ENOENT)
			return err_sys(err, r, "read %s", path);
		resolv_parse(buf_str(&text), port, ret);
	}
	for (unsigned int i = 0; i < ret->n; i++)
		ret->r[i].in_host = is_loopback(ret->r[i].ip);
	r = link_addr_each(host, mark_own, ret);
	return r < 0 ? err_sys(err, r, "list the host's addresses") : 0;
}

int resolv_text(const struct resolv *r, struct buf *out)
{
	for (unsigned int i = 0; i < r->n; i++)
		buf_fmt(out, "nameserver %s %u%s\n", ip_text(r->r[i].ip).s, r->r[i].port,
			r->r[i].in_host ? " host" : "");
	return buf_failed(out);
}

int resolv_socket(const struct resolver *r, bool tcp)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a = { .in6 = { .sin6_family = AF_INET6 } };
	auto_fd int fd = socket(r->ip.family == 4 ? AF_INET : AF_INET6,
		(tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(a.in6);

	if (fd < 0)
		return -errno;
	if (r->ip.family == 4) {
		a.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(r->port) };
		memcpy(&a.in.sin_addr, r->ip.a, 4);
		len = sizeof(a.in);
	} else {
		a.in6.sin6_port = htons(r->port);
		memcpy(&a.in6.sin6_addr, r->ip.a, 16);
	}
	if (connect(fd, &a.sa, len) < 0 && errno != EINPROGRESS)
		return -errno;
	return take_fd(fd);
}
