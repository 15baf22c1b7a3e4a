/*
 * httpd: whatever allocation fails during three requests of a connection, each is answered whole, by
 * 200 or by a refusal that is the server's fault, or the connection ends; the next connection is
 * served, and nothing is left. libuv's own allocations do not fail here: it ends the process then.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include "event/httpd.h"
#include "../nth.h"

#define ROUNDS 2000 /* of a loop that never waits: a connection that is still there then is stuck */

/* What is answered before its body has come ends the connection: that one is last. */
static const char requests[] =
	"POST /whole?q=%41 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
	"GET /plain?q=b HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n"
	"PUT /pieces HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

static char said[65536];
static size_t n_said;

static void on_body(struct http *h, struct str body, void *arg)
{
	http_reply(h, 200, "text/plain", body);
}

static void on_data(struct http *h, struct str data, bool end, void *arg)
{
	if (!end)
		http_write(h, data);
	else
		http_end(h);
}

static void on_request(struct http *h, void *arg)
{
	struct str v;

	if (http_query_get(h, "q", &v) == 0)
		http_add_header(h, "X-Query", v);
	if (http_method(h) == HTTP_M_POST) {
		http_body_whole(h, 4096, on_body, NULL);
	} else if (http_method(h) == HTTP_M_PUT) {
		http_start(h, 200, "text/plain", -1); /* as the API does: what broke is ended later */
		http_body_stream(h, on_data, NULL);
	} else {
		http_reply(h, 200, "text/plain", http_path(h));
	}
}

static void on_refuse(struct http *h, int status, const struct err *err, struct buf *body,
	const char **type, void *arg)
{
	buf_add_c(body, err->text);
}

static const struct httpd_ops ops = { .on_request = on_request, .on_refuse = on_refuse };

static void receive(int fd)
{
	ssize_t n = recv(fd, said + n_said, sizeof(said) - 1 - n_said, MSG_DONTWAIT);

	n_said += n > 0 ? (size_t)n : 0;
	said[n_said] = '\0';
}

/* One client with all it has to say; how many answers of 200 it was given. */
static unsigned int converse(uv_loop_t *loop, struct httpd *server, const char *text)
{
	unsigned int rounds = 0, served = 0;
	int fds[2];

	n_said = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(send(fds[1], text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	httpd_adopt(server, fds[0], 0);
	for (; httpd_connections(server) && rounds < ROUNDS; rounds++) {
		uv_run(loop, UV_RUN_NOWAIT);
		receive(fds[1]);
		if (rounds == ROUNDS / 2)
			shutdown(fds[1], SHUT_WR);
	}
	receive(fds[1]);
	close(fds[1]);
	if (httpd_connections(server))
		fail_msg("a connection neither goes on nor ends: %s", said);
	for (const char *at = said; (at = strstr(at, "HTTP/1.1 ")); at += 9) {
		if (strncmp(at + 9, "200", 3) != 0 && at[9] != '5')
			fail_msg("the client is told that it is at fault: %s", said);
		served += at[9] == '2';
	}
	return served;
}

static int life(void *arg)
{
	struct httpd *server = NULL;
	unsigned int served;
	uv_loop_t loop;
	int r;

	assert_int_equal(uv_loop_init(&loop), 0);
	r = httpd_new(&loop, &ops, NULL, 16, &server);
	if (r == 0) {
		served = converse(&loop, server, requests);
		r = served == 3 ? 0 : -ENOMEM;
		nth_stop();
		if (converse(&loop, server, request) != 1)
			fail_msg("the next connection is not served: %s", said);
		httpd_free(server);
	}
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	return r;
}

static void each_allocation(void **state)
{
	nth_each("httpd", life, NULL, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(each_allocation) };

	return cmocka_run_group_tests_name("event/httpd_nth", tests, NULL, NULL);
}
