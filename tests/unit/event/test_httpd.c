/*
 * event/httpd through real sockets on loopback, with raw bytes: what is refused and how, what
 * survives on a connection, back-pressure, disconnects, limits, and the end of the server.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include "event/httpd.h"
#include "../unit.h"

#define GUARD_MS 60000u /* a test that gets here has failed */

/* --- the server under test --- */

static struct {
	uv_loop_t loop;
	struct httpd *d;
	struct sockaddr_in addr;
	uv_timer_t guard;
	/* what handlers saw */
	struct http *pending;
	int requests, gone, drains, bodies;
	size_t streamed;
	bool stream_ended, stopped;
	uv_stream_t *upgraded;
} t;

static void on_gone(struct http *h, void *arg)
{
	t.gone++;
	t.pending = NULL;
}

static void echo(struct http *h, struct str body, void *arg)
{
	t.bodies++;
	http_reply(h, 200, "text/plain", body);
}

static void count(struct http *h, struct str data, bool end, void *arg)
{
	t.streamed += data.n;
	if (end && arg) {
		char text[32];

		snprintf(text, sizeof(text), "%zu", t.streamed);
		http_reply(h, 200, "text/plain", str_c(text));
	}
	t.stream_ended = end;
}

/* The trailers, as they came, behind a body and as the answer's own. */
static void turn_over(struct http *h, struct str data, bool end, void *arg)
{
	t.streamed += data.n;
	if (!end)
		return;
	http_start(h, 200, "text/plain", -1);
	http_write(h, http_trailers(h));
	http_end_with(h, http_trailers(h));
}

static const char filler[65536];
static const char huge[12u << 20];

static void fill(struct http *h, void *arg)
{
	t.drains++;
	while (t.streamed < (8u << 20)) {
		t.streamed += sizeof(filler);
		if (http_write(h, str_n(filler, sizeof(filler))) != 1)
			return;
	}
	http_end(h);
}

static void on_upgraded_closed(uv_handle_t *handle)
{
	free(handle);
}

static void on_request(struct http *h, void *arg)
{
	struct str path = http_path(h), rest, v;

	t.requests++;
	http_on_gone(h, on_gone, NULL);
	if (str_eq_c(path, "/hello")) {
		http_add_header(h, "X-Method", http_method_text(h));
		http_reply(h, 200, "text/plain", STR("hello"));
	} else if (str_eq_c(path, "/huge")) {
		http_reply(h, 200, "text/plain", str_n(huge, sizeof(huge)));
	} else if (str_eq_c(path, "/echo")) {
		http_body_whole(h, 1000, echo, NULL);
	} else if (str_eq_c(path, "/count")) {
		http_body_stream(h, count, &t);
	} else if (str_eq_c(path, "/relay")) {
		t.pending = h;
		http_body_relay(h, turn_over, NULL);
	} else if (str_eq_c(path, "/pending")) {
		t.pending = h;
	} else if (str_eq_c(path, "/chunks")) {
		http_start(h, 200, "application/x-ndjson", -1);
		http_write(h, STR("one\n"));
		http_write(h, STR(""));
		http_write(h, STR("two\n"));
		http_end(h);
	} else if (str_eq_c(path, "/length")) {
		http_start(h, 200, "text/plain", 3);
		http_write(h, STR("abc"));
		assert_int_equal(http_write(h, STR("d")), -EINVAL);
		http_end(h);
	} else if (str_eq_c(path, "/short")) {
		http_start(h, 200, "text/plain", 10);
		http_write(h, STR("abc"));
		http_end(h);
	} else if (str_eq_c(path, "/empty")) {
		http_reply(h, 204, NULL, STR_NONE);
	} else if (str_eq_c(path, "/big")) {
		http_on_drain(h, fill, NULL);
		http_start(h, 200, "text/plain", -1);
		fill(h, NULL);
	} else if (str_eq_c(path, "/abort")) {
		http_start(h, 200, "text/plain", -1);
		http_write(h, STR("cut"));
		http_abort(h);
	} else if (str_eq_c(path, "/query")) {
		int r = http_query_get(h, "path", &v);

		http_reply(h, r == 0 ? 200 : r == -ENOENT ? 404 : 400, "text/plain",
			r == 0 ? v : STR(""));
	} else if (str_eq_c(path, "/upgrade")) {
		assert_int_equal(http_upgrade(h, "tunnel", STR("X-Extra: 1\r\n"), &t.upgraded, &rest), 0);
		uv_try_write(t.upgraded, &(uv_buf_t){ .base = (char *)rest.p, .len = rest.n }, 1);
		uv_close((uv_handle_t *)t.upgraded, on_upgraded_closed);
	} else {
		http_reply(h, 404, "text/plain", STR(""));
	}
}

static void on_refuse(struct http *h, int status, const struct err *err, struct buf *body,
	const char **type, void *arg)
{
	*type = "application/json";
	buf_fmt(body, "{\"refused\":%d,\"why\":\"%s\"}", status, err->text);
}

static const struct httpd_ops ops = { .on_request = on_request, .on_refuse = on_refuse };

static void on_guard(uv_timer_t *timer)
{
	fprintf(stderr, "nothing happened for %u ms\n", GUARD_MS);
	abort();
}

