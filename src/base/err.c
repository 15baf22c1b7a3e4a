/* Errors as values: see the header. */
#include "base/err.h"
#include "base/str.h"

static const char *const kind_names[ERR_KINDS] = {
	[ERR_INTERNAL] = "internal",	   [ERR_INVALID] = "invalid",
	[ERR_UNAUTHORIZED] = "unauthorized", [ERR_FORBIDDEN] = "forbidden",
	[ERR_NOT_FOUND] = "not-found",	   [ERR_METHOD] = "method",
	[ERR_TIMEOUT] = "timeout",	   [ERR_CONFLICT] = "conflict",
	[ERR_TOO_LARGE] = "too-large",	   [ERR_RATE] = "rate",
	[ERR_UNSUPPORTED] = "unsupported", [ERR_UPSTREAM] = "upstream",
	[ERR_CAPACITY] = "capacity",
};

const char *err_kind_name(enum err_kind kind)
{
	return kind < ERR_KINDS ? kind_names[kind] : "unknown";
}

/*
 * A text that quotes its input may have been cut within a character, by its own limit or by a
 * precision: what is left of such a character becomes question marks, so that a text is UTF-8
 * always.
 */
static void mend(char *text)
{
	for (size_t i = 0, n = strlen(text), len; i < n; i += len) {
		len = str_utf8_len(str_n(text + i, n - i));
		if (!len) {
			text[i] = '?';
			len = 1;
		}
	}
}

static void _printf_(5, 0) fill(struct err *err, int code, enum err_kind kind, const char *field,
	const char *fmt, va_list ap)
{
	if (!err)
		return;
	err->code = code;
	err->kind = kind;
	snprintf(err->field, sizeof(err->field), "%s", field);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	mend(err->text);
}

int err_set(struct err *err, int code, enum err_kind kind, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(err, code, kind, "", fmt, ap);
	va_end(ap);
	return code;
}

int err_field(struct err *err, int code, enum err_kind kind, const char *field, const char *fmt,
	...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(err, code, kind, field, fmt, ap);
	va_end(ap);
	return code;
}

int err_wrap(struct err *err, int code, const char *fmt, ...)
{
	char context[sizeof(err->text)], old[sizeof(err->text)];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
	memcpy(old, err->text, sizeof(old));
	/* Truncation is what we want here: the context matters more than the tail. */
	if ((size_t)snprintf(err->text, sizeof(err->text), "%.190s: %.200s", context, old) >=
		sizeof(err->text))
		err->text[sizeof(err->text) - 1] = '\0';
	mend(err->text);
	return code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
	char context[256];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
	/* A number from another process may be no errno, and not even have a negative. */
	return err_set(err, code, ERR_INTERNAL, "%s: %s", context, strerror(-MAX(code, -4095)));
}
