/*
 * Multipart bodies: see the header. A boundary is searched for by how much of CR LF "--" boundary
 * has matched. CR stands in it only at its beginning, so what turns out not to be one is data up to
 * there, and the search begins anew with the byte at hand.
 */
#include "api/opensandbox/multipart.h"

/* A parameter of a header's value, quoted or not: "…; name=value". */
static int parameter(struct str value, const char *name, char *out, size_t size)
{
	str_cut(&value, ';');
	while (value.n) {
		struct str rest = str_trim(value), key;
		bool quoted;
		size_t n = 0, i = 0;

		key = str_trim(str_cut(&rest, '='));
		if (!rest.p)
			return -ENOENT;
		rest = str_trim(rest);
		quoted = rest.n && rest.p[0] == '"';
		for (i = quoted; i < rest.n && rest.p[i] != (quoted ? '"' : ';'); i++) {
			if (quoted && rest.p[i] == '\\' && i + 1 < rest.n)
				i++;
			if (n + 1 < size)
				out[n] = rest.p[i];
			n++;
		}
		if (quoted && i == rest.n)
			return -EINVAL;
		value = str_skip(rest, i);
		str_cut(&value, ';');
		if (!str_caseeq(key, str_c(name)))
			continue;
		while (!quoted && n && n < size && out[n - 1] == ' ')
			n--;
		if (n + 1 > size)
			return -ENAMETOOLONG;
		out[n] = '\0';
		return memchr(out, 0, n) ? -EINVAL : 0;
	}
	return -ENOENT;
}

int multipart_open(struct multipart *m, struct str content_type)
{
	char boundary[MULTIPART_BOUNDARY_MAX + 1];
	struct str rest = content_type;

	*m = (struct multipart){ .matched = 2, .head = BUF_MAX(MULTIPART_HEAD_MAX) };
	if (!str_caseeq(str_trim(str_cut(&rest, ';')), STR("multipart/form-data")) ||
		parameter(content_type, "boundary", boundary, sizeof(boundary)) < 0 ||
		!boundary[0])
		return -EINVAL;
	for (const char *p = boundary; *p; p++)
		if (*p < ' ' || *p > '~')
			return -EINVAL;
	m->n = (size_t)snprintf(m->delim, sizeof(m->delim), "\r\n--%s", boundary);
	return 0;
}

void multipart_done(struct multipart *m)
{
	buf_done(&m->head);
}

/* Bytes before the next boundary: 1, in *data, or 0: the input is used up, or it was a boundary. */
static int before(struct multipart *m, struct str *in, struct str *data)
{
	while (in->n) {
		size_t had = m->matched;

		if (in->p[0] == m->delim[m->matched]) {
			*in = str_skip(*in, 1);
			if (++m->matched == m->n)
				return 0;
			continue;
		}
		m->matched = 0;
		if (had) { /* it was none: what matched is data */
			*data = str_n(m->delim, had);
			return 1;
		}
		data->p = in->p;
		data->n = 0;
		while (data->n < in->n && in->p[data->n] != '\r')
			data->n++;
		*in = str_skip(*in, data->n);
		return 1;
	}
	return 0;
}

static void disposition(struct multipart *m, struct str line)
{
	struct str value = line, key = str_trim(str_cut(&value, ':'));

	if (value.p && str_caseeq(key, STR("content-disposition")) &&
		parameter(value, "name", m->name, sizeof(m->name)) < 0)
		m->name[0] = '\0';
}

/* Header lines up to an empty one. 1: they are whole. */
static int head(struct multipart *m, struct str *in)
{
	struct str text;

	while (in->n) {
		int r = buf_add(&m->head, in->p, 1);

		if (r < 0)
			return r;
		*in = str_skip(*in, 1);
		text = buf_str(&m->head);
		if (!str_eq_c(text, "\r\n") && !str_ends(text, STR("\r\n\r\n")))
			continue;
		m->name[0] = '\0';
		while (text.n) {
			struct str line = str_cut(&text, '\n');

			disposition(m, str_n(line.p, line.n - (line.n && line.p[line.n - 1] == '\r')));
		}
		buf_reset(&m->head);
		return 1;
	}
	return 0;
}

/* What follows a boundary: "--" is the end, CR LF another part. */
static int behind(struct multipart *m, struct str *in)
{
	while (in->n && m->n_behind < 2) {
		m->behind[m->n_behind++] = in->p[0];
		*in = str_skip(*in, 1);
	}
	if (m->n_behind < 2)
		return MULTIPART_MORE;
	m->n_behind = 0;
	if (memcmp(m->behind, "--", 2) == 0) {
		m->state = MP_DONE;
		return MULTIPART_END;
	}
	if (memcmp(m->behind, "\r\n", 2) != 0)
		return -EBADMSG;
	m->state = MP_HEAD;
	return MULTIPART_MORE;
}

int multipart_next(struct multipart *m, struct str *in, struct str *data)
{
	int r;

	for (;;) {
		switch (m->state) {
		case MP_PREAMBLE:
		case MP_BODY:
			r = before(m, in, data);
			if (r && m->state == MP_BODY)
				return MULTIPART_DATA;
			if (r)
				continue;
			if (m->matched < m->n)
				return MULTIPART_MORE;
			m->matched = 0;
			r = m->state == MP_BODY;
			m->state = MP_BEHIND;
			if (r)
				return MULTIPART_PART_END;
			continue;
		case MP_BEHIND:
			r = behind(m, in);
			if (r || m->state == MP_BEHIND)
				return r;
			continue;
		case MP_HEAD:
			r = head(m, in);
			if (r <= 0)
				return r;
			m->state = MP_BODY;
			m->matched = 0;
			return MULTIPART_PART;
		case MP_DONE:
			*in = STR_NONE;
			return MULTIPART_MORE;
		}
	}
}