static int setup_limits(uint32_t connections, uint64_t idle_ms, uint64_t head_ms)
{
	auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t n = sizeof(t.addr);

	memset(&t, 0, sizeof(t));
	t.addr = (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_int_equal(bind(fd, (struct sockaddr *)&t.addr, n), 0);
	assert_int_equal(listen(fd, 128), 0);
	getsockname(fd, (struct sockaddr *)&t.addr, &n);
	uv_loop_init(&t.loop);
	uv_timer_init(&t.loop, &t.guard);
	uv_timer_start(&t.guard, on_guard, GUARD_MS, 0);
	assert_int_equal(httpd_new(&t.loop, &ops, NULL, connections, &t.d), 0);
	httpd_timeouts(t.d, idle_ms, head_ms);
	return httpd_listen(t.d, take_fd(fd), 7);
}

static int setup(void **state)
{
	return setup_limits(100, 60000, 60000);
}

static int setup_impatient(void **state)
{
	return setup_limits(100, 400, 200); /* what we are kept from doing by others takes less */
}

static int setup_narrow(void **state)
{
	return setup_limits(2, 60000, 400);
}

static int setup_sparing(void **state)
{
	return setup_limits(2, 3600, 3600); /* 100 ms are spared */
}

static int setup_measuring(void **state)
{
	return setup_limits(100, 900, 60000); /* speeds count from 300 ms on */
}

static int teardown(void **state)
{
	httpd_free(t.d);
	uv_close((uv_handle_t *)&t.guard, NULL);
	uv_run(&t.loop, UV_RUN_DEFAULT);
	return uv_loop_close(&t.loop);
}

/* --- the client: what it received so far, driven by the same loop --- */

struct client {
	int fd;
	uv_poll_t poll;
	struct buf got;
	bool eof, reset;
};

static void on_client(uv_poll_t *p, int status, int events)
{
	struct client *k = container_of(p, struct client, poll);
	char part[65536];
	ssize_t n = recv(k->fd, part, sizeof(part), MSG_DONTWAIT);

	if (n > 0) {
		buf_add(&k->got, part, (size_t)n);
	} else if (n == 0 || errno != EAGAIN) {
		k->eof = true;
		k->reset = n < 0;
		uv_poll_stop(p);
	}
}

/* from: the last number of its loopback address */
static struct client *client_from(uint8_t from, bool reading)
{
	struct sockaddr_in own = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(0x7f000000u + from) };
	struct client *k = calloc(1, sizeof(*k));

	k->got = BUF_MAX(32u << 20);
	k->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(k->fd, (struct sockaddr *)&own, sizeof(own)), 0);
	assert_int_equal(connect(k->fd, (struct sockaddr *)&t.addr, sizeof(t.addr)), 0);
	uv_poll_init(&t.loop, &k->poll, k->fd);
	if (reading)
		uv_poll_start(&k->poll, UV_READABLE, on_client);
	return k;
}

static struct client *client_new(bool reading)
{
	return client_from(1, reading);
}

static void on_client_closed(uv_handle_t *handle)
{
	struct client *k = container_of((uv_poll_t *)handle, struct client, poll);

	buf_done(&k->got);
	free(k);
}

static void client_free(struct client *k)
{
	uv_poll_stop(&k->poll);
	fd_close(k->fd);
	uv_close((uv_handle_t *)&k->poll, on_client_closed);
}

