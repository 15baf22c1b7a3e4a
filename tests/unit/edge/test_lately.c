/* A finding saves the long way (the floor is asked once), and ends with whatever it rests on. */
#include "edge/lately.h"
#include "play.h"

#define RECORD "h.test A 60 192.0.2.1"

/* Asked once, answered, asked again: from here on the short way is open. */
static struct play *known(const char *policy)
{
	struct play *p = play_new(&(struct play_conf){ .qps = 100000, .pins_max = 128,
		.cache_entries = 4096 });

	assert_int_equal(play_set(p, 1, 11, policy), 0);
	play_ask(p, 1, "h.test", DNS_A);
	play_answer(p, 0, DNS_NOERROR, RECORD);
	play_ask(p, 1, "h.test", DNS_A);
	assert_string_equal(play_reply(p), "NOERROR " RECORD);
	p->n_floor = 0;
	return p;
}

static void ask(struct play *p, uint32_t slot, const char *expected, size_t floor)
{
	play_ask(p, slot, "h.test", DNS_A);
	assert_string_equal(play_reply(p), expected);
	assert_int_equal(p->n_floor, floor);
	assert_int_equal(p->n_sent, 1);
	p->n_floor = 0;
}

static void it_saves_and_it_ends(void **state)
{
	struct play *p = known("deny: allow h.test");

	for (int i = 0; i < 10; i++)
		ask(p, 1, "NOERROR " RECORD, 0);
	p->now += LATELY_FOR;
	ask(p, 1, "NOERROR h.test A 55 192.0.2.1", 1);
	ask(p, 1, "NOERROR h.test A 55 192.0.2.1", 0);
	play_ask(p, 1, "H.tEst", DNS_A); /* the asker's own mix of cases */
	assert_string_equal(play_reply(p), "NOERROR H.tEst A 55 192.0.2.1");
	assert_int_equal(p->n_floor, 0);
	play_free(p);
}

static void the_floor_rises(void **state)
{
	struct play *p = known("deny: allow h.test");

	assert_int_equal(ip_from(STR("192.0.2.1"), &p->closed), 0);
	ask(p, 1, "NOERROR " RECORD, 0); /* a moment behind */
	resolver_floor_changed(p->r);
	ask(p, 1, "NOERROR", 1);
	assert_int_equal(p->event.reason, WEIR_R_REBIND);
	ask(p, 1, "NOERROR", 1); /* what was held back is found and told anew each time */
	assert_int_equal(p->n_events, 2);
	play_free(p);
}

/* Nobody said so: some moments behind, not for ever. */
static void the_floor_rises_unsaid(void **state)
{
	struct play *p = known("deny: allow h.test");

	assert_int_equal(ip_from(STR("192.0.2.1"), &p->closed), 0);
	p->now += LATELY_FOR - 1;
	ask(p, 1, "NOERROR h.test A 56 192.0.2.1", 0);
	p->now += 1;
	ask(p, 1, "NOERROR", 1);
	play_free(p);
}

static void the_policy_changes(void **state)
{
	struct play *p = known("deny: allow h.test");

	assert_int_equal(play_set(p, 1, 12, "deny: allow h.test; allow i.test"), 0);
	assert_non_null(play_pin(p, 12, "192.0.2.1"));
	p->n_floor = 0;
	ask(p, 1, "NOERROR " RECORD, 1);
	assert_int_equal(play_set(p, 1, 13, "deny: allow i.test"), 0);
	p->n_floor = 0;
	ask(p, 1, "NXDOMAIN", 0);
	resolver_retire(p->r, 1, 13); /* it failed: the one before governs again */
	ask(p, 1, "NOERROR " RECORD, 1);
	play_free(p);
}

static void it_is_ones_own(void **state)
{
	struct play *p = known("deny: allow h.test");

	play_set(p, 2, 21, "deny: allow i.test");
	ask(p, 2, "NXDOMAIN", 0);
	play_set(p, 3, 31, "deny: allow h.test");
	ask(p, 3, "NOERROR " RECORD, 2); /* told, and pinned */
	assert_non_null(play_pin(p, 31, "192.0.2.1"));
	p->box = "another"; /* the slot changes hands */
	assert_int_equal(play_set(p, 1, 14, "deny: allow h.test"), 0);
	ask(p, 1, "NOERROR " RECORD, 2);
	assert_non_null(play_pin(p, 14, "192.0.2.1"));
	play_free(p);
}

/* Another resolver is another question. */
static void the_resolver_that_was_meant(void **state)
{
	struct play *p = known("deny: allow h.test");

	play_ask_at(p, 1, "8.8.8.8", "h.test", DNS_A);
	assert_string_equal(play_reply(p), "NOERROR " RECORD);
	assert_int_equal(p->n_floor, 1);
	play_ask_at(p, 1, "8.8.8.8", "h.test", DNS_A);
	assert_int_equal(p->n_floor, 1);
	play_free(p);
}

static void the_pin_makes_room(void **state)
{
	struct play *p = known("deny: allow h.test; allow *.x.test");
	char name[32], record[64];

	for (unsigned int i = 1; play_pin(p, 11, "192.0.2.1"); i++) {
		assert_true(i < 4000);
		snprintf(name, sizeof(name), "n%u.x.test", i);
		snprintf(record, sizeof(record), "%s A 60 198.51.%u.%u", name, i / 250 + 1,
			i % 250 + 1);
		play_ask(p, 1, name, DNS_A);
		play_answer(p, p->n_sent - 1, DNS_NOERROR, record);
	}
	play_ask(p, 1, "h.test", DNS_A);
	assert_string_equal(play_reply(p), "NOERROR " RECORD);
	assert_non_null(play_pin(p, 11, "192.0.2.1"));
	play_free(p);
}

static void a_pin_that_fails(void **state)
{
	struct play *p = known("deny: allow h.test");

	play_set(p, 2, 21, "deny: allow h.test");
	p->pin_fails = -ENOSPC;
	for (int i = 0; i < 3; i++)
		ask(p, 2, "SERVFAIL", 2);
	p->pin_fails = 0;
	ask(p, 2, "NOERROR " RECORD, 2);
	ask(p, 2, "NOERROR " RECORD, 0);
	play_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_saves_and_it_ends),
		cmocka_unit_test(the_floor_rises),
		cmocka_unit_test(the_floor_rises_unsaid),
		cmocka_unit_test(the_policy_changes),
		cmocka_unit_test(it_is_ones_own),
		cmocka_unit_test(the_resolver_that_was_meant),
		cmocka_unit_test(the_pin_makes_room),
		cmocka_unit_test(a_pin_that_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
