/*
 * Metadata of OpenSandbox's dialect: the first line is the filter of a list, the rest an object of
 * labels and a patch: {"labels": {…}, "patch": {…}}. What is accepted is within the limits, a refused
 * patch changes nothing, a patch done twice changes nothing more, and a filter made of a sandbox's own
 * labels finds it.
 */
#include "../fuzz.h"
#include "api/opensandbox/labels.h"
#include "wire/json.h"

static void check_labels(json_t *labels)
{
	const char *key;
	json_t *v;

	CHECK(json_object_size(labels) <= LABELS_MAX);
	json_object_foreach (labels, key, v)
		CHECK(label_key_ok(str_c(key)) && json_is_string(v) &&
			label_value_ok(str_n(json_string_value(v), json_string_length(v))));
}

static void check_patch(json_t *labels, const json_t *patch)
{
	auto_json json_t *before = json_deep_copy(labels), *once = NULL;
	struct err err;

	if (labels_patch(labels, patch, &err) < 0) {
		CHECK(json_equal(before, labels) && str_utf8(str_c(err.text)));
		return;
	}
	check_labels(labels);
	once = json_deep_copy(labels);
	CHECK(labels_patch(labels, patch, &err) == 0 && json_equal(once, labels));
}

/* "k=v&k2=v2" of all labels; legal ones need no escapes. */
static void check_own_filter(json_t *labels)
{
	auto_buf struct buf text = BUF_MAX(1 << 20);
	auto_free char *json = json_dumps(labels, JSON_COMPACT);
	struct label_filter f;
	struct err err;
	const char *key;
	json_t *v;

	json_object_foreach (labels, key, v)
		buf_fmt(&text, "%s%s=%s", text.n ? "&" : "", key, json_string_value(v));
	CHECK(json && label_filter_from(buf_str(&text), &f, &err) == 0);
	CHECK(label_filter_fits(&f, json));
	label_filter_done(&f);
}

static void check_filter(struct str text)
{
	struct label_filter f, again;
	struct err err;
	auto_free char *json = NULL;

	if (label_filter_from(text, &f, &err) < 0) {
		CHECK(err.text[0]);
		return;
	}
	json = json_dumps(f.want, JSON_COMPACT);
	CHECK(json && label_filter_fits(&f, json));
	CHECK(!json_object_size(f.want) || !label_filter_fits(&f, "{}"));
	CHECK(label_filter_from(text, &again, &err) == 0 && json_equal(f.want, again.want));
	label_filter_done(&again);
	label_filter_done(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = str_n(data, size), filter = str_cut(&rest, '\n');
	auto_json json_t *body = NULL;
	json_t *labels;
	struct err err;

	check_filter(filter);
	if (!rest.n || json_parse(rest, &body, &err) < 0)
		return 0;
	labels = json_object_get(body, "labels");
	if (!labels || labels_check(labels, &err) < 0)
		return 0;
	check_labels(labels);
	check_own_filter(labels);
	if (json_is_object(json_object_get(body, "patch")))
		check_patch(labels, json_object_get(body, "patch"));
	return 0;
}
