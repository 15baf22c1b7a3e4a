/* Bodies of create: what is accepted keeps the limits that the rest relies on. */
#include "../fuzz.h"
#include "api/createos/create.h"
#include "api/createos/egress.h"
#include "api/ident.h"
#include "api/shape.h"

static struct api api; /* an empty floor will do */

static void check_policy(json_t *rules)
{
	struct policy *p = NULL, *again = NULL;
	char *json = NULL;
	struct err err;

	if (egress_from_json(&api, rules, &p, &json, &err) < 0) {
		CHECK(err.text[0] && !strcmp(err.field, "egress"));
		return;
	}
	/* What is stored reads as the same policy. */
	CHECK(egress_policy(&api, str_c(json), &again, &err) == 0);
	CHECK(policy_equal(p, again));
	policy_free(p);
	policy_free(again);
	free(json);
}

static void check_keys(json_t *keys)
{
	auto_json json_t *have = json_array(), *more = NULL;
	size_t n;
	struct err err;

	if (!keys || ssh_keys_merge(have, keys, "ssh_pubkeys", &err) < 0)
		return;
	/* Canonical keys are canonical, and none is added twice. */
	n = json_array_size(have);
	more = json_deep_copy(have);
	CHECK(ssh_keys_merge(have, more, "ssh_pubkeys", &err) == 0 && json_array_size(have) == n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_json json_t *body = NULL;
	struct create_ask ask = { 0 };
	struct err err;

	if (json_parse(str_n(data, size), &body, &err) < 0)
		return 0;
	if (create_decode(body, &ask, &err) < 0) {
		CHECK(err.text[0] && str_utf8(str_c(err.text)));
		return 0;
	}
	CHECK(shape_find(ask.shape));
	CHECK(!ask.name.n || sandbox_name_check(ask.name, &err) == 0);
	CHECK(!ask.envs || json_object_size(ask.envs) <= ENVS_MAX);
	CHECK(!ask.bandwidth && ask.disk_mib >= 0 && ask.ingress.access.n <= 16);
	check_policy(ask.egress);
	check_keys(ask.ssh_pubkeys);
	return 0;
}
