/*
 * JSON: parsed by jansson (limits on size and depth before it sees a byte), decoded by
 * tables. A table names each member of a request struct, its limits and its place; the one
 * decoder fills the struct or says what was wrong, where and what is allowed:
 * "egress[2]: expected a string, got a number". Unknown members are ignored; duplicate keys
 * are refused. Writing goes through struct jw, which cannot produce invalid JSON.
 */
#pragma once
#include <jansson.h>
#include "base/buf.h"
#include "base/err.h"

#define JSON_DEPTH_MAX 32

static inline void auto_json_done(json_t **j)
{
	json_decref(*j);
}
#define auto_json _cleanup_(auto_json_done)

/* Empty text is an empty object. Errors: field "body". */
int json_parse(struct str text, json_t **ret, struct err *err);

/* JK_BYTES is a string that may contain NUL characters; JK_STR and the strings of lists and maps
 * may not. What JK_RAW holds was not looked at. */
enum json_kind { JK_STR, JK_BYTES, JK_BOOL, JK_U32, JK_I64, JK_STR_LIST, JK_STR_MAP, JK_RAW };

struct json_field {
	const char *name;
	enum json_kind kind;
	size_t offset;	     /* of a struct str, bool, uint32_t, int64_t or json_t * (borrowed) */
	ssize_t seen_offset; /* of a bool "was present and not null", or -1 */
	bool required;
	int64_t min, max;    /* numbers: value; strings: length; lists and maps: entries */
};
/* Fill *out (zeroed by the caller) from a JSON object. Strings borrow from the json_t. */
int json_decode(const json_t *obj, const struct json_field *fields, size_t n, void *out,
	struct err *err);

/* A writer: jw_obj(w, "data"); jw_str(w, "id", id); jw_end(w); names are NULL inside arrays. */
struct jw {
	struct buf *out;
	bool comma;
};
#define JW(b) ((struct jw){ .out = (b) })
void jw_obj(struct jw *w, const char *name);
void jw_end(struct jw *w); /* '}' */
void jw_arr(struct jw *w, const char *name);
void jw_arr_end(struct jw *w);
void jw_str(struct jw *w, const char *name, struct str v); /* invalid UTF-8 becomes U+FFFD */
void jw_c(struct jw *w, const char *name, const char *v);
void jw_i64(struct jw *w, const char *name, int64_t v);
void jw_u64(struct jw *w, const char *name, uint64_t v);
void jw_ms(struct jw *w, const char *name, uint64_t ns); /* milliseconds with three decimals */
void jw_bool(struct jw *w, const char *name, bool v);
void jw_raw(struct jw *w, const char *name, struct str json); /* trusted JSON text */
