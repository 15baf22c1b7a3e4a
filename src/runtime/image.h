/*
 * The image store, reading side. weir-build writes it:
 *
 *	<dir>/images/<sha256 hex>/rootfs/	the tree, owned by [uid_base, +65535]
 *	<dir>/images/<sha256 hex>/meta		written last: no meta, no image
 *	<dir>/names/<name>			-> ../images/<sha256 hex>
 *
 * `meta` holds lines key=value: name, digest, bytes, uid_base, created. Names come from clients;
 * only [a-z0-9._:-] not starting with a dot or dash is looked at. "a/b" is not a name here.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "wire/ipc.h"

struct image {
	char name[IPC_NAME_LEN];
	char digest[72];  /* "sha256:…" */
	char created[40]; /* RFC 3339 */
	uint64_t bytes;
	uint32_t uid_base; /* on-disk id of the image's root */
	int rootfs;	   /* O_PATH descriptor of rootfs/; -EBADF from image_list() */
};

void image_done(struct image *im);
#define auto_image _cleanup_(image_done)
/* ERR_NOT_FOUND when there is no complete image of that name. */
int image_resolve(const char *dir, const char *name, struct image *ret, struct err *err);
/* At most max images, in no order. Returns how many there are in ret. */
int image_list(const char *dir, struct image *ret, size_t max, struct err *err);
