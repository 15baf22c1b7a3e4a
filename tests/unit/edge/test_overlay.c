/* Names of private networks: who is told of whom, by which names, and that none of it travels. */
#include "play.h"

#define CLOSED "deny: allow 192.0.2.1"

static void member(struct play *p, uint32_t slot, const char *hostname, const char *nets,
	const char *policy)
{
	p->hostname = hostname;
	p->nets = nets;
	assert_int_equal(play_set(p, slot, 10 + slot, policy), 0);
}

/* otter (1) and newt (2) in backend; mole (3) in front with otter; hare (4) in none. */
static struct play *world(void)
{
	struct play *p = play_new(NULL);

	member(p, 1, "otter", "7:backend 9:front", CLOSED);
	member(p, 2, "newt", "7:backend", CLOSED);
	member(p, 3, "mole", "9:front", CLOSED);
	member(p, 4, "hare", NULL, "allow:");
	return p;
}

static void says(struct play *p, uint32_t slot, const char *name, uint16_t type,
	const char *reply)
{
	size_t sent = p->n_sent;

	play_ask(p, slot, name, type);
	assert_string_equal(play_reply(p), reply);
	assert_int_equal(p->n_sent, sent);
}

static void every_form(void **state)
{
	static const char *const forms[] = { "newt", "newt.backend", "newt.fc.local",
		"newt.backend.fc.local", "sb-2.fc.local", "sb-2.backend.fc.local", "NEWT.Fc.LOCAL" };
	struct play *p = world();
	char reply[128];

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		snprintf(reply, sizeof(reply), "NOERROR %s A 5 10.42.0.2", forms[i]);
		says(p, 1, forms[i], DNS_A, reply);
	}
	says(p, 1, "otter", DNS_A, "NOERROR otter A 5 10.42.0.1"); /* itself */
	says(p, 1, "mole", DNS_A, "NOERROR mole A 5 10.42.0.3");   /* its other network */
	says(p, 1, "newt", DNS_AAAA, "NOERROR");
	says(p, 1, "newt.fc.local", DNS_TXT, "NOERROR");
	play_free(p);
}

static void strangers(void **state)
{
	static const char *const forms[] = { "newt.fc.local", "newt.backend.fc.local",
		"sb-2.fc.local", "fc.local", "a.b.c.fc.local", "otter.backend.fc.local" };
	struct play *p = world();

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		for (uint32_t slot = 3; slot <= 4; slot++)
			says(p, slot, forms[i], DNS_A, "NXDOMAIN");
	says(p, 3, "newt", DNS_A, "NXDOMAIN"); /* by its policy, as any name */
	assert_int_equal(p->event.reason, WEIR_R_NAME);
	says(p, 3, "otter", DNS_A, "NOERROR otter A 5 10.42.0.1"); /* the control: a fellow */
	says(p, 3, "otter.front.fc.local", DNS_A, "NOERROR otter.front.fc.local A 5 10.42.0.1");
	play_free(p);
}

/* A member's name means it to its fellows and what it always meant to everybody else. */
static void shadows_nothing(void **state)
{
	struct play *p = world();

	play_ask(p, 4, "newt", DNS_A);
	assert_int_equal(p->n_sent, 1);
	play_answer(p, 0, DNS_NOERROR, "newt A 60 192.0.2.7");
	assert_string_equal(play_reply(p), "NOERROR newt A 60 192.0.2.7");
	says(p, 2, "newt", DNS_A, "NOERROR newt A 5 10.42.0.2"); /* though it is in the cache */
	play_ask(p, 4, "www.newt.backend", DNS_A);
	assert_int_equal(p->n_sent, 2);
	play_ask(p, 4, "fc.local.test", DNS_A);
	play_ask(p, 4, "xfc.local", DNS_A);
	assert_int_equal(p->n_sent, 4);
	play_free(p);
}

static void reverse_names(void **state)
{
	struct play *p = world();

	says(p, 1, "2.0.42.10.in-addr.arpa", DNS_PTR,
		"NOERROR 2.0.42.10.in-addr.arpa PTR 5 newt.fc.local");
	says(p, 1, "2.0.42.10.in-addr.arpa", DNS_A, "NOERROR");
	says(p, 3, "2.0.42.10.in-addr.arpa", DNS_PTR, "NXDOMAIN");
	says(p, 4, "2.0.42.10.in-addr.arpa", DNS_PTR, "NXDOMAIN");
	says(p, 1, "99.0.42.10.in-addr.arpa", DNS_PTR, "NXDOMAIN");
	play_ask(p, 4, "2.0.41.10.in-addr.arpa", DNS_PTR); /* not ours */
	assert_int_equal(p->n_sent, 1);
	play_free(p);
}

static void coming_and_going(void **state)
{
	struct play *p = world();

	member(p, 2, "newt", NULL, CLOSED);
	says(p, 1, "newt.fc.local", DNS_A, "NXDOMAIN");
	says(p, 2, "otter.fc.local", DNS_A, "NXDOMAIN");
	member(p, 2, "newt", "9:front", CLOSED);
	says(p, 1, "newt.fc.local", DNS_A, "NOERROR newt.fc.local A 5 10.42.0.2");
	says(p, 1, "newt.backend.fc.local", DNS_A, "NXDOMAIN");
	resolver_del(p->r, 2);
	says(p, 1, "newt.fc.local", DNS_A, "NXDOMAIN");
	/* The next one of that name, while the first is on its way out. */
	member(p, 5, "mole", "9:front", CLOSED);
	says(p, 1, "mole", DNS_A, "NOERROR mole A 5 10.42.0.5");
	resolver_del(p->r, 3);
	says(p, 1, "mole", DNS_A, "NOERROR mole A 5 10.42.0.5");
	play_free(p);
}

static void malformed_sets(void **state)
{
	struct play *p = world();
	struct ipc_edge_set set = { .id = "sb-6", .slot = 6, .policy = 16, .n_nets = IPC_NETS_MAX + 1 };
	struct err err;

	assert_int_equal(resolver_set(p->r, &set, STR_NONE, &err), -EBADMSG);
	set.n_nets = 1;
	memset(set.nets[0].name, 'a', sizeof(set.nets[0].name));
	assert_int_equal(resolver_set(p->r, &set, STR_NONE, &err), -EBADMSG);
	play_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_form),
		cmocka_unit_test(strangers),
		cmocka_unit_test(shadows_nothing),
		cmocka_unit_test(reverse_names),
		cmocka_unit_test(coming_and_going),
		cmocka_unit_test(malformed_sets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
