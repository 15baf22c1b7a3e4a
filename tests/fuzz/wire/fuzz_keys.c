/*
 * The file of signing keys: what reads is what a message may hold, and reads the same again; a refusal
 * changes nothing, and says no more of a line than which it is.
 */
#include "../fuzz.h"
#include "wire/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ipc_ingress_keys keys, again;
	struct str text = str_n(data, size);
	struct err err;

	memset(&keys, 0x55, sizeof(keys));
	again = keys;
	if (keys_read("f", text, &keys, &err) < 0) {
		must(memcmp(&keys, &again, sizeof(keys)) == 0, "a refusal changes nothing");
		must(str_starts(str_c(err.text), STR("f:")) && strlen(err.text) < 80, "it has a line and a sentence");
		return 0;
	}
	must(keys_ok(&keys), "what reads may be told");
	must(keys_read("f", text, &again, &err) == 0 && memcmp(&keys, &again, sizeof(keys)) == 0,
		"and reads the same");
	return 0;
}
