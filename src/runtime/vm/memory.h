/*
 * Memory files: what a machine's memory is, a memfd that the host role makes.
 *
 *	own	this machine's alone, mapped shared: the file is the memory
 *	clone	a template's, sealed, mapped privately: what a machine writes is that machine's alone
 *
 * Seals hold for every process and cannot be taken off, so many machines may begin from one file, and
 * none of their QEMUs can alter it. A file is written and read page by page: pages of zeros are left
 * out, and the digest is of the others with their places, so that it does not depend on where a file
 * system has its holes.
 *
 * memory_write() and memory_read() run in a hand (hand.h); they allocate nothing.
 */
#pragma once
#include <openssl/evp.h>
#include <sys/types.h>
#include "base/err.h"

#define MEMORY_CHUNK (256u << 10) /* what is read at once */

int memory_new(uint32_t mib, struct err *err);
/* That of a running QEMU, read-only; of this size, or it is refused. */
int memory_of(pid_t pid, uint32_t mib, struct err *err);
/* For good. -EBUSY: it is mapped shared, or being written. */
int memory_seal(int fd);
bool memory_sealed(int fd);
/* All pages of `from` that hold anything, at the same places behind `at` of `to`, which becomes that
 * long; and the other way round, where a negative `to` is only read for its digest. chunk: MEMORY_CHUNK
 * bytes to work with. */
int memory_write(int from, int to, off_t at, EVP_MD_CTX *md, char *chunk, struct err *err);
int memory_read(int from, off_t at, uint64_t bytes, int to, EVP_MD_CTX *md, char *chunk,
	struct err *err);
