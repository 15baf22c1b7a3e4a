/*
 * edge: whatever allocation fails while a sandbox is made known, asks, is answered, changes its
 * policy and goes, it is never told an address that is not pinned, and its end leaves no memory,
 * no pin and no port table.
 *
 * The player around the resolver needs memory of its own, so only the resolver's calls (wrapped by
 * the linker) are windows in which allocations fail.
 */
#include "../nth.h"
#include "play.h"

int __real_resolver_set(struct resolver *r, const struct ipc_edge_set *set, struct str blob,
	struct err *err);
void __real_resolver_query(struct resolver *r, const struct dns_client *from, struct str msg,
	uint64_t now);
void __real_resolver_answer(struct resolver *r, uint64_t sock, struct str msg, uint64_t now);
int __wrap_resolver_set(struct resolver *r, const struct ipc_edge_set *set, struct str blob,
	struct err *err);
void __wrap_resolver_query(struct resolver *r, const struct dns_client *from, struct str msg,
	uint64_t now);
void __wrap_resolver_answer(struct resolver *r, uint64_t sock, struct str msg, uint64_t now);

int __wrap_resolver_set(struct resolver *r, const struct ipc_edge_set *set, struct str blob,
	struct err *err)
{
	int k;

	nth_window(true);
	k = __real_resolver_set(r, set, blob, err);
	nth_window(false);
	return k;
}

void __wrap_resolver_query(struct resolver *r, const struct dns_client *from, struct str msg,
	uint64_t now)
{
	nth_window(true);
	__real_resolver_query(r, from, msg, now);
	nth_window(false);
}

void __wrap_resolver_answer(struct resolver *r, uint64_t sock, struct str msg, uint64_t now)
{
	nth_window(true);
	__real_resolver_answer(r, sock, msg, now);
	nth_window(false);
}

static void resolve(struct play *p, uint32_t policy, const char *name, const char *ip)
{
	char records[160];
	size_t before = p->n_sent;

	snprintf(records, sizeof(records), "%s CNAME 60 c.w.test, c.w.test A 60 %s", name, ip);
	p->n_replies = 0;
	play_ask(p, 1, name, DNS_A);
	if (p->n_sent > before && p->sent[before % PLAY_SENT_MAX].sent)
		play_answer(p, before, DNS_NOERROR, records);
	if (!p->n_replies || buf_failed(&p->reply))
		return; /* the client asks again */
	if (strstr(play_reply(p), ip) && !play_pin(p, policy, ip))
		fail_msg("%s was told as %s, which is not pinned", name, ip);
}

static int life(void *arg)
{
	struct play *p = play_new(NULL);
	int first = play_set(p, 1, 11, "deny: allow *.w.test 443; allow h.test"), second = 0;

	if (first == 0) {
		resolve(p, 11, "a.w.test", "192.0.2.1");
		resolve(p, 11, "h.test", "192.0.2.2");
		second = play_set(p, 1, 12, "deny: allow *.w.test 80");
	}
	if (first == 0 && second == 0) {
		resolve(p, 12, "a.w.test", "192.0.2.1");
		resolve(p, 12, "b.w.test", "192.0.2.3");
		resolver_retire(p->r, 1, 11);
	}
	resolver_del(p->r, 1);
	if (p->n_pins || p->n_ports)
		fail_msg("%zu pins and %zu ports are left", p->n_pins, p->n_ports);
	play_wait(p, 30000); /* questions on their way end */
	play_free(p);
	return MIN(first ? first : second, 0);
}

static void a_sandbox_comes_and_goes(void **state)
{
	nth_window(false);
	nth_each("edge", life, NULL, 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_sandbox_comes_and_goes) };

	return cmocka_run_group_tests_name("edge/nth", tests, NULL, NULL);
}
