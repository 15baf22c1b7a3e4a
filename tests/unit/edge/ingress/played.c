/* The proxy in the test's hand: see the header. */
#include <sys/socket.h>
#include "base/fd.h"
#include "edge/ingress/proxy.h"
#include "played.h"

void (*played_window)(bool open);

static void window(bool open)
{
	if (played_window)
		played_window(open);
}

static void must(bool held, const char *what)
{
	if (held)
		return;
	fprintf(stderr, "violated: %s\n", what);
	abort();
}

static bool do_seen(void *arg, const struct ipc_ingress_seen *seen)
{
	return true;
}

static int do_wake(void *arg, const struct ipc_ingress_wake *wake)
{
	return -ENOTCONN;
}

static int do_serve(void *arg, const struct ipc_ingress_conn *conn, int fd)
{
	return -ENOTCONN;
}

static int do_dial(void *arg, const struct ipc_edge_ingress *to, uint16_t port)
{
	struct played *p = arg;
	int pair[2];

	if (p->refuse || p->n == PLAYED_TALKS)
		return -ECONNREFUSED;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	p->service[p->n++] = (struct talk){ .fd = pair[0], .got = BUF_MAX(1u << 22) };
	return pair[1];
}

int played_open(struct played *p)
{
	static const struct ingress_ops ops = { do_seen, do_wake, do_serve, do_dial };
	struct ipc_edge_ingress set = { .id = PLAYED_ID, .slot = PLAYED_SLOT, .ifindex = 1,
		.ip4 = { 4, { 127, 0, 0, 1 } }, .flags = IPC_INGRESS_ON,
		.state = IPC_INGRESS_RUNNING };
	struct ingress_conf conf;
	struct err err;
	int r;

	*p = (struct played){ .client.fd = -EBADF };
	if (uv_loop_init(&p->loop) < 0)
		return -ENOMEM;
	ingress_conf_defaults(&conf);
	conf.agent = false;
	window(true);
	r = ingress_new(&p->loop, &conf, &ops, p, &p->in);
	if (r == 0)
		r = ingress_set(p->in, &set, NULL, 0, &err);
	window(false);
	if (r < 0)
		played_close(p);
	return r;
}

void talk_end(struct talk *t)
{
	t->fd = fd_close(t->fd);
	buf_done(&t->got);
}

static void all_end(struct played *p)
{
	talk_end(&p->client);
	while (p->n)
		talk_end(&p->service[--p->n]);
}

void played_close(struct played *p)
{
	all_end(p);
	ingress_free(take_ptr(p->in));
	uv_run(&p->loop, UV_RUN_DEFAULT);
	must(uv_loop_close(&p->loop) == 0, "the proxy leaves no handle behind");
}

int played_connect(struct played *p)
{
	struct listener l = { .in = p->in, .kind = INGRESS_GATEWAY };
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001) };
	struct client *c;
	int pair[2];

	all_end(p);
	played_run(p);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	p->client = (struct talk){ .fd = pair[0], .got = BUF_MAX(1u << 22) };
	window(true);
	c = client_new(&l, pair[1], (struct sockaddr *)&from);
	window(false);
	return c ? 0 : -ENOMEM;
}

static bool drain(struct talk *t)
{
	char piece[65536];
	bool moved = false;
	ssize_t n;

	while (t->fd >= 0 && !t->ended && (n = recv(t->fd, piece, sizeof(piece), 0)) != 0) {
		if (n < 0 && errno == EAGAIN)
			return moved;
		if (n < 0)
			break;
		must(buf_add(&t->got, piece, (size_t)n) == 0, "there is room for what came");
		moved = true;
	}
	if (t->fd >= 0 && !t->ended)
		moved = t->ended = true;
	return moved;
}

void played_run(struct played *p)
{
	for (int quiet = 0; quiet < 3;) {
		bool moved = false;

		window(true);
		uv_run(&p->loop, UV_RUN_NOWAIT);
		window(false);
		moved |= drain(&p->client);
		for (unsigned int i = 0; i < p->n; i++)
			moved |= drain(&p->service[i]);
		quiet = moved ? 0 : quiet + 1;
	}
}

