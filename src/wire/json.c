/*
 * JSON in and out: limits before the parser, one decoder driven by tables, one writer.
 *
 * A parsed value costs up to fifty times its text, so size alone bounds nothing: text is
 * scanned once for its depth and its number of values before jansson sees a byte.
 */
#include "wire/json.h"

#define JSON_SIZE_MAX	(64u << 20) /* above any body limit; so that lengths stay small numbers */
#define JSON_VALUES_MAX 200000u	    /* separators and openings outside strings */

/* --- reading --- */

/* Depth and number of values; text that is not JSON at all is left to the parser. */
static int scan_limits(struct str s, struct err *err)
{
	unsigned int depth = 0, values = 0;
	bool quoted = false;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (quoted) {
			if (c == '\\')
				i++;
			else if (c == '"')
				quoted = false;
			continue;
		}
		if (c == '"') {
			quoted = true;
		} else if (c == '[' || c == '{') {
			values++;
			if (++depth > JSON_DEPTH_MAX)
				return err_field(err, -E2BIG, ERR_INVALID, "body",
					"nested deeper than %d levels", JSON_DEPTH_MAX);
		} else if (c == ']' || c == '}') {
			depth -= depth > 0;
		} else if (c == ',') {
			values++;
		}
		if (values > JSON_VALUES_MAX)
			return err_field(err, -E2BIG, ERR_INVALID, "body", "more than %u values",
				JSON_VALUES_MAX);
	}
	return 0;
}

/* Our words for jansson's, which would quote the client's bytes back. */
static const char *fault_text(enum json_error_code code)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wswitch-enum"
	switch (code) {
	case json_error_premature_end_of_input:
		return "it ends too early";
	case json_error_end_of_input_expected:
		return "something follows after its end";
	case json_error_invalid_utf8:
		return "not UTF-8";
	case json_error_duplicate_key:
		return "a key appears twice in one object";
	case json_error_null_character:
	case json_error_null_byte_in_key:
		return "a NUL character in a key";
	case json_error_numeric_overflow:
		return "a number is out of range";
	default:
		return "unexpected text";
	}
#pragma GCC diagnostic pop
}

int json_parse(struct str text, json_t **ret, struct err *err)
{
	json_error_t fault;
	json_t *j;
	int r;

	if (!text.n) {
		*ret = json_object();
		return *ret ? 0 : err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	if (text.n > JSON_SIZE_MAX)
		return err_field(err, -E2BIG, ERR_TOO_LARGE, "body", "larger than %u MiB",
			JSON_SIZE_MAX >> 20);
	r = scan_limits(text, err);
	if (r < 0)
		return r;
	j = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &fault);
	if (!j) {
		if (json_error_code(&fault) == json_error_out_of_memory)
			return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
		return err_field(err, -EINVAL, ERR_INVALID, "body",
			"invalid JSON at line %d, column %d: %s", fault.line, fault.column,
			fault_text(json_error_code(&fault)));
	}
	*ret = j;
	return 0;
}

/* --- decoding --- */

static const char *type_name(const json_t *j)
{
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	return "something else";
}

static int expected(struct err *err, const char *field, const char *what, const json_t *got)
{
	/* A fraction is a number too; say what is wrong with it. */
	return err_field(err, -EINVAL, ERR_INVALID, field, "expected %s, got %s", what,
		json_is_real(got) ? "a fraction" : type_name(got));
}

static bool has_nul(const json_t *v)
{
	return memchr(json_string_value(v), '\0', json_string_length(v));
}

static int no_nul(struct err *err, const char *field)
{
	return err_field(err, -EINVAL, ERR_INVALID, field, "must not contain a NUL character");
}

/* A table that names no limits (both zero) has none. */
static bool unlimited(const struct json_field *f)
{
	return !f->min && !f->max;
}

