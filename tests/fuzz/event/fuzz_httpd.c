/*
 * A whole connection: what a client sends, whole and then again in pieces whose size the first
 * byte chooses. Where a read ends is no property of a request, so the first answer must be the
 * same; the server must close in the end and leave nothing behind.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include "event/httpd.h"
#include "event/httphead.h"

#define INPUT_MAX 60000u /* fits the socket's buffer: the writer below never blocks */

static void on_body(struct http *h, struct str body, void *arg)
{
	http_reply(h, 200, "text/plain", body);
}

static void on_data(struct http *h, struct str data, bool end, void *arg)
{
	if (!end) {
		http_write(h, data);
		return;
	}
	http_end(h);
}

static void on_request(struct http *h, void *arg)
{
	struct str path = http_path(h), v;

	/* What was accepted must hold what the server promises. */
	if (!path.n || (path.p[0] != '/' && !str_eq_c(path, "*")))
		abort();
	for (size_t i = 0; i < http_head(h)->n_fields; i++) {
		struct str name = http_head(h)->fields[i].name, value = http_head(h)->fields[i].value;

		if (!name.n || memchr(name.p, ' ', name.n))
			abort();
		for (size_t k = 0; k < value.n; k++)
			if (value.p[k] == '\r' || value.p[k] == '\n' || value.p[k] == '\0')
				abort();
	}
	if (http_query_get(h, "q", &v) == 0 && http_add_header(h, "X-Query", v) == 0)
		http_add_header(h, "X-Seen", STR("1"));
	if (http_method(h) == HTTP_M_POST) {
		http_body_whole(h, 4096, on_body, NULL);
	} else if (http_method(h) == HTTP_M_PUT) {
		http_start(h, 200, "text/plain", -1);
		http_body_stream(h, on_data, NULL);
	} else {
		http_reply(h, 200, "text/plain", path);
	}
}

static void on_refuse(struct http *h, int status, const struct err *err, struct buf *body,
	const char **type, void *arg)
{
	buf_add_c(body, err->text);
}

static const struct httpd_ops ops = { .on_request = on_request, .on_refuse = on_refuse };
static uv_loop_t loop;
static struct httpd *server;

static void receive(int fd, struct buf *out)
{
	char part[65536];
	ssize_t n;

	while ((n = recv(fd, part, sizeof(part), MSG_DONTWAIT)) > 0)
		buf_add(out, part, (size_t)n);
}

/* Feed it, return everything the server said. */
static void converse(const uint8_t *data, size_t size, unsigned int step, struct buf *out)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	httpd_adopt(server, fds[0], 0);
	for (size_t at = 0; at < size;) {
		size_t n = MIN((size_t)step, size - at);

		if (send(fds[1], data + at, n, MSG_NOSIGNAL) < 0)
			break;
		at += n;
		uv_run(&loop, UV_RUN_NOWAIT);
		receive(fds[1], out);
	}
	shutdown(fds[1], SHUT_WR);
	while (httpd_connections(server)) {
		uv_run(&loop, UV_RUN_NOWAIT);
		receive(fds[1], out);
	}
	uv_run(&loop, UV_RUN_NOWAIT);
	fd_close(fds[1]);
}

/* The first status the server said, or 0. */
static int first_status(const struct buf *out)
{
	if (!out->n)
		return 0;
	if (out->n < 13 || memcmp(out->p, "HTTP/1.1 ", 9) != 0)
		abort();
	return (out->p[9] - '0') * 100 + (out->p[10] - '0') * 10 + out->p[11] - '0';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = BUF_MAX(8u << 20), pieces = BUF_MAX(8u << 20);

	if (!server) {
		uv_loop_init(&loop);
		if (httpd_new(&loop, &ops, NULL, 16, &server) < 0)
			abort();
	}
	if (size < 1 || size > INPUT_MAX)
		return 0;
	converse(data + 1, size - 1, INPUT_MAX, &whole);
	converse(data + 1, size - 1, 1 + data[0] + (size > 4096 ? 256 : 0), &pieces);
	if (first_status(&whole) != first_status(&pieces))
		abort();
	buf_done(&whole);
	buf_done(&pieces);
	return 0;
}
