/*
 * multipart/form-data in pieces, as they come: which part begins, its bytes, its end. Nothing is
 * kept but a part's header lines and as much as may be the beginning of a boundary. Pure.
 */
#pragma once
#include "base/buf.h"

#define MULTIPART_BOUNDARY_MAX 200u
#define MULTIPART_HEAD_MAX     8192u

enum multipart_event {
	MULTIPART_MORE,	    /* all of the input is used */
	MULTIPART_PART,	    /* a part begins: name */
	MULTIPART_DATA,	    /* some bytes of it */
	MULTIPART_PART_END,
	MULTIPART_END,	    /* the last boundary; what follows it is not looked at */
};

struct multipart {
	char delim[MULTIPART_BOUNDARY_MAX + 8]; /* CR LF -- boundary */
	size_t n, matched;
	enum { MP_PREAMBLE, MP_BEHIND, MP_HEAD, MP_BODY, MP_DONE } state;
	struct buf head;
	char behind[2]; /* the two bytes behind a boundary */
	unsigned int n_behind;
	char name[64]; /* of the part; "" if it has none that fits */
};

/* From a Content-Type. -EINVAL: another type, or no boundary that may be one. */
int multipart_open(struct multipart *m, struct str content_type);
void multipart_done(struct multipart *m);
/* The next event, taking its bytes off *in. *data: of MULTIPART_DATA; lives as long as the input and m.
 * -EBADMSG: malformed; -EFBIG: header lines over MULTIPART_HEAD_MAX. */
int multipart_next(struct multipart *m, struct str *in, struct str *data);