static int check_count(const struct json_field *f, size_t n, const char *unit, struct err *err)
{
	if (unlimited(f) || ((int64_t)n >= f->min && (int64_t)n <= f->max))
		return 0;
	if (f->min == f->max)
		return err_field(err, -ERANGE, ERR_INVALID, f->name, "must have %" PRId64 " %s, got %zu",
			f->min, unit, n);
	if (f->min > 0 && !n)
		return err_field(err, -ERANGE, ERR_INVALID, f->name, "must not be empty");
	if (f->min > 0)
		return err_field(err, -ERANGE, ERR_INVALID, f->name,
			"must have %" PRId64 " to %" PRId64 " %s, got %zu", f->min, f->max, unit, n);
	return err_field(err, -ERANGE, ERR_INVALID, f->name, "must have at most %" PRId64 " %s, got %zu",
		f->max, unit, n);
}

static int check_number(const struct json_field *f, const json_t *v, int64_t least, int64_t most,
	struct err *err)
{
	int64_t n;

	if (!json_is_integer(v))
		return expected(err, f->name, "an integer", v);
	if (!unlimited(f)) {
		least = MAX(least, f->min);
		most = MIN(most, f->max);
	}
	n = json_integer_value(v);
	if (n < least || n > most)
		return err_field(err, -ERANGE, ERR_INVALID, f->name,
			"must be between %" PRId64 " and %" PRId64, least, most);
	return 0;
}

static int check_list(const struct json_field *f, const json_t *v, struct err *err)
{
	json_t *item;
	size_t i;

	if (!json_is_array(v))
		return expected(err, f->name, "an array of strings", v);
	json_array_foreach(v, i, item) {
		char where[64];

		if (json_is_string(item) && !has_nul(item))
			continue;
		snprintf(where, sizeof(where), "%s[%zu]", f->name, i);
		return json_is_string(item) ? no_nul(err, where) : expected(err, where, "a string", item);
	}
	return check_count(f, json_array_size(v), "entries", err);
}

static int check_map(const struct json_field *f, const json_t *v, struct err *err)
{
	const char *key;
	json_t *item;

	if (!json_is_object(v))
		return expected(err, f->name, "an object of strings", v);
	json_object_foreach((json_t *)v, key, item) {
		char where[64];

		if (json_is_string(item) && !has_nul(item))
			continue;
		snprintf(where, sizeof(where), "%s.%.40s", f->name, key);
		return json_is_string(item) ? no_nul(err, where) : expected(err, where, "a string", item);
	}
	return check_count(f, json_object_size(v), "entries", err);
}

static int decode_field(const struct json_field *f, json_t *v, void *place, struct err *err)
{
	int r = 0;

	switch (f->kind) {
	case JK_STR:
	case JK_BYTES:
		if (!json_is_string(v))
			return expected(err, f->name, "a string", v);
		if (f->kind == JK_STR && has_nul(v))
			return no_nul(err, f->name);
		r = check_count(f, json_string_length(v), "bytes", err);
		if (r == 0)
			*(struct str *)place = str_n(json_string_value(v), json_string_length(v));
		return r;
	case JK_BOOL:
		if (!json_is_boolean(v))
			return expected(err, f->name, "true or false", v);
		*(bool *)place = json_is_true(v);
		return 0;
	case JK_U32:
		r = check_number(f, v, 0, UINT32_MAX, err);
		if (r == 0)
			*(uint32_t *)place = (uint32_t)json_integer_value(v);
		return r;
	case JK_I64:
		r = check_number(f, v, INT64_MIN, INT64_MAX, err);
		if (r == 0)
			*(int64_t *)place = json_integer_value(v);
		return r;
	case JK_STR_LIST:
		r = check_list(f, v, err);
		break;
	case JK_STR_MAP:
		r = check_map(f, v, err);
		break;
	case JK_RAW:
		break;
	}
	if (r == 0)
		*(json_t **)place = v;
	return r;
}

