/*
 * Bodies of OpenSandbox's create, and of changes to a policy: beside the body's own members, "rules"
 * is a PATCH of its policy and "targets" a DELETE. What is accepted keeps the limits that the rest
 * relies on; what is stored reads as the same policy; a refused change changes nothing.
 */
#include <uv.h>
#include "../fuzz.h"
#include "api/ident.h"
#include "api/opensandbox/always.h"
#include "api/opensandbox/create.h"
#include "api/opensandbox/labels.h"
#include "api/opensandbox/netpolicy.h"
#include "api/shape.h"
#include "policy/opensandbox.h"

static struct api api;

static void check_text(const struct err *err)
{
	CHECK(err->code < 0 && err->text[0] && str_utf8(str_c(err->text)));
}

/* The same text gives the same policy, and what other dialects show of it is text. */
static void check_stored(const json_t *canonical)
{
	auto_free char *text = json_dumps(canonical, JSON_COMPACT | JSON_ENCODE_ANY);
	auto_policy struct policy *one = NULL, *two = NULL;
	auto_json json_t *again = NULL, *list = NULL;
	struct err err;
	int r;

	CHECK(text);
	r = netpolicy_build(&api, canonical, &one, &err);
	CHECK(netpolicy_read(&api, str_c(text), &two, &err) == r);
	if (r < 0)
		check_text(&err);
	else
		CHECK(policy_equal(one, two));
	if (!json_is_null(canonical)) {
		CHECK(netpolicy_canonical(canonical, &again, &err) == 0 && json_equal(again, canonical));
		CHECK(json_array_size(json_object_get(canonical, "egress")) <= 2 * OPENSANDBOX_RULES_MAX);
	}
	list = netpolicy_list(str_c(text));
	CHECK(json_is_array(list));
}

static void check_changes(json_t *canonical, const json_t *rules, const json_t *targets)
{
	auto_json json_t *before = json_deep_copy(canonical), *once = NULL;
	size_t n, left;
	struct err err;

	if (rules && netpolicy_patch(canonical, rules, &err) == 0) {
		once = json_deep_copy(canonical);
		if (json_array_size(json_object_get(once, "egress")) <= OPENSANDBOX_RULES_MAX)
			check_stored(once);
		CHECK(netpolicy_patch(canonical, rules, &err) == 0 && json_equal(once, canonical));
	} else if (rules) {
		check_text(&err);
		CHECK(json_equal(before, canonical));
	}
	left = json_array_size(json_object_get(canonical, "egress"));
	if (targets && netpolicy_remove(canonical, targets, &n, &err) == 0) {
		CHECK(json_array_size(json_object_get(canonical, "egress")) == left - n);
		CHECK(netpolicy_remove(canonical, targets, &n, &err) == 0 && n == 0);
	} else if (targets) {
		check_text(&err);
	}
}

static void check_ask(const json_t *body)
{
	struct opensandbox_ask ask = { 0 };
	const char *code;
	struct err err;

	if (opensandbox_ask(&api, body, &ask, &code, &err) < 0) {
		check_text(&err);
		opensandbox_ask_done(&ask);
		return;
	}
	CHECK(ask.image.n && json_array_size(ask.entrypoint));
	CHECK(ask.cpu_milli && ask.mem_mib && ask.disk_mib);
	CHECK(ask.disk_mib <= api.config.disk_max_mib && json_object_size(ask.envs) <= ENVS_MAX);
	CHECK(!ask.metadata || json_is_null(ask.metadata) || labels_check(ask.metadata, &err) == 0);
	check_stored(ask.network);
	if (json_is_object(ask.network))
		check_changes(ask.network, json_object_get(body, "rules"),
			json_object_get(body, "targets"));
	opensandbox_ask_done(&ask);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_json json_t *body = NULL, *network = NULL;
	struct err err;

	if (!api.always) {
		api.loop = uv_default_loop();
		api.config.disk_max_mib = 65536;
		snprintf(api.config.egress_image, sizeof(api.config.egress_image), "x");
		CHECK(always_open(&api, &err) == 0);
	}
	if (json_parse(str_n(data, size), &body, &err) < 0 || !json_is_object(body))
		return 0;
	check_ask(body);
	/* A policy alone, as PUT has it: most of what is tried is no whole create. */
	if (netpolicy_canonical(json_object_get(body, "networkPolicy"), &network, &err) == 0) {
		check_stored(network);
		if (json_is_object(network))
			check_changes(network, json_object_get(body, "rules"),
				json_object_get(body, "targets"));
	} else {
		check_text(&err);
	}
	return 0;
}