void talk_send(struct played *p, struct talk *t, struct str data)
{
	while (data.n && t->fd >= 0) {
		ssize_t n = send(t->fd, data.p, data.n, MSG_NOSIGNAL);

		if (n > 0)
			data = str_skip(data, (size_t)n);
		else if (errno != EAGAIN || t->ended)
			return;
		played_run(p);
	}
}

void talk_shut(struct played *p, struct talk *t)
{
	if (t->fd >= 0)
		shutdown(t->fd, SHUT_WR);
	played_run(p);
}

/* --- the second parser --- */

static void check_head(const struct http_head *h)
{
	static const char *const never[] = { "x-api-key", "open-sandbox-api-key", "keep-alive",
		"proxy-connection", "opensandbox-ingress-to", "opensandbox-secure-access", "forwarded",
		"x-weir-ingress-token", "te" };
	unsigned int hosts = 0, from = 0;

	for (size_t i = 0; i < h->n_fields; i++) {
		struct str name = h->fields[i].name;

		for (size_t k = 0; k < ARRAY_SIZE(never); k++)
			must(!str_caseeq(name, str_c(never[k])), never[k]);
		if (str_caseeq(name, STR("host"))) {
			hosts++;
			must(str_starts(h->fields[i].value, STR("localhost:")), "Host is ours");
		}
		if (str_caseeq(name, STR("x-forwarded-for"))) {
			from++;
			must(str_eq_c(h->fields[i].value, "127.0.0.1"), "the client's address is true");
		}
	}
	must(hosts == 1 && from == 1, "one Host and one address");
}

/* Behind a body nothing is said that a head decides, nor what no head may say. */
static void check_trailers(struct str lines)
{
	static const char *const never[] = { "host", "content-length", "transfer-encoding", "authorization",
		"cookie", "forwarded", "x-forwarded-for", "x-api-key", "opensandbox-secure-access", "expect" };

	while (lines.n) {
		struct str name = str_cut(&lines, '\n');

		name = str_cut(&name, ':');
		for (size_t k = 0; k < ARRAY_SIZE(never); k++)
			must(!str_caseeq(name, str_c(never[k])), "no such trailer");
	}
}

/* One complete request off the front. */
static bool serve_one(struct talk *t, struct buf *seen)
{
	struct http_field fields[HTTPD_HEADERS_MAX + 8];
	auto_buf struct buf trailers = BUF_MAX(1u << 16);
	struct head_scan scan = { .max = 2 * HTTPD_HEAD_MAX };
	struct str in = buf_str(&t->got), data;
	struct http_head h;
	struct body body;
	struct err err;
	size_t mark = seen ? seen->n : 0;
	int r = head_scan(&scan, in, &err);

	must(r == 0 || r == 1, "what is forwarded has a head without fault");
	if (r == 0)
		return false;
	must(scan.start == 0 && head_read(str_n(in.p, scan.at), fields, ARRAY_SIZE(fields), &h,
					&err) == 0, "what is forwarded can be read");
	check_head(&h);
	in = str_skip(in, scan.at);
	if (seen) {
		buf_add_str(seen, h.method);
		buf_add(seen, " ", 1);
		buf_add_str(seen, h.target);
		buf_add(seen, " ", 1);
	}
	body = body_from(h.chunked, h.length);
	body.trailers = &trailers;
	while ((r = body_next(&body, &in, &data, &err)) == 1)
		if (seen)
			buf_add_str(seen, data);
	must(r != -EBADMSG, "what is forwarded has a body without fault");
	if (r == 0) {
		if (seen)
			seen->n = mark;
		return false;
	}
	check_trailers(buf_str(&trailers));
	if (seen)
		buf_add(seen, "\n", 1);
	buf_consume(&t->got, t->got.n - in.n);
	t->requests++;
	return true;
}

void played_serve(struct played *p, struct buf *seen)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
	bool any = true;

	while (any) {
		any = false;
		played_run(p);
		for (unsigned int i = 0; i < p->n; i++)
			while (p->service[i].got.n && serve_one(&p->service[i], seen)) {
				any = true;
				talk_send(p, &p->service[i], str_c(answer));
			}
	}
}
