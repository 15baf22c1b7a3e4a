/* Copying the memory of a machine that runs: see the header. */
#include <sys/mman.h>
#include <unistd.h>
#include "base/fd.h"
#include "runtime/vm/live.h"
#include "runtime/vm/memory.h"

#define PAGE	 4096u
#define PRESENT	 (UINT64_C(1) << 63)
#define SWAPPED	 (UINT64_C(1) << 62)
#define OF_FILE	 (UINT64_C(1) << 61) /* or shared: not QEMU's own */

/* "start-end perms offset device inode  path" */
static bool is_memory(char *line, uint64_t bytes, uint64_t *ret_at)
{
	char *rest;
	uint64_t start = strtoull(line, &rest, 16), end = *rest == '-' ? strtoull(rest + 1, &rest, 16) : 0;

	*ret_at = start;
	return end - start == bytes && strlen(rest) > 6 && strtoull(rest + 6, NULL, 16) == 0 &&
	       strstr(rest, "/memfd:weir-memory");
}

static int find_memory(int maps, uint64_t bytes, char *chunk, uint64_t *ret_at, struct err *err)
{
	size_t n = 0;
	ssize_t k = 1;

	while (k > 0 && n < MEMORY_CHUNK - 1) {
		k = read(maps, chunk + n, MEMORY_CHUNK - 1 - n);
		n += k > 0 ? (size_t)k : 0;
	}
	chunk[n] = '\0';
	for (char *line = chunk, *end; (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		if (is_memory(line, bytes, ret_at))
			return 0;
	}
	return err_set(err, -EBADMSG, ERR_INTERNAL, "QEMU has not mapped the memory it was given");
}

int live_open(struct live *l, int maps, char *chunk, struct err *err)
{
	l->from = mmap(NULL, l->bytes, PROT_READ, MAP_SHARED, l->file, 0);
	l->to = mmap(NULL, l->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, l->copy, 0);
	if (l->from == MAP_FAILED || l->to == MAP_FAILED)
		return err_sys(err, -errno, "map a machine's memory");
	return l->mem < 0 ? 0 : find_memory(maps, l->bytes, chunk, &l->at, err);
}

static void take_page(const struct live *l, bool first, uint64_t at)
{
	const char *from = l->from + at;

	if (first ? *from || memcmp(from, from + 1, PAGE - 1) != 0 : memcmp(from, l->to + at, PAGE) != 0)
		memcpy(l->to + at, from, PAGE);
}

static int pass_file(const struct live *l, bool first)
{
	off_t data = 0, hole;

	while ((data = lseek(l->file, data, SEEK_DATA)) >= 0 && (uint64_t)data < l->bytes) {
		hole = lseek(l->file, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		for (; data < hole && (uint64_t)data < l->bytes; data += PAGE)
			take_page(l, first, (uint64_t)data);
	}
	return data >= 0 || errno == ENXIO ? 0 : -errno;
}

static int take_own(const struct live *l, uint64_t at, uint64_t n)
{
	while (n) {
		ssize_t k = pread(l->mem, l->to + at, n, (off_t)(l->at + at));

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -ENODATA;
		at += (uint64_t)k;
		n -= (uint64_t)k;
	}
	return 0;
}

static bool is_own(uint64_t entry)
{
	return (entry & (PRESENT | SWAPPED)) && !(entry & OF_FILE);
}

/* Neighbours together. */
static int pass_own(const struct live *l, uint64_t *entries)
{
	const uint64_t pages = l->bytes / PAGE, most = MEMORY_CHUNK / sizeof(*entries);
	int r = 0;

	for (uint64_t page = 0, n; r == 0 && page < pages; page += n) {
		ssize_t k = pread(l->pagemap, entries, MIN(most, pages - page) * sizeof(*entries),
			(off_t)((l->at / PAGE + page) * sizeof(*entries)));

		if (k <= 0)
			return k < 0 ? -errno : -ENODATA;
		n = (uint64_t)k / sizeof(*entries);
		for (uint64_t i = 0, j; r == 0 && i < n; i = j + 1) {
			for (j = i; j < n && is_own(entries[j]); j++)
				;
			if (j > i)
				r = take_own(l, (page + i) * PAGE, (j - i) * PAGE);
		}
	}
	return r;
}

int live_pass(const struct live *l, bool first, char *chunk, struct err *err)
{
	int r = l->mem < 0 || first ? pass_file(l, first) : 0;

	if (r == 0 && l->mem >= 0)
		r = pass_own(l, (uint64_t *)(void *)chunk);
	return r < 0 ? err_sys(err, r, "copy a machine's memory") : 0;
}
