/* An image's meta file, which a builder wrote: what is accepted is named, and its ids fit. */
#include "../fuzz.h"
#include "base/fd.h"

static struct str content;
static int play_read(int dir, const char *path, struct buf *out)
{
	return buf_add_str(out, content);
}
#define file_read play_read
#include "runtime/image.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image im = { .rootfs = 0 };

	content = str_n(data, size);
	if (meta_read(-1, &im) < 0)
		return 0;
	CHECK(size <= META_MAX && name_ok(str_c(im.name)) && im.digest[0] && im.rootfs < 0);
	CHECK(memchr(im.digest, '\0', sizeof(im.digest)) && memchr(im.created, '\0', sizeof(im.created)));
	CHECK(!strchr(im.name, '/') && (uint64_t)im.uid_base + IDS_PER_SANDBOX <= UINT32_MAX);
	return 0;
}
