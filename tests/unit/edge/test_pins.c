/*
 * What becomes of pins: over TTLs (D12), rotating names (D13), policy changes, failures, the end of
 * a sandbox, and whose word counts (D16).
 */
#include <netinet/in.h>
#include "play.h"

#define TCP IPPROTO_TCP
#define MIN_MS UINT64_C(60000)

static void resolve_from(
	struct play *p, uint32_t slot, const char *name, const char *ip, unsigned int ttl)
{
	char record[128];
	size_t before = p->n_sent;

	snprintf(record, sizeof(record), "%s A %u %s", name, ttl, ip);
	play_ask(p, slot, name, DNS_A);
	if (p->n_sent > before)
		play_answer(p, before, DNS_NOERROR, record);
}

static struct play_pin *pin_of(struct play *p, uint32_t policy, const char *ip)
{
	return (struct play_pin *)play_pin(p, policy, ip);
}

static void ttl_zero_is_kept_for_a_grace(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow h.test");
	resolve_from(p, 1, "h.test", "192.0.2.1", 0);
	assert_string_equal(play_reply(p), "NOERROR h.test A 0 192.0.2.1");
	play_wait(p, 50000);
	assert_non_null(play_pin(p, 11, "192.0.2.1"));
	play_wait(p, 15000);
	assert_null(play_pin(p, 11, "192.0.2.1"));
	/* TTL 0 was not cached either. */
	play_ask(p, 1, "h.test", DNS_A);
	assert_int_equal(p->n_sent, 2);
	play_free(p);
}

static void a_flow_keeps_its_pin(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow h.test 443 8443");
	resolve_from(p, 1, "h.test", "192.0.2.1", 5);
	for (int i = 0; i < 20; i++) {
		pin_of(p, 11, "192.0.2.1")->last_used = p->now;
		play_wait(p, MIN_MS);
		assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 443), WEIR_ALLOW);
	}
	play_wait(p, 6 * MIN_MS);
	assert_null(play_pin(p, 11, "192.0.2.1"));
	assert_int_equal(p->n_ports, 0);
	play_free(p);
}

static void an_expired_name_narrows_the_pin(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow a.test 443; allow b.test 80");
	resolve_from(p, 1, "a.test", "192.0.2.1", 600);
	resolve_from(p, 1, "b.test", "192.0.2.1", 5);
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 443), WEIR_ALLOW);
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 80), WEIR_ALLOW);
	play_wait(p, 2 * MIN_MS);
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 443), WEIR_ALLOW);
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 80), WEIR_DENY);
	play_free(p);
}

static void rotating_name_is_bounded(void **state)
{
	struct play *p = play_new(&(struct play_conf){ .pins_max = 128, .qps = 1000000 });
	char record[64];

	play_set(p, 1, 11, "deny: allow h.test");
	for (unsigned int i = 0; i < 1000; i++) {
		size_t at = p->n_sent;

		play_ask(p, 1, "h.test", DNS_A);
		snprintf(record, sizeof(record), "h.test A 0 198.51.%u.%u", 100 + i / 250,
			i % 250 + 1);
		play_answer(p, at, DNS_NOERROR, record);
		assert_true(p->n_pins <= 128);
		assert_non_null(play_pin(p, 11, strrchr(record, ' ') + 1));
	}
	/* The same address again and again is one pin. */
	for (unsigned int i = 0; i < 10; i++)
		resolve_from(p, 1, "h.test", "198.51.103.250", 0);
	assert_int_equal(p->n_pins, 128);
	play_free(p);
}

static void eviction_spares_what_is_in_use(void **state)
{
	struct play *p = play_new(&(struct play_conf){ .pins_max = 128, .qps = 1000000 });
	char ip[32];

	play_set(p, 1, 11, "deny: allow h.test");
	resolve_from(p, 1, "h.test", "192.0.2.1", 0);
	pin_of(p, 11, "192.0.2.1")->last_used = p->now;
	for (unsigned int i = 0; i < 500; i++) {
		snprintf(ip, sizeof(ip), "198.51.%u.%u", 100 + i / 250, i % 250 + 1);
		resolve_from(p, 1, "h.test", ip, 0);
	}
	assert_non_null(play_pin(p, 11, "192.0.2.1"));
	assert_int_equal(p->n_pins, 128);
	play_free(p);
}

