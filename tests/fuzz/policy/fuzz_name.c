/* name_from() and name_pattern_from(): what is accepted is canonical, and stays as it is. */
#include "policy/name.h"
#include "../fuzz.h"

static void check_name(const struct name *name, struct str text)
{
	struct name again;
	size_t label = 0;

	must(name->n > 0 && name->n <= NAME_MAX_LEN && name->s[name->n] == '\0', "length");
	must(name->n == text.n || name->n + 1u == text.n, "nothing but a dot was dropped");
	must(str_caseeq(name_str(name), str_n(text.p, name->n)), "nothing but case was changed");
	for (size_t i = 0; i < name->n; i++) {
		char c = name->s[i];

		must((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.',
			"letters");
		label = c == '.' ? 0 : label + 1;
		must(label <= 63, "label");
	}
	must(name_from(name_str(name), &again, NULL) == 0 && name_eq(name, &again), "canonical");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = str_n(data, size);
	struct name_pattern pattern;
	const char *why = NULL;
	struct name name;

	if (name_from(text, &name, &why) == 0)
		check_name(&name, text);
	else
		must(why != NULL, "a refusal has a reason");
	for (int apex = 0; apex < 2; apex++) {
		if (name_pattern_from(text, apex, &pattern, NULL) < 0)
			continue;
		must(name_match(&pattern, &pattern.name) == (pattern.scope != NAME_BELOW),
			"the apex matches unless the pattern says below");
	}
	return 0;
}
