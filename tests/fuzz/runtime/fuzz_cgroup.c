/*
 * Texts of the kernel that root reads about control groups: /proc/self/mountinfo, where paths are
 * whatever somebody mounted, and the flat-keyed files. The table stays within its bounds, and every
 * use has a hierarchy that says it has it.
 */
#include "../fuzz.h"
#include "base/fd.h"

static struct str content; /* of every file */
static int play_read(int dir, const char *path, struct buf *out)
{
	return buf_add_str(out, content);
}
#define file_read play_read
#include "runtime/cgroup.c"

static void check_table(struct str text)
{
	struct cgroups cg = { .n = 0 };

	content = STR("cpuset cpu io memory pids\n");
	while (text.n)
		read_mount(&cg, str_cut(&text, '\n'));
	CHECK(cg.n <= HIERARCHIES_MAX);
	for (size_t i = 0; i < cg.n; i++) {
		CHECK(cg.h[i].uses && !(cg.h[i].uses >> USES) && cg.h[i].root < 0);
		CHECK(memchr(cg.h[i].mount, '\0', sizeof(cg.h[i].mount)));
	}
	assign(&cg);
	for (int use = 0; use < USES; use++)
		CHECK(!cg.by_use[use] || cg.by_use[use]->uses & 1u << use);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hierarchy h = { .root = -EBADF };
	uint64_t v;

	if (size > 16384)
		return 0;
	check_table(str_n(data, size));
	content = str_n(data, size);
	v2_uses("/sys/fs/cgroup");
	get_u64(&h, "x", "cpu.stat", "usage_usec", &v);
	get_u64(&h, "x", "memory.current", NULL, &v);
	return 0;
}
