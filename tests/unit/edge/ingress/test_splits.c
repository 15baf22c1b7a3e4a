/*
 * Where a read ends is no property of a message: each conversation is sent once whole, and once for
 * every place at which it can be cut in two; what the other side sees is the same.
 */
#include "../../unit.h"
#include "played.h"

#define AT "Host: " PLAYED_ULID "-80.localhost\r\n"

static const char *const requests[] = {
	"GET / HTTP/1.1\r\n" AT "\r\n",
	"\r\nGET /a?b HTTP/1.1\r\n" AT "Accept: x\r\nX-Api-Key: k\r\n\r\n",
	"POST / HTTP/1.1\r\n" AT "Content-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\n" AT "\r\n",
	"POST / HTTP/1.1\r\n" AT "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n"
	"X-Sum: 1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\n" AT "\r\n",
	"GET /" PLAYED_ULID "/80/x HTTP/1.1\r\nHost: h\r\n\r\nGET /none HTTP/1.1\r\nHost: h\r\n\r\n"
	"GET / HTTP/1.1\r\n" AT "Connection: close\r\n\r\nGET /never HTTP/1.1\r\n" AT "\r\n",
	"POST / HTTP/1.1\r\n" AT "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
};

static const char *const answers[] = {
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n"
	 "0123456789\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a\r\nX-More: 2\r\n\r\n"),
	"HTTP/1.1 204 No Content\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
	"HTTP/1.0 200 OK\r\n\r\nuntil the end",
	"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbytes\r\n\r\nbytes",
	"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
};

struct fixture {
	struct played p;
	struct buf sent[2], said[2]; /* what a service saw; what the client saw: whole, and cut */
};

static void cut_and_send(struct played *p, struct talk *t, struct str text, size_t at)
{
	talk_send(p, t, str_n(text.p, at));
	played_run(p);
	talk_send(p, t, str_skip(text, at));
	played_run(p);
}

static void request_once(struct fixture *f, struct str text, size_t at, struct buf *seen,
	struct buf *said)
{
	buf_reset(seen);
	buf_reset(said);
	assert_int_equal(played_connect(&f->p), 0);
	talk_send(&f->p, &f->p.client, str_n(text.p, at));
	played_serve(&f->p, seen);
	talk_send(&f->p, &f->p.client, str_skip(text, at));
	played_serve(&f->p, seen);
	buf_add_str(said, buf_str(&f->p.client.got));
}

static void answer_once(struct fixture *f, struct str text, size_t at, struct buf *said)
{
	static const char ask[] = "GET / HTTP/1.1\r\n" AT "Connection: upgrade\r\nUpgrade: x\r\n\r\n";
	unsigned int last;

	buf_reset(said);
	assert_int_equal(played_connect(&f->p), 0);
	talk_send(&f->p, &f->p.client, str_c(ask));
	played_run(&f->p);
	assert_true(f->p.n > 0);
	last = f->p.n - 1;
	cut_and_send(&f->p, &f->p.service[last], text, at);
	talk_shut(&f->p, &f->p.service[last]);
	buf_add_str(said, buf_str(&f->p.client.got));
}

static void assert_same(const struct buf *a, const struct buf *b, size_t at)
{
	if (!str_eq(buf_str(a), buf_str(b)))
		fail_msg("cut at %zu: \"" STR_FMT "\" instead of \"" STR_FMT "\"", at,
			STR_ARG(buf_str(b)), STR_ARG(buf_str(a)));
}

static void test_requests(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		struct str text = str_c(requests[i]);

		request_once(f, text, text.n, &f->sent[0], &f->said[0]);
		assert_true(f->said[0].n > 0);
		for (size_t at = 1; at < text.n; at++) {
			request_once(f, text, at, &f->sent[1], &f->said[1]);
			assert_same(&f->sent[0], &f->sent[1], at);
			assert_same(&f->said[0], &f->said[1], at);
		}
	}
}

static void test_answers(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		struct str text = str_c(answers[i]);

		answer_once(f, text, text.n, &f->said[0]);
		assert_true(f->said[0].n > 0);
		for (size_t at = 1; at < text.n; at++) {
			answer_once(f, text, at, &f->said[1]);
			assert_same(&f->said[0], &f->said[1], at);
		}
	}
}

/* The control: a conversation that differs is seen to differ. */
static void test_control(void **state)
{
	struct fixture *f = *state;

	request_once(f, str_c(requests[0]), 3, &f->sent[0], &f->said[0]);
	request_once(f, str_c(requests[1]), 3, &f->sent[1], &f->said[1]);
	assert_false(str_eq(buf_str(&f->sent[0]), buf_str(&f->sent[1])));
	assert_true(str_eq_c(buf_str(&f->sent[0]), "GET / \n"));
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	for (int i = 0; i < 2; i++)
		f->sent[i] = f->said[i] = BUF_MAX(1u << 20);
	return played_open(&f->p);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	played_close(&f->p);
	for (int i = 0; i < 2; i++) {
		buf_done(&f->sent[i]);
		buf_done(&f->said[i]);
	}
	free(f);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_control, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
