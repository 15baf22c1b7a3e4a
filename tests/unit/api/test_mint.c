/*
 * mint: tokens are HMAC-SHA-256 of purpose and id under the key file, in base64url, so they outlive the
 * daemon that made them; a key file that is not one of ours is refused, not replaced.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include "api/mint.h"
#include "base/fd.h"
#include "../unit.h"

static char dir[64];
static int dir_fd;

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/weir-mint-XXXXXX");
	dir_fd = mkdtemp(dir) ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	return dir_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	unlinkat(dir_fd, "token.key", 0);
	close(dir_fd);
	return rmdir(dir);
}

static void write_key(size_t n)
{
	char key[64];

	for (size_t i = 0; i < n; i++)
		key[i] = (char)i;
	assert_int_equal(file_replace(dir_fd, "token.key", str_n(key, n), 0600, false), 0);
}

static void free_mint(struct mint **m)
{
	mint_free(*m);
}
#define auto_mint _cleanup_(free_mint)

static struct mint *open_mint(void)
{
	struct mint *m = NULL;
	struct err err;

	assert_int_equal(mint_open(dir_fd, &m, &err), 0);
	return m;
}

/* Made with Python's hmac and base64. */
static void vectors(void **state)
{
	static char longest[MINT_ID_MAX + 2];
	const struct {
		const char *purpose, *id, *token;
	} cases[] = {
		{ "egress", "sb-1", "_NX23ebgqORUZmx9mkYbjjBS_EoMdQEucjIfUx30IG4" },
		{ "proxy/8080", "sb-1", "Q17sMXpTLdMA5JgnuQFlc5-XJr07JOCE9y0NFzOtUR4" },
		{ "execd", longest, "Vt4X8XFqTN2UFXaMK8TI62X2utlW8Gqsds5T3D5J_9Q" },
	};
	auto_secret struct secret token = SECRET_NONE;
	auto_mint struct mint *m = NULL;

	write_key(32);
	m = open_mint();
	memset(longest, 'x', MINT_ID_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct str id = str_c(cases[i].id), right = str_c(cases[i].token);

		assert_int_equal(mint_token(m, cases[i].purpose, id, &token), 0);
		assert_string_equal(secret_reveal(&token).p, cases[i].token);
		assert_int_equal(secret_reveal(&token).n, MINT_TOKEN_LEN);
		assert_true(mint_fits(m, cases[i].purpose, id, right));
		assert_false(mint_fits(m, "another", id, right));
		assert_false(mint_fits(m, cases[i].purpose, STR("sb-2"), right));
		assert_false(mint_fits(m, cases[i].purpose, id, str_n(right.p, right.n - 1)));
		assert_false(mint_fits(m, cases[i].purpose, id, STR_NONE));
	}
	longest[MINT_ID_MAX] = 'x';
	assert_int_equal(mint_token(m, "execd", str_n(longest, MINT_ID_MAX + 1), &token), -EINVAL);
}

/* What one that opens now makes. */
static void token_of_new(struct secret *ret)
{
	auto_mint struct mint *m = open_mint();

	assert_int_equal(mint_token(m, "egress", STR("sb-1"), ret), 0);
}

static void the_key_stays(void **state)
{
	auto_secret struct secret one = SECRET_NONE, two = SECRET_NONE;
	struct stat st;

	token_of_new(&one);
	assert_int_equal(fstatat(dir_fd, "token.key", &st, 0), 0);
	assert_int_equal(st.st_size, 32);
	assert_int_equal(st.st_mode & 0777, 0600);
	token_of_new(&two);
	assert_true(secret_is(&one, secret_reveal(&two)));
	assert_int_equal(unlinkat(dir_fd, "token.key", 0), 0); /* who loses it makes others */
	token_of_new(&two);
	assert_false(secret_is(&one, secret_reveal(&two)));
}

static void another_file_is_refused(void **state)
{
	static const size_t sizes[] = { 0, 31, 33, 64 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct mint *m = NULL;
		struct err err = { 0 };
		struct stat st;

		write_key(sizes[i]);
		assert_int_equal(mint_open(dir_fd, &m, &err), -EBADMSG);
		assert_null(m);
		assert_non_null(strstr(err.text, "token.key in the state directory"));
		assert_int_equal(fstatat(dir_fd, "token.key", &st, 0), 0);
		assert_int_equal(st.st_size, sizes[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(vectors, setup, teardown),
		cmocka_unit_test_setup_teardown(the_key_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(another_file_is_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
