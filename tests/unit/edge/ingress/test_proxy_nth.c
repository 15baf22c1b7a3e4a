/* The proxy with each allocation failing: a request is answered, refused or its connection closed,
 * and nothing is lost or forwarded amiss. */
#include "../../nth.h"
#include "played.h"

#define AT "Host: " PLAYED_ULID "-80.localhost\r\n"

static int told(struct played *p)
{
	struct ipc_edge_ingress set = { .id = PLAYED_ID, .slot = PLAYED_SLOT, .ifindex = 1,
		.ip4 = { 4, { 127, 0, 0, 1 } }, .flags = IPC_INGRESS_ON,
		.state = IPC_INGRESS_RUNNING, .access = IPC_INGRESS_TOKEN, .n_tokens = 1,
		.tokens = { { .port = 80 } } };
	struct err err;

	return ingress_set(p->in, &set, NULL, 0, &err);
}

/* Requests that come in pieces and are answered so, one after another on one connection. */
static int converse(void *arg)
{
	struct played p;
	int r;

	nth_window(false);
	r = played_open(&p);
	if (r < 0)
		return r;
	r = played_connect(&p);
	if (r == 0) {
		talk_send(&p, &p.client, STR("POST / HTTP/1.1\r\n" AT "Content-"));
		played_run(&p);
		talk_send(&p, &p.client, STR("Length: 5\r\n\r\nhel"));
		played_serve(&p, NULL);
		talk_send(&p, &p.client, STR("loGET /2 HTTP/1.1\r\n" AT "\r\n"));
		played_serve(&p, NULL);
		if (p.client.got.n < 84)
			r = -ENOMEM;
	}
	if (r == 0) {
		nth_window(true);
		r = told(&p);
		nth_window(false);
	}
	if (r == 0)
		talk_send(&p, &p.client, STR("GET /3 HTTP/1.1\r\n" AT "\r\n"));
	played_close(&p);
	return r;
}

static void test_converse(void **state)
{
	played_window = nth_window;
	nth_window(false);
	nth_each("converse", converse, NULL, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_converse) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
