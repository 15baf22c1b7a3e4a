/* cmd/cli/conf: who wins, and complaints with file and line. */
#include <fcntl.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "cmd/cli/cli.h"
#include "../unit.h"

static char dir[64];

static int setup(void **state)
{
	char path[128];

	snprintf(dir, sizeof(dir), "/tmp/weir-test-conf-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/weir", dir);
	mkdir(path, 0700);
	setenv("XDG_CONFIG_HOME", dir, 1);
	unsetenv("WEIR_URL");
	unsetenv("WEIR_API_KEY");
	return 0;
}

static void config_path(char *out, size_t size)
{
	snprintf(out, size, "%s/weir/config", dir);
}

static int teardown(void **state)
{
	char path[128];

	config_path(path, sizeof(path));
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	return rmdir(dir);
}

static void write_config(const char *text, mode_t mode)
{
	char path[128];

	config_path(path, sizeof(path));
	assert_int_equal(file_replace(AT_FDCWD, path, str_c(text), mode, false), 0);
	chmod(path, mode);
}

static void precedence(void **state)
{
	struct cli_conf conf;
	struct err err;

	assert_int_equal(cli_conf_read(&conf, NULL, &err), 0);
	assert_string_equal(conf.url, "http://127.0.0.1:8080");
	secret_done(&conf.key);

	write_config("# a comment\n\n url = http://file:1/ \r\napi_key=from-file\n", 0600);
	assert_int_equal(cli_conf_read(&conf, NULL, &err), 0);
	assert_string_equal(conf.url, "http://file:1");
	assert_string_equal(secret_reveal(&conf.key).p, "from-file");
	assert_non_null(strstr(conf.key_from, "/weir/config:4"));
	assert_false(conf.readable_by_all);
	secret_done(&conf.key);

	setenv("WEIR_URL", "https://env/pre", 1);
	setenv("WEIR_API_KEY", "from-env", 1);
	assert_int_equal(cli_conf_read(&conf, NULL, &err), 0);
	assert_string_equal(conf.url, "https://env/pre");
	assert_string_equal(secret_reveal(&conf.key).p, "from-env");
	assert_string_equal(conf.key_from, "WEIR_API_KEY");
	secret_done(&conf.key);

	assert_int_equal(cli_conf_read(&conf, "http://option", &err), 0);
	assert_string_equal(conf.url, "http://option");
	secret_done(&conf.key);

	setenv("WEIR_URL", "", 1); /* empty is as good as unset */
	assert_int_equal(cli_conf_read(&conf, NULL, &err), 0);
	assert_string_equal(conf.url, "http://file:1");
	secret_done(&conf.key);
}

static void others_can_read(void **state)
{
	struct cli_conf conf;
	struct err err;

	write_config("api_key = k\n", 0644);
	assert_int_equal(cli_conf_read(&conf, NULL, &err), 0);
	assert_true(conf.readable_by_all);
	secret_done(&conf.key);
}

static void complaints(void **state)
{
	char long_key[20 + CLI_KEY_MAX];
	const struct {
		const char *text, *says;
	} cases[] = {
		{ "url = http://a\nkey = b\n", "config:2: expected \"url = ...\" or \"api_key = ...\"" },
		{ "url\n", "config:1: expected" },
		{ "url = ftp://a\n", "config:1: \"ftp://a\" is not a URL" },
		{ "url = http://a?b\n", "config:1: not a base URL" },
		{ "api_key = two words\n", "config:1: not an API key" },
		{ long_key, "config:1: not an API key" },
	};

	snprintf(long_key, sizeof(long_key), "api_key = %0*d\n", CLI_KEY_MAX + 1, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cli_conf conf;
		struct err err = { 0 };

		write_config(cases[i].text, 0600);
		assert_true(cli_conf_read(&conf, NULL, &err) < 0);
		if (!strstr(err.text, cases[i].says))
			fail_msg("\"%s\" is not in \"%s\"", cases[i].says, err.text);
		secret_done(&conf.key);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(precedence, setup, teardown),
		cmocka_unit_test_setup_teardown(others_can_read, setup, teardown),
		cmocka_unit_test_setup_teardown(complaints, setup, teardown) };

	return cmocka_run_group_tests_name("cmd/conf", tests, NULL, NULL);
}
