/*
 * Metadata: texts under keys, both as labels of Kubernetes are written. A key is an optional prefix
 * (a DNS name) and "/" before a name; names, and values that are not empty, are 1 to 63 letters,
 * digits, '-', '_' and '.', the first and the last a letter or digit. The prefix opensandbox.io is
 * not for users. Pure.
 */
#pragma once
#include <jansson.h>
#include "base/err.h"
#include "base/str.h"

#define LABELS_MAX 64u /* of one sandbox: a bound on what a row can hold */

bool label_key_ok(struct str key);
bool label_value_ok(struct str value);
/* An object of texts within all that. Errors: field "metadata". */
int labels_check(const json_t *labels, struct err *err);
/* A merge patch: texts set, nulls remove, the rest stays. *labels is changed only on success. */
int labels_patch(json_t *labels, const json_t *patch, struct err *err);

/*
 * The filter of a list: one query value that reads like a query string, "k=v&k2=v2". Pieces are
 * decoded once more, for clients that encode them by themselves; to legal labels that does nothing.
 */
struct label_filter {
	json_t *want; /* object of texts; NULL: anything goes */
};
/* -EINVAL for a piece without '=' or with an empty key. */
int label_filter_from(struct str text, struct label_filter *ret, struct err *err);
void label_filter_done(struct label_filter *f);
bool label_filter_fits(const struct label_filter *f, const char *labels_json);
