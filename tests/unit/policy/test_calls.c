/*
 * policy/calls: compiled keys say of every call what the list says. The map is played by the longest
 * prefix; a compiler that is broken on purpose must be seen.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "policy/calls.h"

#define SLOTS 4u

static uint32_t seed = 20260101;

static uint32_t draw(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

/* Ports that meet each other's edges. */
static uint16_t draw_port(void)
{
	static const uint16_t edges[] = { 1, 22, 79, 80, 81, 443, 1023, 1024, 8000, 8080, 32767,
		32768, 65534, 65535 };

	return draw(3) ? edges[draw(ARRAY_SIZE(edges))] : (uint16_t)(1 + draw(65535));
}

static uint32_t draw_end(void)
{
	return draw(3) == 0 ? CALLS_ANYONE : draw(8) == 0 ? CALLS_NOBODY : 1 + draw(SLOTS);
}

static void draw_calls(struct calls *c)
{
	*c = (struct calls){ .fallback = (uint8_t)draw(2), .n = draw(9) };
	for (uint32_t i = 0; i < c->n; i++) {
		struct calls_rule *r = &c->rules[i];

		*r = (struct calls_rule){ .from = draw_end(), .to = draw_end(),
			.action = (uint8_t)draw(2), .protos = (uint8_t)(1 + draw(15)),
			.n_ports = (uint16_t)draw(4) };
		if (r->n_ports)
			r->protos = (uint8_t)(1 + draw(3));
		for (uint32_t k = 0; k < r->n_ports; k++) {
			uint16_t a = draw_port(), b = draw(2) ? a : draw_port();

			r->ports[k] = (struct calls_range){ MIN(a, b), MAX(a, b) };
		}
	}
}

/* What the kernel's trie finds: the longest key that is a prefix. */
static const struct weir_call *look(const struct calls_image *img, uint32_t version, uint32_t from,
	uint32_t to, uint8_t proto, uint16_t port)
{
	const struct weir_call *found = NULL;
	uint32_t longest = 0;

	for (size_t i = 0; i < img->n; i++) {
		const struct weir_call_key *k = &img->keys[i];
		uint32_t bits = k->prefixlen - 104, have = (uint32_t)k->port[0] << 8 | k->port[1];

		assert_in_range(k->prefixlen, 104, 120);
		if (k->version != version || k->from != from || k->to != to || k->proto != proto ||
			(bits && (have ^ port) >> (16 - bits)) || k->prefixlen <= longest)
			continue;
		longest = k->prefixlen;
		found = &img->values[i];
	}
	return found;
}

/* As datapath/calls.bpf.h does it. */
static struct calls_verdict ask(const struct calls *c, const struct calls_image *img, uint32_t from,
	uint32_t to, uint8_t proto, uint16_t port)
{
	struct calls_verdict v = { c->fallback, WEIR_RULE_NONE };

	for (uint32_t i = 0; i < 4; i++) {
		const struct weir_call *hit = look(img, 7, i & 1 ? 0 : from, i & 2 ? 0 : to, proto, port);

		if (hit && hit->rule < v.rule)
			v = (struct calls_verdict){ hit->verdict, hit->rule };
	}
	return v;
}

static uint32_t differences(const struct calls *c, const struct calls_image *img)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, 0 };
	uint32_t n = 0;

	for (uint32_t i = 0; i < 200; i++) {
		uint32_t from = 1 + draw(SLOTS), to = 1 + draw(SLOTS);
		uint8_t proto = protos[draw(4)];
		uint16_t port = proto == IPPROTO_TCP || proto == IPPROTO_UDP ? draw_port() : 0;
		struct calls_verdict is = ask(c, img, from, to, proto, port),
				     should = calls_reference(c, from, to, proto, port);

		n += is.verdict != should.verdict || is.rule != should.rule;
	}
	return n;
}

static void keys_are_the_list(void **state)
{
	struct calls_image img;
	uint32_t seen = 0;
	struct calls c;

	for (uint32_t round = 0; round < 400; round++) {
		draw_calls(&c);
		assert_true(calls_valid(&c));
		assert_int_equal(calls_compile(&c, 7, &img, NULL), 0);
		assert_int_equal(differences(&c, &img), 0);
		if (img.n) { /* the control: one key less, or another verdict */
			img.values[draw((uint32_t)img.n)].verdict ^= 1;
			seen += differences(&c, &img) > 0;
		}
		calls_image_done(&img);
	}
	assert_in_range(seen, 50, 400);
}

static void sizes(void **state)
{
	struct calls c = { .n = 1, .rules[0] = { .protos = CALLS_EVERY, .action = WEIR_ALLOW } };
	struct calls_image img;
	struct err err;

	assert_int_equal(calls_compile(&c, 7, &img, NULL), 0);
	assert_int_equal(img.n, 4); /* a key per protocol, whatever the ports */
	calls_image_done(&img);
	c.n = CALLS_RULES_MAX;
	for (uint32_t i = 0; i < c.n; i++) {
		c.rules[i] = (struct calls_rule){ .from = i + 1, .protos = CALLS_TCP | CALLS_UDP,
			.n_ports = CALLS_PORTS_MAX };
		for (uint32_t k = 0; k < CALLS_PORTS_MAX; k++)
			c.rules[i].ports[k] = (struct calls_range){ (uint16_t)(4000 * k + 1),
				(uint16_t)(4000 * k + 3998) };
	}
	assert_true(calls_valid(&c));
	assert_int_equal(calls_compile(&c, 7, &img, &err), -E2BIG);
	assert_string_equal(err.field, "rules");
}

static void what_is_not_valid(void **state)
{
	struct calls c = { .n = 1, .rules[0] = { .protos = CALLS_TCP, .n_ports = 1,
		.ports[0] = { 80, 81 } } };

	assert_true(calls_valid(&c));
	c.rules[0].ports[0].hi = 79;
	assert_false(calls_valid(&c));
	c.rules[0].ports[0].hi = 80;
	c.rules[0].protos = CALLS_TCP | CALLS_ICMP;
	assert_false(calls_valid(&c));
	c.rules[0].protos = 0;
	assert_false(calls_valid(&c));
	c.rules[0].protos = 16;
	assert_false(calls_valid(&c));
	c.rules[0].protos = CALLS_UDP;
	c.rules[0].action = 2;
	assert_false(calls_valid(&c));
	c.rules[0].action = 0;
	c.rules[0].n_ports = CALLS_PORTS_MAX + 1;
	assert_false(calls_valid(&c));
	c.rules[0].n_ports = 1;
	c.n = CALLS_RULES_MAX + 1;
	assert_false(calls_valid(&c));
	c.n = 1;
	assert_true(calls_valid(&c));
	assert_false(calls_open(&c));
	c.n = 0;
	assert_false(calls_open(&c));
	c.fallback = WEIR_ALLOW;
	assert_true(calls_open(&c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_the_list),
		cmocka_unit_test(sizes),
		cmocka_unit_test(what_is_not_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
