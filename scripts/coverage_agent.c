/*
 * Added to the agent by scripts/coverage.py, in its build alone: in a virtual machine, counts go where
 * the host can find them.
 *
 * The program that is /init takes one large page, aligned as large pages are, so that one read at a
 * multiple of 2 MiB finds its first bytes in the memory of QEMU (scripts/coverage_agents.py), and has
 * itself counted in there. Its forks count in copies of their own, which nobody reads.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGE ((size_t)2 << 20)
#define ALIGN(x, to) (((x) + (to) - 1) & ~((uintptr_t)(to) - 1))

uint64_t *__llvm_profile_begin_counters(void);
uint64_t *__llvm_profile_end_counters(void);
extern intptr_t __llvm_profile_counter_bias;

struct page {
	char magic[16];
	uint64_t size;
	char counts[];
};

__attribute__((constructor, no_profile_instrument_function)) static void machine_counts(int argc, char **argv)
{
	size_t size = (size_t)((char *)__llvm_profile_end_counters() - (char *)__llvm_profile_begin_counters());
	struct page *page;
	char *at;

	if (getpid() != 1 || argc < 1 || strcmp(argv[0], "/init") != 0) /* as the agent's main() */
		return;
	setenv("LLVM_PROFILE_FILE", "/counts", 1); /* a name that asks for no mapping, after us */
	at = mmap(NULL, 2 * LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED || sizeof(*page) + size > LARGE)
		return;
	page = (struct page *)ALIGN((uintptr_t)at, LARGE);
	madvise(page, LARGE, MADV_HUGEPAGE);
	page->size = size;
	__llvm_profile_counter_bias = (intptr_t)page->counts - (intptr_t)__llvm_profile_begin_counters();
	memcpy(page->magic, "weir agent count", sizeof(page->magic)); /* last: who sees it sees all */
}
