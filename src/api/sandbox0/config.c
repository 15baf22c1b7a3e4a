/* What a config says: see the header. */
#include "api/ident.h"
#include "api/sandbox0/config.h"
#include "api/services.h"

#define TIME_MAX   INT64_C(3153600000) /* a hundred years, in seconds */
#define MEMORY_MIN 128u		       /* MiB */
#define MEMORY_MAX 16384u

#define F(n, k, f) .name = n, .kind = k, .offset = offsetof(struct sandbox0_config, f)
#define SEEN(f)	   .seen_offset = offsetof(struct sandbox0_config, f)
static const struct json_field fields[] = {
	{ F("env_vars", JK_STR_MAP, env_vars), SEEN(has_env_vars) },
	{ F("resources", JK_RAW, resources), .seen_offset = -1 },
	{ F("ttl", JK_I64, ttl), SEEN(has_ttl), .max = TIME_MAX },
	{ F("hard_ttl", JK_I64, hard_ttl), SEEN(has_hard_ttl), .max = TIME_MAX },
	{ F("network", JK_RAW, network), SEEN(has_network) },
	{ F("auto_resume", JK_BOOL, auto_resume), SEEN(has_auto_resume) },
	{ F("services", JK_RAW, services), .seen_offset = -1 },
	{ F("exposed_ports", JK_RAW, exposed_ports), .seen_offset = -1 },
	{ F("webhook", JK_RAW, webhook), .seen_offset = -1 },
};

static bool is_empty(const json_t *v)
{
	return !v || json_is_null(v) || (json_is_array(v) && !json_array_size(v)) ||
		(json_is_object(v) && !json_object_size(v));
}

static int not_yet(const char *field, const char *what, struct err *err)
{
	return err_field(err, -ENOSYS, ERR_UNSUPPORTED, field, "%s not built yet", what);
}

static const struct {
	const char *text;
	uint64_t bytes;
} units[] = {
	{ "Ki", 1u << 10 },
	{ "Mi", 1u << 20 },
	{ "Gi", 1u << 30 },
	{ "k", 1000 },
	{ "M", 1000000 },
	{ "G", 1000000000 },
	{ "", 1 },
};

static int memory_from(const json_t *json, uint32_t *ret, struct err *err)
{
	struct str text = json_is_string(json) ? str_c(json_string_value(json)) : STR_NONE;
	size_t digits = 0;
	uint64_t n, mib;

	while (digits < text.n && text.p[digits] >= '0' && text.p[digits] <= '9')
		digits++;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (!str_eq_c(str_skip(text, digits), units[i].text) ||
			str_u64(str_n(text.p, digits), UINT32_MAX, &n) < 0)
			continue;
		mib = n * units[i].bytes >> 20;
		if (mib < MEMORY_MIN || mib > MEMORY_MAX)
			break;
		*ret = (uint32_t)mib;
		return 0;
	}
	return err_field(err, -EINVAL, ERR_INVALID, "resources.memory",
		"expected 128Mi to 16Gi, such as \"512Mi\"");
}

/* Last: it allocates. */
static int decode_published(struct sandbox0_config *c, struct err *err)
{
	bool services = c->services && !json_is_null(c->services);
	bool ports = c->exposed_ports && !json_is_null(c->exposed_ports);

	if (services && ports)
		return err_field(err, -EINVAL, ERR_INVALID, "exposed_ports",
			"cannot be combined with services, which say the same");
	if (services)
		return services_text(c->services, &c->published, err);
	return ports ? services_from_ports(c->exposed_ports, &c->published, err) : 0;
}

static int decode(const json_t *json, struct sandbox0_config *c, struct err *err)
{
	const json_t *memory;
	int r = json_decode(json, fields, ARRAY_SIZE(fields), c, err);

	if (r == 0 && c->env_vars)
		r = envs_check(c->env_vars, "env_vars", err);
	if (r < 0)
		return r;
	if (!is_empty(c->webhook))
		return not_yet("webhook", "webhooks are", err);
	if (is_empty(c->resources))
		return decode_published(c, err);
	if (!json_is_object(c->resources))
		return err_field(err, -EINVAL, ERR_INVALID, "resources", "expected an object");
	memory = json_object_get(c->resources, "memory");
	r = is_empty(memory) ? 0 : memory_from(memory, &c->mem_mib, err);
	return r == 0 ? decode_published(c, err) : r;
}

void config_done(struct sandbox0_config *c)
{
	free(take_ptr(c->published));
}

int config_decode(const json_t *json, struct sandbox0_config *ret, struct err *err)
{
	char field[sizeof(err->field) - 7];
	int r;

	if (!json || json_is_null(json))
		return 0;
	if (!json_is_object(json))
		return err_field(err, -EINVAL, ERR_INVALID, "config", "expected an object");
	r = decode(json, ret, err);
	if (r < 0 && err->kind != ERR_INTERNAL) {
		snprintf(field, sizeof(field), "%.56s", err->field);
		snprintf(err->field, sizeof(err->field), "config.%s", field);
	}
	return r;
}

int config_check_times(int64_t ttl, int64_t hard_ttl, struct err *err)
{
	if (ttl > 0 && hard_ttl > 0 && ttl > hard_ttl)
		return err_field(err, -EINVAL, ERR_INVALID, "config.ttl",
			"must not be greater than hard_ttl");
	return 0;
}

void config_memory_text(uint32_t mib, char ret[static 16])
{
	if (mib % 1024)
		snprintf(ret, 16, "%uMi", mib);
	else
		snprintf(ret, 16, "%uGi", mib / 1024);
}