static void policy_change_keeps_what_is_still_allowed(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow a.test; allow b.test");
	resolve_from(p, 1, "a.test", "192.0.2.1", 60);
	resolve_from(p, 1, "b.test", "192.0.2.2", 60);
	assert_int_equal(play_set(p, 1, 12, "deny: allow b.test 443"), 0);
	assert_null(play_pin(p, 12, "192.0.2.1"));
	assert_int_equal(play_pin_verdict(p, 12, "192.0.2.2", TCP, 443), WEIR_ALLOW);
	assert_int_equal(play_pin_verdict(p, 12, "192.0.2.2", TCP, 80), WEIR_DENY);
	/* Between SET and RETIRE both versions learn; the new one gates. */
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 80), WEIR_ALLOW);
	play_ask(p, 1, "a.test", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	play_wait(p, MIN_MS);
	resolve_from(p, 1, "b.test", "192.0.2.3", 60);
	assert_non_null(play_pin(p, 11, "192.0.2.3"));
	assert_non_null(play_pin(p, 12, "192.0.2.3"));
	resolver_retire(p->r, 1, 11);
	assert_null(play_pin(p, 11, "192.0.2.2"));
	assert_null(play_pin(p, 11, "192.0.2.3"));
	assert_non_null(play_pin(p, 12, "192.0.2.3"));
	/* A change that failed retires the new one: the old governs again. */
	assert_int_equal(play_set(p, 1, 13, "deny:"), 0);
	play_ask(p, 1, "b.test", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	resolver_retire(p->r, 1, 13);
	play_ask(p, 1, "b.test", DNS_A);
	assert_string_equal(play_reply(p), "NOERROR b.test A 60 192.0.2.3");
	play_free(p);
}

static void answer_in_flight_meets_a_tighter_policy(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow h.test");
	play_ask(p, 1, "h.test", DNS_A);
	play_set(p, 1, 12, "deny:");
	play_answer(p, 0, DNS_NOERROR, "h.test A 60 192.0.2.1");
	assert_string_equal(play_reply(p), "NXDOMAIN");
	assert_int_equal(p->n_pins, 0);
	play_free(p);
}

static void open_policy_then_list(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "allow:");
	resolve_from(p, 1, "h.test", "192.0.2.1", 60);
	/* With a resolver of its own the sandbox claims an address for the same name. */
	play_ask_at(p, 1, "198.51.100.53", "h.test", DNS_A);
	play_answer(p, 1, DNS_NOERROR, "h.test A 60 198.51.100.66");
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 198.51.100.66");
	play_set(p, 1, 12, "deny: allow h.test");
	assert_non_null(play_pin(p, 12, "192.0.2.1"));
	assert_null(play_pin(p, 12, "198.51.100.66"));
	play_free(p);
}

static void named_resolver_is_believed_while_named(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow h.test; allow 1.1.1.1 53");
	play_ask_at(p, 1, "1.1.1.1", "h.test", DNS_A);
	play_answer(p, 0, DNS_NOERROR, "h.test A 60 192.0.2.1");
	assert_non_null(play_pin(p, 11, "192.0.2.1"));
	play_set(p, 1, 12, "deny: allow h.test");
	assert_null(play_pin(p, 12, "192.0.2.1"));
	play_set(p, 1, 13, "deny: allow h.test; allow 1.1.1.1");
	assert_non_null(play_pin(p, 13, "192.0.2.1"));
	play_free(p);
}

static void no_pin_no_answer(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow h.test");
	p->pin_fails = -E2BIG;
	resolve_from(p, 1, "h.test", "192.0.2.1", 60);
	assert_string_equal(play_reply(p), "SERVFAIL");
	p->pin_fails = 0;
	play_ask(p, 1, "h.test", DNS_A);
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 192.0.2.1");
	assert_non_null(play_pin(p, 11, "192.0.2.1"));
	/* And a change of policy that cannot pin fails as a whole. */
	p->pin_fails = -E2BIG;
	assert_int_equal(play_set(p, 1, 12, "deny: allow h.test 443 8443"), -E2BIG);
	assert_null(play_pin(p, 12, "192.0.2.1"));
	p->pin_fails = 0;
	assert_int_equal(p->n_ports, 0);
	assert_int_equal(play_set(p, 1, 12, "deny: allow h.test 443"), 0);
	assert_non_null(play_pin(p, 12, "192.0.2.1"));
	play_free(p);
}

