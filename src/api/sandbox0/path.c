/* Paths: see the header. */
#include "api/sandbox0/path.h"

void path_clean(char *path)
{
	char *out = path;

	for (const char *in = path; *in;) {
		size_t n = strcspn(in + 1, "/"); /* of what stands behind this slash */

		if (n && !(n == 1 && in[1] == '.')) {
			memmove(out, in, n + 1);
			out += n + 1;
		}
		in += n + 1;
	}
	if (out == path)
		*out++ = '/';
	*out = '\0';
}

int path_from(struct str text, char *ret, size_t size, const char *field, struct err *err)
{
	bool relative = text.n && text.p[0] != '/';
	size_t n = relative ? strlen(PATH_BASE) + 1 : 0;

	if (!text.n)
		return err_field(err, -EINVAL, ERR_INVALID, field, "required");
	if (str_find(text, '\0') >= 0)
		return err_field(err, -EINVAL, ERR_INVALID, field, "must not contain a NUL character");
	if (text.n + n >= size)
		return err_field(err, -ENAMETOOLONG, ERR_INVALID, field, "longer than %zu bytes",
			size - n - 1);
	snprintf(ret, size, "%s" STR_FMT, relative ? PATH_BASE "/" : "", STR_ARG(text));
	return 0;
}
