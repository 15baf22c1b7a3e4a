/* multipart/form-data: the same parts however the body is cut, and bodies that are none. */
#include "../unit.h"
#include "api/opensandbox/multipart.h"

/* "name:content;" for each part, then "." for the end; "!" for what is refused. */
static void read_all(const char *type, struct str body, size_t piece, struct buf *out)
{
	struct multipart m;
	int r = multipart_open(&m, str_c(type));

	assert_int_equal(r, 0);
	while (body.n && r >= 0) {
		struct str in = str_n(body.p, MIN(piece, body.n)), data;

		body = str_skip(body, in.n);
		while ((r = multipart_next(&m, &in, &data)) > 0) {
			if (r == MULTIPART_PART)
				buf_fmt(out, "%s:", m.name);
			else if (r == MULTIPART_DATA)
				buf_add_str(out, data);
			else
				buf_add_c(out, r == MULTIPART_END ? "." : ";");
		}
	}
	if (r < 0)
		buf_add_c(out, "!");
	multipart_done(&m);
}

#define TYPE "multipart/form-data; boundary=xyz"
#define PART(name) "--xyz\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n"

static void parts_however_cut(void **state)
{
	static const struct {
		const char *type, *body, *want;
	} cases[] = {
		{ TYPE, PART("a") "1\r\n" PART("b") "2\r\n--xyz--\r\n", "a:1;b:2;." },
		{ TYPE, "preamble\r\n" PART("a") "\r\n--xyz--tail --xyz", "a:;." },
		{ TYPE, PART("a") "\r\n--xy\r\r\n--xyy\r\n--xyz--", "a:\r\n--xy\r\r\n--xyy;." },
		{ "Multipart/Form-Data; charset=x; Boundary=\"x\\yz\"", PART("a") "1\r\n--xyz--", "a:1;." },
		{ TYPE, "--xyz\r\n\r\nno headers\r\n--xyz--", ":no headers;." },
		{ TYPE, "--xyz\r\ncontent-disposition:form-data;filename=\"x\";name=a\r\n\r\n1\r\n--xyz--",
			"a:1;." },
		{ TYPE, PART("a") "never ends", "a:never ends" },
		{ TYPE, PART("a") "1\r\n--xyz?!", "a:1;!" },
		{ TYPE, "no boundary", "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t piece = 1; piece <= strlen(cases[i].body); piece++) {
			auto_buf struct buf out = BUF_MAX(4096);

			read_all(cases[i].type, str_c(cases[i].body), piece, &out);
			assert_true(buf_cstr(&out));
			assert_string_equal(out.p, cases[i].want);
		}
}

static void what_is_none(void **state)
{
	static const char *const types[] = { "", "text/plain", "multipart/form-data",
		"multipart/form-data; boundary=", "multipart/form-data; boundary=\"open",
		"multipart/form-data; boundary=\"a\nb\"", "multipart/mixed; boundary=x" };
	auto_buf struct buf big = BUF_MAX(1 << 20), out = BUF_MAX(1 << 20);
	struct multipart m;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		assert_int_equal(multipart_open(&m, str_c(types[i])), -EINVAL);
		multipart_done(&m);
	}
	buf_add_c(&big, "--xyz\r\nx: ");
	while (big.n < 2 * MULTIPART_HEAD_MAX)
		buf_add_c(&big, "header");
	read_all(TYPE, buf_str(&big), 1000, &out);
	assert_true(str_eq_c(buf_str(&out), "!"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_however_cut),
		cmocka_unit_test(what_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