int json_decode(const json_t *obj, const struct json_field *fields, size_t n, void *out,
	struct err *err)
{
	if (!json_is_object(obj))
		return expected(err, "body", "an object", obj);
	for (size_t i = 0; i < n; i++) {
		const struct json_field *f = &fields[i];
		json_t *v = json_object_get(obj, f->name);
		int r;

		if (!v || json_is_null(v)) {
			if (f->required)
				return err_field(err, -EINVAL, ERR_INVALID, f->name, "required");
			continue;
		}
		r = decode_field(f, v, (char *)out + f->offset, err);
		if (r < 0)
			return r;
		if (f->seen_offset >= 0)
			*(bool *)((char *)out + f->seen_offset) = true;
	}
	return 0;
}

/* --- writing --- */

static void escape(struct buf *out, unsigned char c)
{
	static const char shorts[256] = { ['"'] = '"', ['\\'] = '\\', ['\n'] = 'n', ['\r'] = 'r',
		['\t'] = 't', ['\b'] = 'b', ['\f'] = 'f' };
	char two[2] = { '\\', shorts[c] };

	if (two[1])
		buf_add(out, two, 2);
	else
		buf_fmt(out, "\\u%04x", c);
}

static void quote(struct buf *out, struct str v)
{
	const unsigned char *p = (const unsigned char *)v.p;
	size_t from = 0, i = 0;

	buf_add(out, "\"", 1);
	while (i < v.n) {
		size_t len;

		if (p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' && p[i] != '\\') {
			i++;
			continue;
		}
		len = str_utf8_len(str_n(v.p + i, v.n - i));
		if (len > 1) {
			i += len;
			continue;
		}
		buf_add(out, p + from, i - from);
		if (len)
			escape(out, p[i]);
		else
			buf_add(out, "\xef\xbf\xbd", 3);
		from = ++i;
	}
	if (v.n)
		buf_add(out, p + from, v.n - from);
	buf_add(out, "\"", 1);
}

/* What precedes every value: a comma unless it is the first, and its name. */
static void begin(struct jw *w, const char *name)
{
	if (w->comma)
		buf_add(w->out, ",", 1);
	w->comma = true;
	if (name) {
		quote(w->out, str_c(name));
		buf_add(w->out, ":", 1);
	}
}

void jw_obj(struct jw *w, const char *name)
{
	begin(w, name);
	buf_add(w->out, "{", 1);
	w->comma = false;
}

void jw_end(struct jw *w)
{
	buf_add(w->out, "}", 1);
	w->comma = true;
}

void jw_arr(struct jw *w, const char *name)
{
	begin(w, name);
	buf_add(w->out, "[", 1);
	w->comma = false;
}

void jw_arr_end(struct jw *w)
{
	buf_add(w->out, "]", 1);
	w->comma = true;
}

void jw_str(struct jw *w, const char *name, struct str v)
{
	begin(w, name);
	quote(w->out, v);
}

void jw_c(struct jw *w, const char *name, const char *v)
{
	jw_str(w, name, str_c(v));
}

void jw_i64(struct jw *w, const char *name, int64_t v)
{
	begin(w, name);
	buf_fmt(w->out, "%" PRId64, v);
}

void jw_u64(struct jw *w, const char *name, uint64_t v)
{
	begin(w, name);
	buf_fmt(w->out, "%" PRIu64, v);
}

void jw_ms(struct jw *w, const char *name, uint64_t ns)
{
	begin(w, name);
	buf_fmt(w->out, "%" PRIu64 ".%03u", ns / 1000000, (unsigned int)(ns / 1000 % 1000));
}

void jw_bool(struct jw *w, const char *name, bool v)
{
	begin(w, name);
	buf_add_c(w->out, v ? "true" : "false");
}

void jw_raw(struct jw *w, const char *name, struct str json)
{
	begin(w, name);
	buf_add_str(w->out, json);
}
