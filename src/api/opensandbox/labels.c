/* Metadata: see the header. */
#include "api/opensandbox/labels.h"
#include "base/buf.h"

#define NAME_MAX_LEN   63u
#define PREFIX_MAX_LEN 253u
#define RESERVED       "opensandbox.io"

static bool alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool name_ok(struct str s)
{
	if (!s.n || s.n > NAME_MAX_LEN || !alnum(s.p[0]) || !alnum(s.p[s.n - 1]))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!alnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '_' && s.p[i] != '.')
			return false;
	return true;
}

/* One part of a DNS name, lower case. */
static bool dns_label_ok(struct str s)
{
	if (!s.n || s.n > 63 || s.p[0] == '-' || s.p[s.n - 1] == '-')
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!(alnum(s.p[i]) || s.p[i] == '-') || (s.p[i] >= 'A' && s.p[i] <= 'Z'))
			return false;
	return true;
}

static bool prefix_ok(struct str s)
{
	if (!s.n || s.n > PREFIX_MAX_LEN)
		return false;
	while (s.p)
		if (!dns_label_ok(str_cut(&s, '.')))
			return false;
	return true;
}

bool label_key_ok(struct str key)
{
	struct str name = key, prefix = str_cut(&name, '/');

	return name.p ? prefix_ok(prefix) && name_ok(name) : name_ok(key);
}

bool label_value_ok(struct str value)
{
	return !value.n || name_ok(value);
}

static bool reserved(struct str key)
{
	struct str name = key, prefix = str_cut(&name, '/');

	return name.p && str_eq_c(prefix, RESERVED);
}

static int key_check(struct str key, struct err *err)
{
	if (reserved(key))
		return err_field(err, -EACCES, ERR_INVALID, "metadata",
			"metadata key \"%.80s\": the prefix " RESERVED "/ is reserved", key.p);
	if (!label_key_ok(key))
		return err_field(err, -EINVAL, ERR_INVALID, "metadata",
			"metadata key \"%.80s\": expected an optional DNS prefix and \"/\", then 1 to 63 of "
			"letters, digits, '-', '_', '.', the first and last a letter or digit", key.p);
	return 0;
}

static int value_check(const char *key, const json_t *v, struct err *err)
{
	if (!json_is_string(v))
		return err_field(err, -EINVAL, ERR_INVALID, "metadata",
			"metadata \"%.80s\": expected a string", key);
	if (!label_value_ok(str_n(json_string_value(v), json_string_length(v))))
		return err_field(err, -EINVAL, ERR_INVALID, "metadata",
			"metadata \"%.80s\": a value is empty or 1 to 63 of letters, digits, '-', '_', '.', "
			"the first and last a letter or digit", key);
	return 0;
}

static int count_check(size_t n, struct err *err)
{
	return n <= LABELS_MAX ? 0 : err_field(err, -E2BIG, ERR_INVALID, "metadata",
		"metadata: at most %u entries, got %zu", LABELS_MAX, n);
}

int labels_check(const json_t *labels, struct err *err)
{
	const char *key;
	json_t *v;
	int r;

	if (!json_is_object(labels))
		return err_field(err, -EINVAL, ERR_INVALID, "metadata",
			"metadata: expected an object of strings");
	r = count_check(json_object_size(labels), err);
	json_object_foreach ((json_t *)(uintptr_t)labels, key, v) {
		if (r == 0)
			r = key_check(str_c(key), err);
		if (r == 0)
			r = value_check(key, v, err);
	}
	return r;
}

int labels_patch(json_t *labels, const json_t *patch, struct err *err)
{
	json_t *next = json_copy(labels);
	const char *key;
	json_t *v;
	int r = next ? 0 : err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");

	json_object_foreach ((json_t *)(uintptr_t)patch, key, v) {
		if (r == 0)
			r = key_check(str_c(key), err);
		if (r == 0 && !json_is_null(v))
			r = value_check(key, v, err);
		if (r < 0)
			break;
		if (json_is_null(v))
			json_object_del(next, key);
		else if (json_object_set(next, key, v) < 0)
			r = err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	if (r == 0)
		r = count_check(json_object_size(next), err);
	if (r == 0 && (json_object_clear(labels) < 0 || json_object_update(labels, next) < 0))
		r = err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	json_decref(next);
	return r;
}

/* --- the filter --- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoded; what is no escape stands for itself. */
static void decode(struct str in, struct buf *out)
{
	for (size_t i = 0; i < in.n; i++) {
		if (in.p[i] == '%' && i + 2 < in.n && hex(in.p[i + 1]) >= 0 && hex(in.p[i + 2]) >= 0) {
			buf_u8(out, (uint8_t)(hex(in.p[i + 1]) << 4 | hex(in.p[i + 2])));
			i += 2;
		} else {
			buf_u8(out, (uint8_t)in.p[i]);
		}
	}
}

static int filter_add(json_t *want, struct str piece, struct err *err)
{
	auto_buf struct buf key = BUF_MAX(4096), value = BUF_MAX(4096);
	struct str v = piece, k = str_cut(&v, '=');

	if (!v.p || !k.n)
		return err_field(err, -EINVAL, ERR_INVALID, "metadata",
			"metadata: expected key=value pairs joined by \"&\", got \"%.*s\"",
			(int)MIN(piece.n, (size_t)80), piece.n ? piece.p : "");
	decode(k, &key);
	decode(v, &value);
	if (!buf_cstr(&key) || !buf_cstr(&value) || memchr(key.p, 0, key.n) ||
		memchr(value.p, 0, value.n) ||
		json_object_set_new(want, key.p, json_stringn(value.p, value.n)) < 0)
		return err_field(err, -EINVAL, ERR_INVALID, "metadata",
			"metadata: expected UTF-8 without NUL, at most 4,096 bytes a piece");
	return 0;
}

int label_filter_from(struct str text, struct label_filter *ret, struct err *err)
{
	struct label_filter f = { json_object() };
	int r = f.want ? 0 : err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");

	while (r == 0 && text.n)
		r = filter_add(f.want, str_cut(&text, '&'), err);
	if (r < 0)
		label_filter_done(&f);
	else
		*ret = f;
	return r;
}

void label_filter_done(struct label_filter *f)
{
	json_decref(f->want);
	f->want = NULL;
}

bool label_filter_fits(const struct label_filter *f, const char *labels_json)
{
	const char *key;
	json_t *want, *labels;
	bool fits = true;

	if (!json_object_size(f->want))
		return true;
	labels = json_loads(labels_json ? labels_json : "{}", 0, NULL);
	json_object_foreach (f->want, key, want)
		fits = fits && json_equal(want, json_object_get(labels, key));
	json_decref(labels);
	return fits;
}
