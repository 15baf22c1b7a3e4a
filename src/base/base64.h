/* Base64 of RFC 4648, section 4: the alphabet with "+" and "/", padded, nothing else in between. */
#pragma once
#include "base/buf.h"

/* -EINVAL: it is none; or why out takes no more. */
int base64_decode(struct str in, struct buf *out);
