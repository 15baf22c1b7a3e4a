/*
 * Signed routes, as a header, a host name and a path bring them. Whatever is sent, a secured sandbox opens
 * to the one signature of that sandbox, port and time and to no other; what was read can be spelled, and
 * is read the same again.
 *
 * The first byte says which way; the second, which digit of the right signature is a wrong one.
 */
#include "../fuzz.h"
#include "base/ulid.h"
#include "edge/ingress/access.h"
#include "wire/signed.h"

#define DOMAIN "localhost"
#define NOW    UINT64_C(1900000000)

static const struct ipc_ingress_keys keys = { .n = 2, .key = {
	{ .id = 'k', .len = 16, .secret = "0123456789abcde" },
	{ .id = '0', .len = 16, .secret = "fedcba987654321" } } };

/* Its head's one field, and the target. */
static int read_route(uint8_t way, struct str text, struct http_field field[1], struct target *ret)
{
	static char host[4096];
	struct http_head h = { .method = STR("GET"), .target = STR("/x"), .fields = field };
	struct err err;

	if (way % 3 == 0) {
		h.target = text;
	} else if (way % 3 == 1) {
		h.n_fields = 1;
		field[0] = (struct http_field){ STR("OpenSandbox-Ingress-To"), text };
	} else {
		if (text.n + sizeof("." DOMAIN) > sizeof(host))
			return -1;
		memcpy(host, text.p, text.n);
		memcpy(host + text.n, "." DOMAIN, sizeof("." DOMAIN) - 1);
		h.n_fields = 1;
		field[0] = (struct http_field){ STR("host"), str_n(host, text.n + sizeof("." DOMAIN) - 1) };
	}
	return target_gateway(&h, STR(DOMAIN), way & 4, ret, &err);
}

static int visit(const char *id, const struct target *t, struct str sig)
{
	struct access_rule rule = { .access = IPC_INGRESS_OPEN, .secret = STR("token"), .keys = &keys, .id = id };
	struct access_shown shown = { 0 };
	struct target with = *t;
	struct err err;
	bool by_query;

	with.sig = sig;
	return access_check(&rule, &shown, &with, NOW, &by_query, &err);
}

static void judge(const struct target *t, uint8_t flip)
{
	char id[IPC_ID_LEN], sig[SIGNED_LEN + 1], time[SIGNED_TIME_MAX + 1];
	bool lasts, can = signed_is_time(t->expires);
	const struct ipc_ingress_key *key = &keys.key[t->sig.p[8] == '0'];
	uint64_t at = 0;

	must(can && signed_is_sig(t->sig), "what is read as signed is well-formed");
	snprintf(id, sizeof(id), "sb-%s", t->id.s);
	can = signed_time_from(t->expires, &at);
	lasts = can && NOW <= at;
	if (can) {
		signed_time(at, time);
		must(str_eq_c(t->expires, time), "a time has one spelling");
	}
	must(signed_make(key, str_c(id), t->port, t->expires, sig) == 0, "every route can be signed");
	must(visit(id, t, str_c(sig)) == (lasts ? 0 : 401), "the right one opens while it lasts");
	must(visit(id, t, t->sig) == (lasts && str_eq_c(t->sig, sig) ? 0 : 401), "what came opens if it is that one");
	flip %= SIGNED_LEN;
	sig[flip] = sig[flip] == 'a' ? 'b' : 'a';
	must(visit(id, t, str_c(sig)) == 401, "one digit makes another of it");
	must(visit(id, t, STR_NONE) == 401, "without one it is closed");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_field field[1];
	struct target t, again;
	char label[128];

	if (size < 2 || read_route(data[0], str_n(data + 2, size - 2), field, &t) != 0)
		return 0;
	must(t.port > 0, "a port");
	if (!t.sig.p)
		return 0;
	judge(&t, data[1]);
	snprintf(label, sizeof(label), "sb-%s-%u-" STR_FMT "-" STR_FMT, t.id.s, t.port, STR_ARG(t.expires),
		STR_ARG(t.sig));
	must(target_label(str_c(label), &again) == 0 && strcmp(again.id.s, t.id.s) == 0 && again.port == t.port &&
			str_eq(again.expires, t.expires) && str_eq(again.sig, t.sig), "it reads as it is spelled");
	return 0;
}
