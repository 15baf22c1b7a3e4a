/* Paths: see the header. */
#include "api/sandbox0/path.h"

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