static void say(struct client *k, const char *text, size_t n)
{
	size_t sent = 0;

	while (sent < n) {
		ssize_t w = send(k->fd, text + sent, n - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (w < 0 && errno != EAGAIN)
			return; /* the server has closed: the test looks at what it said */
		sent += w > 0 ? (size_t)w : 0;
		uv_run(&t.loop, UV_RUN_NOWAIT);
	}
}

static void say_c(struct client *k, const char *text)
{
	say(k, text, strlen(text));
}

#define WAIT(cond)                                                                                 \
	do {                                                                                       \
		while (!(cond))                                                                    \
			uv_run(&t.loop, UV_RUN_ONCE);                                              \
	} while (0)

static bool has(struct client *k, const char *text)
{
	return k->got.n && memmem(k->got.p, k->got.n, text, strlen(text));
}

static unsigned int times(struct client *k, const char *text)
{
	const char *p = k->got.p, *end = p ? p + k->got.n : p;
	unsigned int n = 0;

	while (p && (p = memmem(p, (size_t)(end - p), text, strlen(text)))) {
		n++;
		p += strlen(text);
	}
	return n;
}

static int status_of(struct client *k)
{
	return k->got.n > 12 && memcmp(k->got.p, "HTTP/1.1 ", 9) == 0 ? (int)strtol(k->got.p + 9, NULL, 10)
								      : 0;
}

/* --- requests that must be refused, each with its control --- */

#define HOST "Host: a.example\r\n"
#define END  "\r\n"

static const struct {
	int status;
	const char *text;
	size_t n;
} raw[] = {
#define RAW(status, text) { status, text, sizeof(text) - 1 }
	/* controls: the same forms, well written */
	RAW(200, "GET /hello HTTP/1.1\r\n" HOST END),
	RAW(200, "\r\nGET /hello HTTP/1.1\r\n" HOST END),
	RAW(200, "GET /hello HTTP/1.0\r\n\r\n"),
	RAW(200, "OPTIONS /hello HTTP/1.1\r\n" HOST END),
	RAW(404, "OPTIONS * HTTP/1.1\r\n" HOST END),
	RAW(404, "PROPFIND /x HTTP/1.1\r\n" HOST END),
	RAW(200, "GET /hello HTTP/1.1\r\nhOST:a:80\r\n\r\n"),
	RAW(200, "GET /hello HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"),
	RAW(200, "GET /hello HTTP/1.1\r\n" HOST "X-Latin: \xe9\r\nX-Empty:\r\nX-Tab:\ta\tb\r\n" END),
	RAW(200, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n" END "hi"),
	RAW(200, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0\r\n" END),
	RAW(200, "POST /echo HTTP/1.1\r\n" HOST END),
	RAW(200, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n" END
		 "2;x=\"y\"\r\nhi\r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"),
	/* the request line */
	RAW(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	RAW(505, "GET /hello HTTP/2.0\r\n"),
	RAW(505, "GET /hello HTTP/1.2\r\n"),
	RAW(505, "GET /hello HTTP/0.9\r\n"),
	RAW(505, "GET /hello\r\n"),
	RAW(400, "GET /hello http/1.1\r\n"),
	RAW(400, "GET /hello HTTP/1.1 \r\n"),
	RAW(400, "GET /hello HTTP/1.10\r\n"),
	RAW(400, "GET  /hello HTTP/1.1\r\n"),
	RAW(400, "GET /hello  HTTP/1.1\r\n"),
	RAW(400, "GET\t/hello\tHTTP/1.1\r\n"),
	RAW(400, " GET /hello HTTP/1.1\r\n"),
	RAW(400, "\r\n\r\nGET /hello HTTP/1.1\r\n"),
	RAW(400, "\nGET /hello HTTP/1.1\r\n"),
	RAW(400, "GET /he llo HTTP/1.1\r\n"),
	RAW(400, "GET /he\x01llo HTTP/1.1\r\n"),
	RAW(400, "GET /he\0llo HTTP/1.1\r\n"),
	RAW(400, "GET /he\x7fllo HTTP/1.1\r\n"),
	RAW(400, "GET /h\xc3\xa9llo HTTP/1.1\r\n"),
	RAW(400, "GET /hello#part HTTP/1.1\r\n"),
	RAW(400, "GET hello HTTP/1.1\r\n"),
	RAW(400, "GET http://other.example/hello HTTP/1.1\r\n"),
	RAW(400, "GET * HTTP/1.1\r\n"),
	RAW(400, "CONNECT a.example:443 HTTP/1.1\r\n"),
	RAW(501, "BREW /hello HTTP/1.1\r\n" HOST END),
	RAW(501, "get /hello HTTP/1.1\r\n" HOST END),
	RAW(501, "GE(T /hello HTTP/1.1\r\n" HOST END),
	RAW(400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), /* TLS */
	/* line ends and folding */
	RAW(400, "GET /hello HTTP/1.1\n"),
	RAW(400, "GET /hello HTTP/1.1\r\n" HOST "\n"),
	RAW(400, "GET /hello HTTP/1.1\r\nHost: a\rX: y\r\n\r\n"),
	RAW(400, "GET /hello HTTP/1.1\r\nHost: a\r\r\n\r\n"),
	RAW(400, "GET /hello HTTP/1.1\r\n" HOST "X: a\r\n b\r\n" END),
	RAW(400, "GET /hello HTTP/1.1\r\n" HOST "X: a\r\n\tb\r\n" END),
	RAW(400, "GET /hello HTTP/1.1\r\n X: a\r\n" HOST END),
	RAW(400, "GET /hello HTTP/1.1\r\n" HOST "X: a\0b\r\n" END),
	RAW(400, "GET /hello HTTP/1.1\r\n" HOST "X: a\x0b\r\n" END),
	/* fields */
	RAW(400, "GET /hello HTTP/1.1\r\n" HOST "X : a\r\n" END),
	RAW(400, "GET /hello HTTP/1.1\r\n" HOST "X\r\n" END),
	RAW(400, "GET /hello HTTP/1.1\r\n" HOST ": a\r\n" END),
	RAW(400, "GET /hello HTTP/1.1\r\n" HOST "X(y): a\r\n" END),
	RAW(400, "GET /hello HTTP/1.1\r\n" HOST "X\xe9: a\r\n" END),
	RAW(400, "GET /hello HTTP/1.1\r\n\r\n"),
	RAW(400, "GET /hello HTTP/1.1\r\n" HOST HOST END),
	RAW(400, "GET /hello HTTP/1.0\r\n" HOST HOST END),
	RAW(400, "GET /hello HTTP/1.1\r\nHost:\r\n\r\n"),
	RAW(400, "GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n"),
	RAW(400, "GET /hello HTTP/1.1\r\nHost: a, b\r\n\r\n"),
	RAW(400, "GET /hello HTTP/1.1\r\nHost: user@a\r\n\r\n"),
	RAW(400, "GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n"),
	RAW(400, "GET /hello HTTP/1.1\r\nHost: a:99999\r\n\r\n"),
	RAW(400, "GET /hello HTTP/1.1\r\nHost: a:80:80\r\n\r\n"),
	RAW(400, "GET /hello HTTP/1.1\r\nHost: [::1\r\n\r\n"),
	RAW(400, "GET /hello HTTP/1.1\r\nHost: [127.0.0.1]\r\n\r\n"),
	/* framing */
	RAW(400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\nContent-Length: 2\r\n" END "hi"),
	RAW(400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2, 2\r\n" END "hi"),
	RAW(400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: +2\r\n" END "hi"),
	RAW(400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: -2\r\n" END "hi"),
	RAW(400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0x2\r\n" END "hi"),
	RAW(400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length:\r\n" END "hi"),
	RAW(400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n" END),
	RAW(400, "POST /echo HTTP/1.1\r\n" HOST
		 "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" END "0\r\n\r\n"),
	RAW(400, "POST /echo HTTP/1.1\r\n" HOST
		 "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n" END "0\r\n\r\n"),
	RAW(400, "POST /echo HTTP/1.1\r\n" HOST
		 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" END "0\r\n\r\n"),
	RAW(501, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n" END "0\r\n\r\n"),
	RAW(501, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n" END "0\r\n\r\n"),
	RAW(400, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, identity\r\n" END),
	RAW(400, "POST /echo HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n" END "0\r\n\r\n"),
	RAW(417, "POST /echo HTTP/1.1\r\n" HOST "Expect: a-miracle\r\nContent-Length: 1\r\n" END),
	/* bodies */
	RAW(413, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1001\r\n" END),
#define CHUNKED "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n" END
	RAW(413, CHUNKED "3e9\r\n"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			 "12345678901234567890123456789012345678901"),
	RAW(400, CHUNKED "\r\n"),
	RAW(400, CHUNKED "g\r\n"),
	RAW(400, CHUNKED "-1\r\n"),
	RAW(400, CHUNKED "0x2\r\nhi\r\n0\r\n\r\n"),
	RAW(400, CHUNKED " 2\r\nhi\r\n0\r\n\r\n"),
	RAW(400, CHUNKED "2 \r\nhi\r\n0\r\n\r\n"),
	RAW(400, CHUNKED "2\nhi\r\n0\r\n\r\n"),
	RAW(400, CHUNKED "2\rhi\r\n0\r\n\r\n"),
	RAW(400, CHUNKED "2;a\nb\r\nhi\r\n0\r\n\r\n"),
	RAW(400, CHUNKED "2\r\nhi0\r\n\r\n"),
	RAW(400, CHUNKED "2\r\nhi\n0\r\n\r\n"),
	RAW(400, CHUNKED "0000000000000002\r\nhi\r\n0\r\n\r\n"),
	RAW(400, CHUNKED "0\r\nX: a\n\r\n"),
	RAW(400, CHUNKED "0\r\nX: a\r\n b\r\n\r\n"),
	RAW(400, CHUNKED "0\r\nX: a\r\nY\r\n\r\n"),
	RAW(400, CHUNKED "0\r\n: a\r\n\r\n"),
	RAW(400, CHUNKED "0\r\nX : a\r\n\r\n"),
	RAW(400, CHUNKED "0\r\n\rGET / HTTP/1.1\r\n"),
};

static void raw_requests(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(raw); i++) {
		struct client *k = client_new(true);

		say(k, raw[i].text, raw[i].n);
		WAIT(status_of(k) || k->eof);
		if (status_of(k) != raw[i].status)
			fail_msg("%d instead of %d for: %s", status_of(k), raw[i].status, raw[i].text);
		assert_true(has(k, "X-Request-Id: req-"));
		if (raw[i].status != 200 && raw[i].status != 404) {
			/* Refused in the house's form, closed, and not by a reset. */
			WAIT(k->eof);
			assert_false(k->reset);
			assert_true(has(k, "Connection: close\r\n"));
			assert_true(has(k, "Content-Type: application/json\r\n"));
			assert_true(has(k, "{\"refused\":"));
			assert_int_equal(times(k, "HTTP/1.1 "), 1);
		}
		client_free(k);
	}
}

/* The same table, one byte at a time: where a read ends changes nothing. */
static void raw_bytewise(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(raw); i++) {
		struct client *k = client_new(true);

		for (size_t n = 0; n < raw[i].n && !status_of(k); n++)
			say(k, raw[i].text + n, 1);
		WAIT(status_of(k) || k->eof);
		if (status_of(k) != raw[i].status)
			fail_msg("%d instead of %d for: %s", status_of(k), raw[i].status, raw[i].text);
		client_free(k);
	}
}

static void too_long(void **state)
{
	auto_buf struct buf b = BUF_MAX(1u << 20);
	struct client *k;

	/* 16 KiB of target are taken, more is not; nor a line that never ends */
	for (unsigned int i = 0; i < 3; i++) {
		buf_reset(&b);
		buf_add_c(&b, "GET /hello?");
		for (unsigned int n = 0; n < (i == 0 ? 16000u : i == 1 ? 17000u : 40000u); n++)
			buf_add_c(&b, "x");
		if (i < 2)
			buf_add_c(&b, " HTTP/1.1\r\n" HOST END);
		k = client_new(true);
		say(k, b.p, b.n);
		WAIT(status_of(k));
		assert_int_equal(status_of(k), i == 0 ? 200 : 414);
		client_free(k);
	}
	/* 100 headers, 101 headers, 33 KiB of headers */
	for (unsigned int i = 0; i < 3; i++) {
		buf_reset(&b);
		buf_add_c(&b, "GET /hello HTTP/1.1\r\n" HOST);
		for (unsigned int n = 0; n < (i == 0 ? 99u : i == 1 ? 100u : 80u); n++)
			buf_fmt(&b, "X-%u: %0*d\r\n", n, i == 2 ? 420 : 1, 0);
		buf_add_c(&b, END);
		k = client_new(true);
		say(k, b.p, b.n);
		WAIT(status_of(k));
		assert_int_equal(status_of(k), i == 0 ? 200 : 431);
		client_free(k);
	}
}

/* --- one connection, several requests --- */

static void keep_alive(void **state)
{
	struct client *k = client_new(true);

	for (unsigned int i = 1; i <= 3; i++) {
		say_c(k, "GET /hello HTTP/1.1\r\n" HOST END);
		WAIT(times(k, "\r\n\r\nhello") == i);
	}
	assert_true(has(k, "Keep-Alive: timeout=175\r\n"));
	assert_true(has(k, "Content-Length: 5\r\n"));
	assert_true(has(k, "X-Method: GET\r\n"));
	say_c(k, "GET /hello HTTP/1.1\r\n" HOST "Connection: x, Close\r\n" END);
	WAIT(k->eof);
	assert_int_equal(times(k, "hello"), 4);
	assert_int_equal(times(k, "Connection: close"), 1);
	client_free(k);
	WAIT(httpd_connections(t.d) == 0);
}

static void pipelined(void **state)
{
	auto_buf struct buf b = BUF_MAX(1u << 20);
	struct client *k = client_new(true);

	for (int i = 0; i < 1000; i++)
		buf_add_c(&b, i % 2 ? "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 6\r\n" END "(body)"
				    : "GET /hello HTTP/1.1\r\n" HOST END);
	say(k, b.p, b.n);
	WAIT(times(k, "(body)") == 500);
	assert_int_equal(times(k, "hello"), 500);
	assert_int_equal(t.requests, 1000);
	client_free(k);
}

/* How many requests of others are begun until this one of this client's is answered. */
static int waits(struct client *k)
{
	static const char ask[] = "GET /empty HTTP/1.1\r\n" HOST END;
	unsigned int had = times(k, "HTTP/1.1 204");
	int before = t.requests;

	assert_int_equal(send(k->fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL), sizeof(ask) - 1);
	WAIT(times(k, "HTTP/1.1 204") > had);
	return t.requests - before - 1;
}

/* Thousands of requests sent ahead are begun one after the other; who asks one thing does not wait for
 * them, from the same address or another. */
static void pipelines_take_turns(void **state)
{
	enum { PIPES = 20, AHEAD = 400 };
	auto_buf struct buf b = BUF_MAX(1u << 20);
	struct client *other = client_from(2, true), *same = client_new(true), *pipe[PIPES];
	int most = 0;

	for (int i = 0; i < AHEAD; i++)
		buf_add_c(&b, "GET /hello HTTP/1.1\r\n" HOST END);
	assert_int_equal(waits(other), 0); /* accepted, both */
	assert_int_equal(waits(same), 0);
	for (int i = 0; i < PIPES; i++) {
		pipe[i] = client_new(true);
		assert_int_equal(send(pipe[i]->fd, b.p, b.n, MSG_NOSIGNAL), b.n);
	}
	WAIT(t.requests > 3 * PIPES); /* all are read, and more wait */
	for (int i = 0; i < 10; i++) {
		most = MAX(most, waits(other));
		most = MAX(most, waits(same));
	}
	assert_true(most <= 12); /* a turn has one of theirs, and it takes a few: accepted, read, answered */
	/* The control: one behind the others of its connection waits for those of all. */
	assert_true(waits(pipe[0]) > PIPES);
	WAIT(t.requests == PIPES * AHEAD + 23);
	for (int i = 0; i < PIPES; i++)
		client_free(pipe[i]);
	client_free(other);
	client_free(same);
}

/* Behind a request that is being worked on, only so much is read. */
static void pipeline_bounded(void **state)
{
	struct client *k = client_new(true);
	size_t sent = 0;
	int turns = 0;

	say_c(k, "GET /pending HTTP/1.1\r\n" HOST END);
	WAIT(t.pending);
	while (turns < 50) {
		ssize_t w = send(k->fd, filler, sizeof(filler), MSG_DONTWAIT | MSG_NOSIGNAL);

		sent += w > 0 ? (size_t)w : 0;
		turns = w > 0 ? 0 : turns + 1;
		uv_run(&t.loop, UV_RUN_NOWAIT);
		assert_true(sent < 64u << 20); /* the kernel's buffers, not ours */
	}
	http_reply(t.pending, 200, NULL, STR("ok"));
	WAIT(k->eof); /* zeros are no request */
	assert_true(has(k, "ok"));
	assert_int_equal(times(k, "HTTP/1.1 400"), 1);
	client_free(k);
}

static void unread_body(void **state)
{
	auto_buf struct buf b = BUF_MAX(1u << 20);
	struct client *k = client_new(true);

	/* small: skipped, and the connection lives */
	say_c(k, "POST /hello HTTP/1.1\r\n" HOST "Content-Length: 5\r\n" END "GET /");
	say_c(k, "GET /hello HTTP/1.1\r\n" HOST END);
	WAIT(times(k, "hello") == 2);
	/* large: answered, then closed without a reset */
	buf_add_c(&b, "POST /hello HTTP/1.1\r\n" HOST "Content-Length: 900000\r\n" END);
	buf_add(&b, filler, sizeof(filler));
	say(k, b.p, b.n);
	WAIT(k->eof);
	assert_int_equal(times(k, "hello"), 3);
	assert_false(k->reset);
	client_free(k);
}

/* Many clients write all of a body before they read: what they hear must not be a reset. */
static void refused_while_sending(void **state)
{
	struct client *k = client_new(true);

	say_c(k, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 16777216\r\n" END);
	for (int i = 0; i < 256; i++)
		say(k, filler, sizeof(filler));
	WAIT(status_of(k) == 413 && k->eof);
	assert_false(k->reset);
	shutdown(k->fd, SHUT_WR);
	WAIT(httpd_connections(t.d) == 0);
	client_free(k);
}

static void expect_continue(void **state)
{
	struct client *k = client_new(true);

	say_c(k, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 4\r\n" END);
	WAIT(has(k, "HTTP/1.1 100 Continue\r\n\r\n"));
	assert_int_equal(t.bodies, 0);
	say_c(k, "body");
	WAIT(has(k, "\r\n\r\nbody"));
	/* too long: refused before it is sent */
	buf_reset(&k->got);
	say_c(k, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 5000\r\n" END);
	WAIT(k->eof);
	assert_int_equal(status_of(k), 413);
	client_free(k);
	/* not asked for: no 100, and no waiting for a body that may never come */
	k = client_new(true);
	say_c(k, "POST /hello HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 4\r\n" END);
	WAIT(k->eof);
	assert_int_equal(status_of(k), 200);
	assert_true(has(k, "Connection: close"));
	client_free(k);
}

/* Who passes a body on says when, and what came behind it is there. */
static void relayed(void **state)
{
	static const char ask[] = "POST /relay HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
				  "Transfer-Encoding: chunked\r\n" END;
	struct client *k = client_new(true);
	uint64_t until;

	for (int i = 0; i < 2; i++) { /* and the connection goes on */
		say_c(k, ask);
		WAIT(t.pending);
		until = uv_now(&t.loop) + 600; /* longer than a body may be silent */
		WAIT(uv_now(&t.loop) > until);
		assert_non_null(t.pending);
		assert_false(has(k, "HTTP/1.1"));
		http_continue(t.pending);
		http_continue(t.pending); /* once is enough */
		WAIT(has(k, "HTTP/1.1 100 Continue\r\n\r\n"));
		say_c(k, "4\r\nbody\r\n0\r\nX: y\r\nZ:\r\n\r\n");
		WAIT(has(k, "\r\na\r\nX: y\r\nZ:\r\n\r\n0\r\nX: y\r\nZ:\r\n\r\n"));
		assert_null(strstr(strstr(buf_cstr(&k->got), "Continue") + 1, "Continue"));
		t.pending = NULL;
		buf_reset(&k->got);
	}
	/* refused, without a byte of it */
	say_c(k, ask);
	WAIT(t.pending);
	http_reply(t.pending, 417, NULL, STR("no"));
	WAIT(k->eof);
	assert_true(status_of(k) == 417 && has(k, "Connection: close"));
	assert_int_equal(t.streamed, 8);
	client_free(k);
	/* the control: once told to go on it is its turn */
	t.pending = NULL;
	k = client_new(true);
	say_c(k, ask);
	WAIT(t.pending);
	http_continue(t.pending);
	WAIT(k->eof);
	assert_true(has(k, "HTTP/1.1 408 "));
	client_free(k);
}

static void large_upload(void **state)
{
	struct client *k = client_new(true);

	say_c(k, "PUT /count HTTP/1.1\r\n" HOST "Content-Length: 6553600\r\n" END);
	for (int i = 0; i < 100; i++)
		say(k, filler, sizeof(filler));
	WAIT(has(k, "\r\n\r\n6553600"));
	assert_int_equal(t.streamed, 6553600);
	client_free(k);
}

static void body_pause(void **state)
{
	struct client *k = client_new(true);
	size_t before;

	say_c(k, "PUT /pending HTTP/1.1\r\n" HOST "Content-Length: 1310720\r\n" END);
	WAIT(t.pending);
	http_body_stream(t.pending, count, &t);
	say(k, filler, sizeof(filler));
	WAIT(t.streamed == sizeof(filler));
	http_body_pause(t.pending, true);
	uv_run(&t.loop, UV_RUN_NOWAIT);
	before = t.streamed;
	assert_int_equal(send(k->fd, filler, 1000, MSG_DONTWAIT), 1000);
	for (int i = 0; i < 50; i++)
		uv_run(&t.loop, UV_RUN_NOWAIT);
	assert_int_equal(t.streamed, before);
	http_body_pause(t.pending, false);
	WAIT(t.streamed == before + 1000);
	say(k, filler, sizeof(filler) - 1000);
	for (int i = 2; i < 20; i++)
		say(k, filler, sizeof(filler));
	WAIT(has(k, "\r\n\r\n1310720"));
	client_free(k);
}

/* --- responses --- */

static void response_forms(void **state)
{
	static const struct {
		const char *request, *wanted;
	} cases[] = {
		{ "GET /chunks HTTP/1.1\r\n" HOST END, "\r\n\r\n4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n" },
		{ "GET /length HTTP/1.1\r\n" HOST END, "Content-Length: 3\r\n" },
		{ "GET /empty HTTP/1.1\r\n" HOST END, "HTTP/1.1 204 No Content\r\n" },
		{ "GET /query?a=b&path=%2Ftmp%2Fa+b%2Bc.txt HTTP/1.1\r\n" HOST END,
			"\r\n\r\n/tmp/a b+c.txt" },
		{ "GET /query?%70ath= HTTP/1.1\r\n" HOST END, "HTTP/1.1 200 OK\r\n" },
		{ "GET /query?paths=1 HTTP/1.1\r\n" HOST END, "HTTP/1.1 404 " },
		{ "GET /query?path=%zz HTTP/1.1\r\n" HOST END, "HTTP/1.1 400 " },
		{ "GET /query?path=%00 HTTP/1.1\r\n" HOST END, "HTTP/1.1 400 " },
		{ "GET /query?path=%2 HTTP/1.1\r\n" HOST END, "HTTP/1.1 400 " },
	};
	struct client *k = client_new(true);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		buf_reset(&k->got);
		say_c(k, cases[i].request);
		WAIT(has(k, cases[i].wanted));
	}
	client_free(k);
	/* HTTP/1.0 knows no chunks: the end of the connection is the end of the body */
	k = client_new(true);
	say_c(k, "GET /chunks HTTP/1.0\r\n\r\n");
	WAIT(k->eof);
	assert_true(has(k, "\r\n\r\none\ntwo\n"));
	assert_false(has(k, "chunked"));
	client_free(k);
	/* a body that cannot be finished is not ended well */
	k = client_new(true);
	say_c(k, "GET /short HTTP/1.1\r\n" HOST END);
	WAIT(k->eof);
	client_free(k);
	k = client_new(true);
	say_c(k, "GET /abort HTTP/1.1\r\n" HOST END);
	WAIT(k->eof);
	assert_false(has(k, "0\r\n\r\n"));
	assert_int_equal(t.gone, 0);
	client_free(k);
}

static void head_has_no_body(void **state)
{
	static const char *const paths[] = { "hello", "chunks", "length", "empty" };
	struct client *k = client_new(true);

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		auto_buf struct buf b = BUF_MAX(256);

		buf_reset(&k->got);
		buf_fmt(&b, "HEAD /%s HTTP/1.1\r\n" HOST END "GET /none HTTP/1.1\r\n" HOST END, paths[i]);
		say(k, b.p, b.n);
		WAIT(times(k, "\r\n\r\n") == 2);
		/* right behind the first head starts the second */
		assert_true(has(k, "\r\n\r\nHTTP/1.1 404 "));
	}
	client_free(k);
}

static void back_pressure(void **state)
{
	struct client *k = client_new(false);
	size_t before;

	say_c(k, "GET /big HTTP/1.1\r\n" HOST END);
	WAIT(t.streamed > 0);
	for (int i = 0; i < 50; i++)
		uv_run(&t.loop, UV_RUN_NOWAIT);
	before = t.streamed;
	assert_true(before < 8u << 20); /* a client that does not read stops the handler */
	uv_poll_start(&k->poll, UV_READABLE, on_client);
	WAIT(has(k, "\r\n0\r\n\r\n"));
	assert_true(k->got.n > 8u << 20);
	assert_true(t.drains > 1);
	client_free(k);
}

static void upgrade(void **state)
{
	struct client *k = client_new(true);

	say_c(k, "GET /upgrade HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: tunnel\r\n" END "rest");
	WAIT(k->eof);
	assert_int_equal(status_of(k), 101);
	assert_true(has(k, "Upgrade: tunnel\r\n"));
	assert_true(has(k, "X-Extra: 1\r\n\r\nrest"));
	client_free(k);
}

/* --- peers that go --- */

static void gone_while_pending(void **state)
{
	struct client *k = client_new(true);

	say_c(k, "GET /pending HTTP/1.1\r\n" HOST END);
	WAIT(t.pending);
	client_free(k);
	WAIT(t.gone == 1);
	WAIT(httpd_connections(t.d) == 0);
}

static void reset(struct client *k)
{
	struct linger hard = { .l_onoff = 1 };

	setsockopt(k->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	client_free(k);
}

static void reset_while_pending(void **state)
{
	struct client *k = client_new(true);

	say_c(k, "GET /pending HTTP/1.1\r\n" HOST END);
	WAIT(t.pending);
	reset(k);
	WAIT(t.gone == 1);
}

/* Reading is stopped: only asking the socket tells. */
static void gone_while_not_reading(void **state)
{
	struct client *k = client_new(true);

	say_c(k, "GET /pending HTTP/1.1\r\n" HOST END);
	WAIT(t.pending);
	for (int i = 0; i < 3; i++) /* as much as surely fits the kernel's buffer behind it */
		send(k->fd, filler, 32768, MSG_DONTWAIT | MSG_NOSIGNAL);
	for (int i = 0; i < 50; i++)
		uv_run(&t.loop, UV_RUN_NOWAIT);
	shutdown(k->fd, SHUT_WR);
	WAIT(t.gone == 1);
	client_free(k);
}

static void reset_while_paused(void **state)
{
	struct client *k = client_new(true);

	say_c(k, "PUT /pending HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n" END);
	WAIT(t.pending);
	http_body_stream(t.pending, count, NULL);
	http_body_pause(t.pending, true);
	uv_run(&t.loop, UV_RUN_NOWAIT);
	send(k->fd, filler, 100, MSG_DONTWAIT);
	reset(k);
	WAIT(t.gone == 1);
	assert_int_equal(t.streamed, 0);
}

static void gone_while_writing(void **state)
{
	struct client *k = client_new(false);

	say_c(k, "GET /big HTTP/1.1\r\n" HOST END);
	WAIT(t.streamed > 0);
	reset(k);
	WAIT(t.gone == 1);
}

/* --- time and limits --- */

static void slow_head(void **state)
{
	struct client *k = client_new(true);

	say_c(k, "GET /hello HTTP/1.1\r\nX-Slow: ");
	WAIT(k->eof);
	assert_int_equal(status_of(k), 408);
	client_free(k);
}

static void slow_body(void **state)
{
	struct client *k = client_new(true);

	say_c(k, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n" END "abc");
	WAIT(k->eof);
	assert_int_equal(status_of(k), 408);
	assert_int_equal(t.gone, 1);
	assert_int_equal(t.bodies, 0);
	client_free(k);
}

static void idle_closes(void **state)
{
	struct client *fresh = client_new(true), *used = client_new(true);

	say_c(used, "GET /hello HTTP/1.1\r\n" HOST END);
	WAIT(fresh->eof && used->eof);
	assert_int_equal(fresh->got.n, 0);
	assert_int_equal(times(used, "HTTP/1.1 "), 1);
	client_free(fresh);
	client_free(used);
}

/* A handler may take longer than any of these limits. */
static void slow_handler(void **state)
{
	struct client *k = client_new(true);
	uint64_t until;

	say_c(k, "GET /pending HTTP/1.1\r\n" HOST END);
	WAIT(t.pending);
	until = uv_now(&t.loop) + 600;
	WAIT(uv_now(&t.loop) > until);
	assert_non_null(t.pending);
	http_reply(t.pending, 200, NULL, STR("late"));
	WAIT(has(k, "late"));
	client_free(k);
}

static void stalled_reader(void **state)
{
	struct client *k = client_new(false);

	say_c(k, "GET /big HTTP/1.1\r\n" HOST END);
	WAIT(t.gone == 1);
	client_free(k);
}

/* Two have all places there are; a third is refused, saying all of this; when one of them goes,
 * another is served. */
static void third_is_refused(const char *const *says)
{
	struct client *a = client_new(true), *b = client_new(true), *c;

	say_c(a, "GET /hello HTTP/1.1\r\n" HOST END);
	say_c(b, "GET /hello HTTP/1.1\r\n" HOST END);
	WAIT(has(a, "hello") && has(b, "hello"));
	c = client_new(true);
	WAIT(c->eof);
	assert_int_equal(status_of(c), 503);
	for (; *says; says++)
		assert_true(has(c, *says));
	client_free(c);
	client_free(b);
	WAIT(httpd_connections(t.d) == 1);
	b = client_new(true);
	say_c(b, "GET /hello HTTP/1.1\r\n" HOST END);
	WAIT(has(b, "hello"));
	client_free(a);
	client_free(b);
}

static void connection_limit(void **state)
{
	third_is_refused((const char *const[]){ "Retry-After: 1\r\n", "capacity", NULL });
}

static void address_limit(void **state)
{
	struct httpd_refused refused;

	httpd_per_address(t.d, 2);
	third_is_refused((const char *const[]){ "per address", NULL });
	httpd_refused(t.d, &refused);
	assert_int_equal(refused.per_address, 1);
	assert_int_equal(refused.all, 0);
}

/* Never silent, never done. An honest client that takes as long is served. */
static void trickling_body(void **state)
{
	static const char head[] = "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 900\r\n" END;
	struct client *slow = client_new(true), *honest = client_new(true);
	uint64_t until;

	say_c(slow, head);
	say_c(honest, head);
	say(honest, filler, 899);
	for (int sent = 0; !slow->eof && sent < 200; sent++) {
		say_c(slow, "x");
		until = uv_now(&t.loop) + 15;
		WAIT(uv_now(&t.loop) > until || slow->eof);
	}
	WAIT(slow->eof);
	assert_int_equal(status_of(slow), 408);
	say_c(honest, "x");
	WAIT(honest->got.n > 900);
	assert_int_equal(status_of(honest), 200);
	client_free(slow);
	client_free(honest);
}

/* Connections that ask nothing do not keep others out; one at work stays. */
static void idle_ones_make_room(void **state)
{
	struct client *busy = client_new(true), *silent = client_new(true), *k;
	uint64_t until;

	say_c(busy, "GET /pending HTTP/1.1\r\n" HOST END);
	say_c(silent, "GET /hel"); /* not even whole */
	WAIT(t.pending && httpd_connections(t.d) == 2);
	until = uv_now(&t.loop) + 200;
	WAIT(uv_now(&t.loop) > until);
	k = client_new(true);
	say_c(k, "GET /hello HTTP/1.1\r\n" HOST END);
	WAIT(has(k, "hello") && silent->eof);
	http_reply(t.pending, 200, NULL, STR("done"));
	WAIT(has(busy, "done"));
	client_free(k);
	client_free(silent);
	client_free(busy);
}

/* Large answers that nobody reads are no burden beyond a bound, and the small ones go on. */
static void unread_answers(void **state)
{
	struct client *silent[12], *k;

	httpd_answers_max(t.d, 64u << 20);
	for (size_t i = 0; i < ARRAY_SIZE(silent); i++) {
		silent[i] = client_new(false);
		say_c(silent[i], "GET /huge HTTP/1.1\r\n" HOST END);
		WAIT(t.requests == (int)i + 1);
	}
	k = client_new(true);
	say_c(k, "GET /huge HTTP/1.1\r\n" HOST END);
	WAIT(has(k, "too many answers"));
	assert_int_equal(status_of(k), 503);
	say_c(k, "GET /hello HTTP/1.1\r\n" HOST END);
	WAIT(has(k, "hello"));
	for (size_t i = 0; i < ARRAY_SIZE(silent); i++)
		client_free(silent[i]);
	WAIT(httpd_connections(t.d) == 1);
	say_c(k, "GET /huge HTTP/1.1\r\n" HOST END);
	WAIT(k->got.n > sizeof(huge));
	client_free(k);
}

/* Out of descriptors the server lives on, and serves again when there are some. */
static void descriptors_run_out(void **state)
{
	struct rlimit old, low;
	struct client *kept = client_new(true), *extra;
	int holes[64], n = 0;

	say_c(kept, "GET /hello HTTP/1.1\r\n" HOST END);
	WAIT(has(kept, "hello"));
	extra = client_new(true); /* its own descriptor; the server has accepted nothing yet */
	getrlimit(RLIMIT_NOFILE, &old);
	low = (struct rlimit){ .rlim_cur = 64, .rlim_max = old.rlim_max };
	setrlimit(RLIMIT_NOFILE, &low);
	while (n < 64 && (holes[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	WAIT(extra->eof);
	say_c(kept, "GET /hello HTTP/1.1\r\n" HOST END);
	WAIT(times(kept, "hello") == 2);
	while (n)
		fd_close(holes[--n]);
	setrlimit(RLIMIT_NOFILE, &old);
	client_free(extra);
	extra = client_new(true);
	say_c(extra, "GET /hello HTTP/1.1\r\n" HOST END);
	WAIT(has(extra, "hello"));
	client_free(extra);
	client_free(kept);
}

static void on_stopped(void *arg)
{
	t.stopped = true;
}

static void stops_gracefully(void **state)
{
	struct client *idle = client_new(true), *busy = client_new(true);

	say_c(idle, "GET /hello HTTP/1.1\r\n" HOST END);
	say_c(busy, "GET /pending HTTP/1.1\r\n" HOST END);
	WAIT(has(idle, "hello") && t.pending);
	httpd_shutdown(t.d, on_stopped, NULL);
	WAIT(idle->eof);
	assert_false(t.stopped);
	http_reply(t.pending, 200, NULL, STR("last"));
	WAIT(busy->eof);
	assert_true(has(busy, "Connection: close\r\n") && has(busy, "last"));
	client_free(busy);
	WAIT(t.stopped);
	client_free(idle);
}

/* Freed with a request running: its handler hears of it. */
static void freed_while_busy(void **state)
{
	struct client *k = client_new(true);

	say_c(k, "GET /pending HTTP/1.1\r\n" HOST END);
	WAIT(t.pending);
	httpd_free(t.d);
	t.d = NULL;
	assert_int_equal(t.gone, 1);
	WAIT(k->eof);
	client_free(k);
}

int main(void)
{
#define TEST(f)		 cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_WITH(f, s)	 cmocka_unit_test_setup_teardown(f, s, teardown)
	const struct CMUnitTest tests[] = {
		TEST(raw_requests),
		TEST(raw_bytewise),
		TEST(too_long),
		TEST(keep_alive),
		TEST(pipelined),
		TEST(pipelines_take_turns),
		TEST(pipeline_bounded),
		TEST(unread_body),
		TEST(refused_while_sending),
		TEST(expect_continue),
		TEST(large_upload),
		TEST(body_pause),
		TEST(response_forms),
		TEST(head_has_no_body),
		TEST(back_pressure),
		TEST(upgrade),
		TEST(gone_while_pending),
		TEST(reset_while_pending),
		TEST(gone_while_not_reading),
		TEST(reset_while_paused),
		TEST(gone_while_writing),
		TEST_WITH(slow_head, setup_impatient),
		TEST_WITH(slow_body, setup_impatient),
		TEST_WITH(relayed, setup_impatient),
		TEST_WITH(idle_closes, setup_impatient),
		TEST_WITH(slow_handler, setup_impatient),
		TEST_WITH(stalled_reader, setup_impatient),
		TEST_WITH(connection_limit, setup_narrow),
		TEST_WITH(idle_ones_make_room, setup_sparing),
		TEST(address_limit),
		TEST_WITH(trickling_body, setup_measuring),
		TEST(unread_answers),
		TEST(descriptors_run_out),
		TEST(stops_gracefully),
		TEST(freed_while_busy),
	};

	return cmocka_run_group_tests_name("event/httpd", tests, NULL, NULL);
}
