/* Bodies on their way: see the header. */
#include "edge/ingress/span.h"

int span_take(struct body *b, struct str *in, bool decode, struct str *ret, struct err *err)
{
	char *start = (char *)in->p;
	size_t content = 0, before = in->n;
	struct str data;
	int r;

	while ((r = body_next(b, in, &data, err)) == 1) {
		if (decode && data.p != start + content)
			memmove(start + content, data.p, data.n);
		content += data.n;
	}
	*ret = str_n(start, decode ? content : before - in->n);
	return r == -EBADMSG ? r : 0;
}
