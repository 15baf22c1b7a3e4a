/* Bodies on their way: see the header. */
#include "edge/ingress/span.h"
#include "event/headpass.h"

void span_begin(struct span *s, struct body body, bool decode, bool bare)
{
	span_done(s);
	s->body = body;
	s->decode = decode;
	s->bare = bare;
	s->trailers = BUF_MAX(2 * BODY_EXTRA_MAX + 2); /* each line may be as short as its own end */
	s->body.trailers = &s->trailers;
}

void span_done(struct span *s)
{
	buf_done(&s->trailers);
}

/* The last chunk has been passed on, or is with this piece. The usual end, an empty line that came with
 * it, goes on in its place. */
static int take_trailers(struct span *s, size_t came, struct str *ret, struct str *ret_tail,
	struct err *err)
{
	struct buf *t = &s->trailers;

	if (!s->body.done || s->decode)
		return 0;
	if (!t->n && came == s->body.behind) {
		ret->n += came;
		return 0;
	}
	t->n = s->bare || !t->n ? 0 : pass_trailers(t->p, t->n);
	if (buf_add_c(t, "\r\n") < 0)
		return err_set(err, -EBADMSG, ERR_CAPACITY, "out of memory");
	*ret_tail = buf_str(t);
	return 0;
}

int span_take(struct span *s, struct str *in, struct str *ret, struct str *ret_tail, struct err *err)
{
	size_t content = 0, before = in->n, behind = s->body.behind;
	char *start = (char *)in->p;
	struct str data;
	int r;

	while ((r = body_next(&s->body, in, &data, err)) == 1) {
		if (s->decode && data.p != start + content)
			memmove(start + content, data.p, data.n);
		content += data.n;
	}
	behind = s->body.behind - behind;
	*ret = str_n(start, s->decode ? content : before - in->n - behind);
	*ret_tail = STR_NONE;
	return r == -EBADMSG ? r : take_trailers(s, behind, ret, ret_tail, err);
}
