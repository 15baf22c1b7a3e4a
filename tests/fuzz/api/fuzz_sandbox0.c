/*
 * JSON that sandbox0's dialect reads: the first byte says what the rest is, a policy (n), services (s),
 * exposed ports (p), or the body of a claim's config (c). What is accepted is stored as a text that
 * reads as the same; what is refused says why, in text fit for an answer.
 */
#include "../fuzz.h"
#include "api/sandbox0/config.h"
#include "api/sandbox0/network.h"
#include "api/services.h"

static struct api api; /* an empty floor will do */

static void refused(const struct err *err)
{
	CHECK(err->text[0] && str_utf8(str_c(err->text)) && str_utf8(str_c(err->field)));
}

static void check_network(const json_t *json)
{
	struct policy *p = NULL, *again = NULL;
	char *text = NULL;
	struct err err;

	if (network_from_json(&api, json, false, &p, &text, &err) < 0) {
		refused(&err);
		return;
	}
	CHECK(network_policy(&api, str_c(text), &again, &err) == 0 && policy_equal(p, again));
	policy_free(p);
	policy_free(again);
	free(text);
}

static void check_services(const json_t *json,
	int (*read)(const json_t *list, char **ret, struct err *err))
{
	struct ipc_ingress_route routes[IPC_INGRESS_ROUTES_MAX];
	auto_json json_t *list = NULL;
	auto_free char *text = NULL, *again = NULL;
	struct sandbox_row row = { .auto_resume = 1 };
	struct err err;
	uint32_t n;

	if (read(json, &text, &err) < 0) {
		CHECK(!text);
		refused(&err);
		return;
	}
	row.services = text;
	list = services_of(&row);
	CHECK(services_text(list, &again, &err) == 0 && strcmp(text, again) == 0);
	n = services_routes(&row, routes);
	CHECK(n <= json_array_size(list) && json_array_size(list) <= SERVICES_MAX);
	for (uint32_t i = 0; i < n; i++) {
		CHECK(routes[i].port && routes[i].auth < IPC_INGRESS_AUTHS && routes[i].hold <= 1);
		CHECK((routes[i].auth == IPC_INGRESS_HEADER) == !!routes[i].header[0]);
	}
}

static void check_config(const json_t *json)
{
	struct sandbox0_config c = { 0 };
	struct err err;

	if (config_decode(json, &c, &err) < 0) {
		CHECK(!c.published);
		refused(&err);
	}
	config_done(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_json json_t *json = NULL;
	struct err err;

	if (!size || json_parse(str_n(data + 1, size - 1), &json, &err) < 0)
		return 0;
	switch (data[0]) {
	case 'n':
		check_network(json);
		break;
	case 's':
		check_services(json, services_text);
		break;
	case 'p':
		check_services(json, services_from_ports);
		break;
	case 'c':
		check_config(json);
		break;
	}
	return 0;
}
