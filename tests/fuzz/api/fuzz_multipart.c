/*
 * A multipart body: the first byte chooses the pieces it comes in. It reads the same in pieces and
 * whole, what is told as data was in the body, and nothing more comes behind the end.
 */
#include "../fuzz.h"
#include "api/opensandbox/multipart.h"
#include "base/buf.h"

static void read_all(struct str body, size_t piece, struct buf *out)
{
	struct multipart m;
	bool part = false, over = false;
	size_t data_bytes = 0, size = body.n;
	int r = multipart_open(&m, STR("multipart/form-data; boundary=b"));

	CHECK(r == 0);
	while (body.n && r >= 0) {
		struct str in = str_n(body.p, MIN(piece, body.n)), data;

		body = str_skip(body, in.n);
		while ((r = multipart_next(&m, &in, &data)) > 0) {
			CHECK(!over);
			CHECK(part == (r == MULTIPART_DATA || r == MULTIPART_PART_END));
			part = r == MULTIPART_PART || r == MULTIPART_DATA;
			over = r == MULTIPART_END;
			if (r == MULTIPART_DATA) {
				CHECK(data.n);
				data_bytes += data.n;
				buf_add_str(out, data);
			} else {
				buf_fmt(out, "<%d%s>", r, r == MULTIPART_PART ? m.name : "");
			}
		}
		CHECK(r < 0 || !in.n);
	}
	CHECK(data_bytes <= size);
	if (r < 0)
		buf_add_c(out, "<!>");
	multipart_done(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf struct buf whole = BUF_MAX(1 << 20), pieces = BUF_MAX(1 << 20);

	if (size < 1 || size > 50000)
		return 0;
	read_all(str_n(data + 1, size - 1), size, &whole);
	read_all(str_n(data + 1, size - 1), (size_t)1 + data[0], &pieces);
	CHECK(str_eq(buf_str(&whole), buf_str(&pieces)));
	return 0;
}
