/* ident: ids in either spelling, names that are labels, variables, SSH keys. */
#include "api/ident.h"
#include "../unit.h"

static void ids(void **state)
{
	char id[IPC_ID_LEN], back[IPC_ID_LEN];

	sandbox_id_new(id);
	assert_int_equal(sandbox_id_from(str_c(id), back), 0);
	assert_string_equal(id, back);
	assert_int_equal(sandbox_id_from(STR("SB_01JQ2M8Z6K3V9X4C7B5N1T0HGA"), back), 0);
	assert_string_equal(back, "sb-01jq2m8z6k3v9x4c7b5n1t0hga");
	assert_int_equal(sandbox_id_from(STR("sb-01jq2m8z6k3v9x4c7b5n1t0hg"), back), -EINVAL);
	assert_int_equal(sandbox_id_from(STR("net-1jq2m8z6k3v9x4c7b5n1t0hga"), back), -EINVAL);
	assert_int_equal(sandbox_id_from(STR(""), back), -EINVAL);
	assert_int_equal(sandbox_id_from(STR("sb/01jq2m8z6k3v9x4c7b5n1t0hga"), back), -EINVAL);
}

static void names(void **state)
{
	static const char *const good[] = { "a", "a1", "brave-otter", "0", "a-b-c",
		"abcdefghijklmnopqrstuv" };
	static const char *const bad[] = { "", "-a", "a-", "A", "a_b", "a.b", "a b",
		"abcdefghijklmnopqrstuvw", "sb-x", "net-x", "\xc3\xbc" };
	char name[SANDBOX_NAME_MAX + 1];
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(sandbox_name_check(str_c(good[i]), &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(sandbox_name_check(str_c(bad[i]), &err), -EINVAL);
		assert_string_equal(err.field, "name");
	}
	for (unsigned int i = 0; i < 5000; i++) {
		sandbox_name_new(i % 16, name);
		assert_int_equal(sandbox_name_check(str_c(name), &err), 0);
	}
}

static int envs(const char *json)
{
	json_t *j = json_loads(json, 0, NULL);
	struct err err;
	int r = envs_check(j, "envs", &err);

	json_decref(j);
	return r;
}

static void variables(void **state)
{
	assert_int_equal(envs("{}"), 0);
	assert_int_equal(envs("{\"A\":\"\",\"_b1\":\"x\"}"), 0);
	assert_int_equal(envs("{\"1A\":\"\"}"), -EINVAL);
	assert_int_equal(envs("{\"\":\"\"}"), -EINVAL);
	assert_int_equal(envs("{\"A=B\":\"\"}"), -EINVAL);
	assert_int_equal(envs("{\"A\":1}"), -EINVAL);
}

static void variables_are_bounded(void **state)
{
	static char value[ENV_VALUE_MAX + 2];
	json_t *j = json_object();
	char key[16];
	struct err err;

	memset(value, 'x', ENV_VALUE_MAX);
	json_object_set_new(j, "A", json_string(value));
	assert_int_equal(envs_check(j, "envs", &err), 0);
	value[ENV_VALUE_MAX] = 'x';
	json_object_set_new(j, "A", json_string(value));
	assert_int_equal(envs_check(j, "envs", &err), -EINVAL);
	json_object_clear(j);
	for (unsigned int i = 0; i < ENVS_MAX; i++) {
		snprintf(key, sizeof(key), "A%u", i);
		json_object_set_new(j, key, json_string("x"));
	}
	assert_int_equal(envs_check(j, "envs", &err), 0);
	json_object_set_new(j, "B", json_string("x"));
	assert_int_equal(envs_check(j, "envs", &err), -EINVAL);
	json_object_clear(j);
	value[4000] = '\0'; /* 17 of them exceed 64 KiB together, 16 do not */
	for (unsigned int i = 0; i < 16; i++) {
		snprintf(key, sizeof(key), "A%u", i);
		json_object_set_new(j, key, json_string(value));
	}
	assert_int_equal(envs_check(j, "envs", &err), 0);
	json_object_set_new(j, "B", json_string(value));
	assert_int_equal(envs_check(j, "envs", &err), -EINVAL);
	json_decref(j);
}

#define KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

static int canonical(const char *line, const char *want)
{
	auto_buf struct buf out = BUF_MAX(65536);
	struct err err;
	int r = ssh_key_canonical(str_c(line), &out, &err);

	if (r == 0)
		assert_string_equal(buf_cstr(&out), want);
	return r;
}

static void keys(void **state)
{
	assert_int_equal(canonical(KEY, KEY), 0);
	assert_int_equal(canonical("  " KEY "   me@host \r\n", KEY " me@host"), 0);
	assert_int_equal(canonical("command=\"x\" " KEY, ""), -EINVAL);
	assert_int_equal(canonical("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwN", ""), -EINVAL);
	assert_int_equal(canonical("ssh-ed25519", ""), -EINVAL);
	assert_int_equal(canonical("ssh-ed25519 ****", ""), -EINVAL);
	assert_int_equal(canonical(KEY "\n" KEY, ""), -EINVAL);
	assert_int_equal(canonical("", ""), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(ids), cmocka_unit_test(names),
		cmocka_unit_test(variables), cmocka_unit_test(variables_are_bounded),
		cmocka_unit_test(keys) };

	return cmocka_run_group_tests_name("api/ident", tests, NULL, NULL);
}