static void port_tables_are_shared(void **state)
{
	struct play *p = play_new(NULL);
	char ip[32];
	size_t one;

	play_set(p, 1, 11, "deny: allow *.h.test 443 8443");
	resolve_from(p, 1, "a.h.test", "192.0.2.1", 60);
	one = p->n_ports;
	assert_true(one > 0);
	for (int i = 2; i < 50; i++) {
		char name[32];

		snprintf(ip, sizeof(ip), "192.0.2.%d", i);
		snprintf(name, sizeof(name), "n%d.h.test", i);
		resolve_from(p, 1, name, ip, 60);
	}
	assert_int_equal(p->n_pins, 49);
	assert_int_equal(p->n_ports, one);
	resolver_del(p->r, 1);
	assert_int_equal(p->n_pins, 0);
	assert_int_equal(p->n_ports, 0);
	play_free(p);
}

static void names_of_one_address_are_bounded(void **state)
{
	struct play *p = play_new(&(struct play_conf){ .qps = 100000 });
	auto_buf struct buf text = BUF_MAX(100000);
	size_t lines = 0;

	play_set(p, 1, 11, "deny: allow *.h.test");
	for (int i = 0; i < 100; i++) {
		char name[32];

		snprintf(name, sizeof(name), "n%d.h.test", i);
		resolve_from(p, 1, name, "192.0.2.1", (unsigned int)(60 + i));
	}
	assert_int_equal(resolver_learned(p->r, 1, p->now, &text), 0);
	for (size_t i = 0; i < text.n; i++)
		lines += text.p[i] == '\n';
	assert_int_equal(lines, LEARNED_NAMES_MAX);
	assert_int_equal(p->n_pins, 1);
	play_free(p);
}

static void sandboxes_come_and_go(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow h.test");
	play_set(p, 2, 12, "deny: allow h.test");
	resolve_from(p, 1, "h.test", "192.0.2.1", 60);
	play_ask(p, 2, "h.test", DNS_A);
	assert_int_equal(p->n_pins, 2);
	/* The api role was restarted and tells only of slot 2. */
	resolver_unsync(p->r);
	assert_int_equal(play_set(p, 2, 12, "deny: allow h.test"), 0);
	resolver_synced(p->r);
	assert_null(play_pin(p, 11, "192.0.2.1"));
	assert_non_null(play_pin(p, 12, "192.0.2.1"));
	play_ask(p, 1, "h.test", DNS_A);
	assert_string_equal(play_reply(p), "silence");
	assert_int_equal(resolver_pin_owner(p->r, 12, ip_v4(0xc0000201)), PIN_KNOWN);
	assert_int_equal(resolver_pin_owner(p->r, 12, ip_v4(0xc0000202)), PIN_UNKNOWN_ADDR);
	assert_int_equal(resolver_pin_owner(p->r, 11, ip_v4(0xc0000201)), PIN_UNKNOWN_POLICY);
	/* A policy id never belongs to two. */
	assert_int_equal(play_set(p, 3, 12, "allow:"), -EEXIST);
	play_free(p);
}

static void names_outlive_the_process(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow h.test 443; allow *.o.test");
	resolve_from(p, 1, "h.test", "192.0.2.1", 60);
	resolve_from(p, 1, "a.o.test", "192.0.2.1", 60);
	resolve_from(p, 1, "b.o.test", "192.0.2.2", 60);
	play_restart(p);
	assert_int_equal(play_set(p, 1, 11, "deny: allow h.test 443; allow *.o.test"), 0);
	/* The next policy finds what the former process learned, and judges it by its own rules. */
	assert_int_equal(play_set(p, 1, 12, "deny: allow h.test 443"), 0);
	resolver_retire(p->r, 1, 11);
	assert_int_equal(p->n_sent, 3);
	assert_non_null(play_pin(p, 12, "192.0.2.1"));
	assert_true(pin_of(p, 12, "192.0.2.1")->decision.ports);
	assert_null(play_pin(p, 12, "192.0.2.2"));
	/* The control: a process that was told nothing knows nothing. */
	p->conf.keeper = (struct keeper){ 0 };
	play_restart(p);
	assert_int_equal(play_set(p, 1, 12, "deny: allow h.test 443"), 0);
	assert_int_equal(play_set(p, 1, 13, "deny: allow h.test 443"), 0);
	assert_null(play_pin(p, 13, "192.0.2.1"));
	play_free(p);
}

