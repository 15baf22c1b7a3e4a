/* Quantities: a prefix means what it means, and leading zeros mean nothing. */
#include "../fuzz.h"
#include "api/opensandbox/quantity.h"

#define TEXT_MAX 64

static int with(const char *before, struct str text, const char *after, uint64_t *ret)
{
	char s[TEXT_MAX + 16];

	snprintf(s, sizeof(s), "%s%.*s%s", before, (int)text.n, text.p, after);
	return quantity_milli(str_c(s), ret);
}

/* `more` of it is `times` as much, but for what was cut off. */
static void check_unit(struct str text, uint64_t one, const char *more, uint64_t times)
{
	uint64_t v;
	int r = with("", text, more, &v);

	CHECK(r == 0 || r == -ERANGE);
	if (r == 0)
		CHECK(v / times == one);
	else
		CHECK((__uint128_t)(one + 1) * times > INT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = str_n(data, size);
	uint64_t v, again;
	int r = quantity_milli(text, &v);

	CHECK(r == 0 || r == -EINVAL || r == -ERANGE);
	if (r < 0 || text.n > TEXT_MAX)
		return 0;
	CHECK(v <= INT64_MAX && text.p[0] >= '0' && text.p[0] <= '9');
	if (text.n <= 18) /* past 20 digits a number is out of range, whatever they are */
		CHECK(with("00", text, "", &again) == 0 && again == v);
	CHECK(with("-", text, "", &again) == -EINVAL && with(" ", text, "", &again) == -EINVAL);
	if (text.p[text.n - 1] < '0' || text.p[text.n - 1] > '9') { /* it has a unit */
		CHECK(with("", text, "i", &again) == -EINVAL || text.n > 1);
		return 0;
	}
	check_unit(text, v, "k", 1000);
	check_unit(text, v, "Ki", 1024);
	check_unit(text, v, "M", 1000000);
	check_unit(text, v, "Gi", 1 << 30);
	CHECK(with("", text, "m", &again) == 0 && again == v / 1000);
	return 0;
}
