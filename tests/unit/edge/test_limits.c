/* What one sandbox can take from the others: nothing (D15). And what the cache can take from us. */
#include "play.h"

static void flood(void **state)
{
	struct play *p = play_new(&(struct play_conf){ .qps = 100 });
	unsigned int refused = 0, answered = 0, silent = 0;

	play_set(p, 1, 11, "allow:");
	play_set(p, 2, 12, "deny: allow h.test");
	for (unsigned int i = 0; i < 10000; i++) { /* in one second */
		play_ask(p, 1, "x.test", DNS_NULL);
		if (p->reply.n == 0)
			silent++;
		else if (resolver_stats(p->r)->refused_rate > refused)
			refused++;
		else
			answered++;
		p->now += NS_PER_SEC / 10000;
	}
	assert_in_range(answered, 290, 310); /* the burst and a second's worth */
	assert_in_range(refused, 190, 210);
	assert_int_equal(silent + refused + answered, 10000);
	assert_true(p->n_events <= 2 * WEIR_EVENTS_PER_SEC);
	play_ask(p, 2, "h.test", DNS_A); /* the neighbour does not notice */
	assert_int_equal(p->n_sent, 1);
	play_answer(p, 0, DNS_NOERROR, "h.test A 60 192.0.2.1");
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 192.0.2.1");
	p->now += NS_PER_SEC;
	play_ask(p, 1, "h.test", DNS_TXT); /* and the flooder recovers */
	assert_int_equal(p->n_sent, 2);
	play_free(p);
}

/* What is no question is counted like one: within the budget it is read, beyond it it is not. */
static void flood_of_garbage(void **state)
{
	struct play *p = play_new(&(struct play_conf){ .qps = 100 });

	play_set(p, 1, 11, "allow:");
	for (unsigned int i = 0; i < 1000; i++)
		play_ask_raw(p, 1, STR("no DNS"));
	assert_int_equal(p->n_replies, 0);
	assert_int_equal(resolver_stats(p->r)->refused_invalid, 200); /* the burst */
	assert_int_equal(resolver_stats(p->r)->refused_rate, 0);
	assert_int_equal(resolver_stats(p->r)->dropped_rate, 800);
	play_free(p);
}

static void events_are_bounded_and_counted(void **state)
{
	struct play *p = play_new(&(struct play_conf){ .qps = 100000 });

	play_set(p, 1, 11, "deny:");
	for (int i = 0; i < 500; i++)
		play_ask(p, 1, "x.test", DNS_A);
	assert_int_equal(p->n_events, WEIR_EVENTS_PER_SEC);
	p->now += NS_PER_SEC;
	play_ask(p, 1, "x.test", DNS_A);
	assert_int_equal(p->event.suppressed, 500 - WEIR_EVENTS_PER_SEC);
	p->events_lost = true; /* the api role is busy: what it is not told is counted as well */
	for (int i = 0; i < 3; i++)
		play_ask(p, 1, "x.test", DNS_A);
	p->events_lost = false;
	play_ask(p, 1, "x.test", DNS_A);
	assert_int_equal(p->event.suppressed, 3);
	play_free(p);
}

static void questions_in_flight(void **state)
{
	struct play *p = play_new(&(struct play_conf){ .qps = 100000 });
	char name[32];

	play_set(p, 1, 11, "allow:");
	play_set(p, 2, 12, "allow:");
	for (unsigned int i = 0; i < RESOLVER_WAITING_MAX; i++) {
		snprintf(name, sizeof(name), "n%u.test", i);
		play_ask(p, 1, name, DNS_A);
		assert_string_equal(play_reply(p), "silence");
	}
	play_ask(p, 1, "more.test", DNS_A);
	assert_string_equal(play_reply(p), "SERVFAIL");
	play_ask(p, 2, "more.test", DNS_A); /* the neighbour's budget is its own */
	assert_string_equal(play_reply(p), "silence");
	assert_int_equal(resolver_pending(p->r), RESOLVER_WAITING_MAX + 1);
	play_wait(p, 8000);
	assert_int_equal(resolver_pending(p->r), 0);
	play_ask(p, 1, "more.test", DNS_A);
	assert_string_equal(play_reply(p), "silence");
	play_free(p);
}

static void questions_of_all(void **state)
{
	struct play *p = play_new(&(struct play_conf){ .qps = 100000 });
	char name[32];

	for (uint32_t slot = 1; slot <= 20; slot++) {
		play_set(p, slot, 10 + slot, "allow:");
		for (unsigned int i = 0; i < 100; i++) {
			snprintf(name, sizeof(name), "n%u.s%u.test", i, slot);
			play_ask(p, slot, name, DNS_A);
		}
	}
	/* Twenty that wait for resolvers which never answer hold a lot, but not the last place. */
	assert_in_range(resolver_pending(p->r), RESOLVER_PENDING_MAX / 2, RESOLVER_PENDING_MAX - 8);
	play_set(p, 30, 40, "allow:");
	play_ask(p, 30, "first.test", DNS_A);
	assert_string_equal(play_reply(p), "silence"); /* under way */
	play_ask(p, 1, "more.test", DNS_A);
	assert_string_equal(play_reply(p), "SERVFAIL");
	resolver_del(p->r, 1);
	play_wait(p, 8000);
	assert_int_equal(resolver_pending(p->r), 0);
	play_free(p);
}

static void the_cache_is_bounded(void **state)
{
	struct play *p = play_new(&(struct play_conf){ .qps = 100000, .cache_entries = 10 });
	char name[32], record[64];

	play_set(p, 1, 11, "allow:");
	for (unsigned int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "n%u.test", i);
		snprintf(record, sizeof(record), "n%u.test A 60 192.0.2.1", i);
		play_ask(p, 1, name, DNS_A);
		play_answer(p, i, DNS_NOERROR, record);
		play_ask(p, 1, "n0.test", DNS_A); /* in use: stays */
	}
	assert_int_equal(p->n_sent, 50);
	play_ask(p, 1, "n49.test", DNS_A);
	assert_int_equal(p->n_sent, 50);
	play_ask(p, 1, "n20.test", DNS_A);
	assert_int_equal(p->n_sent, 51);
	play_free(p);
}

static void nobody_on_that_link(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "allow:");
	play_ask(p, 9, "h.test", DNS_A);
	assert_string_equal(play_reply(p), "silence");
	assert_int_equal(p->n_sent, 0);
	assert_int_equal(resolver_stats(p->r)->dropped_unknown, 1);
	assert_false(resolver_connection(p->r, 109, 4));
	for (int i = 0; i < 4; i++)
		assert_true(resolver_connection(p->r, 101, 4));
	assert_false(resolver_connection(p->r, 101, 4));
	resolver_connection_done(p->r, 101);
	assert_true(resolver_connection(p->r, 101, 4));
	play_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flood),
		cmocka_unit_test(flood_of_garbage),
		cmocka_unit_test(events_are_bounded_and_counted),
		cmocka_unit_test(questions_in_flight),
		cmocka_unit_test(questions_of_all),
		cmocka_unit_test(the_cache_is_bounded),
		cmocka_unit_test(nobody_on_that_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