static void notes_are_not_the_next_sandboxes(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow h.test");
	resolve_from(p, 1, "h.test", "192.0.2.1", 60);
	play_restart(p); /* and while nobody looked, the slot changed hands */
	p->box = "sb-other";
	assert_int_equal(play_set(p, 1, 12, "deny: allow h.test"), 0);
	assert_null(play_pin(p, 12, "192.0.2.1"));
	p->box = "sb-1"; /* the control: the same sandbox, wherever it is now */
	assert_int_equal(play_set(p, 2, 13, "deny: allow h.test"), 0);
	assert_non_null(play_pin(p, 13, "192.0.2.1"));
	play_free(p);
}

static void notes_end_with_what_they_are_about(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow *.h.test");
	play_set(p, 2, 12, "deny: allow *.h.test");
	resolve_from(p, 1, "a.h.test", "192.0.2.1", 600);
	resolve_from(p, 1, "b.h.test", "192.0.2.1", 0);
	resolve_from(p, 2, "c.h.test", "192.0.2.1", 600);
	assert_int_equal(p->n_notes, 3);
	play_wait(p, 2 * MIN_MS); /* one name runs out, the other stays */
	assert_int_equal(p->n_notes, 2);
	play_restart(p);
	play_set(p, 1, 11, "deny: allow *.h.test");
	play_set(p, 2, 12, "deny: allow *.h.test");
	resolver_del(p->r, 1);
	assert_int_equal(p->n_notes, 1);
	play_wait(p, 20 * MIN_MS);
	assert_int_equal(p->n_notes, 0);
	assert_int_equal(p->n_pins, 0);
	play_free(p);
}

static void notes_are_few_and_seldom(void **state)
{
	struct play *p = play_new(&(struct play_conf){ .qps = 100000, .pins_max = 4096,
		.cache_entries = 16 });
	char name[32], ip[32];

	play_set(p, 1, 11, "deny: allow *.h.test");
	for (int i = 0; i < 20; i++) {
		resolve_from(p, 1, "a.h.test", "192.0.2.1", 2);
		play_wait(p, 2500);
	}
	assert_int_equal(p->n_keeps, 1); /* answered anew for 50 seconds */
	play_wait(p, 15000);
	resolve_from(p, 1, "a.h.test", "192.0.2.1", 2);
	assert_int_equal(p->n_keeps, 2);
	for (unsigned int i = 0; i < TENANT_KEPT_MAX + 100; i++) {
		snprintf(name, sizeof(name), "n%u.h.test", i);
		snprintf(ip, sizeof(ip), "198.51.%u.%u", 100 + i / 250, 1 + i % 250);
		resolve_from(p, 1, name, ip, 60);
	}
	assert_int_equal(p->n_notes, TENANT_KEPT_MAX);
	play_free(p);
}

static void gone_while_asking(void **state)
{
	struct play *p = play_new(NULL);

	play_set(p, 1, 11, "deny: allow h.test");
	play_set(p, 2, 12, "deny: allow h.test");
	play_ask(p, 1, "h.test", DNS_A);
	play_ask(p, 2, "h.test", DNS_A);
	assert_int_equal(p->n_sent, 1);
	resolver_del(p->r, 1);
	play_answer(p, 0, DNS_NOERROR, "h.test A 60 192.0.2.1");
	assert_int_equal(p->n_replies, 1);
	assert_int_equal(p->n_pins, 1);
	assert_int_equal(p->replied_to.ifindex, 102);
	play_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ttl_zero_is_kept_for_a_grace),
		cmocka_unit_test(a_flow_keeps_its_pin),
		cmocka_unit_test(an_expired_name_narrows_the_pin),
		cmocka_unit_test(rotating_name_is_bounded),
		cmocka_unit_test(eviction_spares_what_is_in_use),
		cmocka_unit_test(policy_change_keeps_what_is_still_allowed),
		cmocka_unit_test(answer_in_flight_meets_a_tighter_policy),
		cmocka_unit_test(open_policy_then_list),
		cmocka_unit_test(named_resolver_is_believed_while_named),
		cmocka_unit_test(no_pin_no_answer),
		cmocka_unit_test(port_tables_are_shared),
		cmocka_unit_test(names_of_one_address_are_bounded),
		cmocka_unit_test(sandboxes_come_and_go),
		cmocka_unit_test(names_outlive_the_process),
		cmocka_unit_test(notes_are_not_the_next_sandboxes),
		cmocka_unit_test(notes_end_with_what_they_are_about),
		cmocka_unit_test(notes_are_few_and_seldom),
		cmocka_unit_test(gone_while_asking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
