/*
 * /files/download: whole, a range of bytes, or some lines. A range needs the file's size first, which
 * the beginning of a first look tells.
 */
#include "api/opensandbox/execd.h"

struct download {
	struct use use;
	struct req *q;
	struct agent_get *get;
	struct str path;
	bool ranged, by_lines, started;
	struct str range; /* the header */
	uint64_t from, length; /* of the range that is sent */
	uint64_t left;	       /* bytes announced and not sent */
	uint64_t line, first, last; /* counted from 1; last 0: to the end */
	bool newline;		    /* owed before the next line */
};

static void download_free(struct download *d)
{
	agent_get_free(d->get);
	box_unuse(&d->use);
	free(d);
}

static void download_gone(struct req *q)
{
	download_free(q->state);
}

static struct req *download_over(struct download *d)
{
	struct req *q = d->q;

	q->on_gone = NULL;
	download_free(d);
	return q;
}

static void download_fail(struct download *d, const struct err *err)
{
	bool started = d->started;
	struct req *q = download_over(d);

	if (started)
		req_abort(q);
	else
		execd_err(q, err, "FILE_NOT_FOUND");
}

static void download_bounce(struct use *u, const struct err *err)
{
	download_fail(container_of(u, struct download, use), err);
}

/* --- ranges --- */

/* "bytes=a-b", "a-", "-n": the first of several. -ENOENT: none that can be read, so the whole file;
 * -ERANGE: it has no byte of the file. */
static int range_from(struct str header, uint64_t size, uint64_t *from, uint64_t *length)
{
	struct str one = header, unit = str_cut(&one, '='), first, last;
	uint64_t a = 0, b = 0;

	if (!one.p || !str_caseeq(str_trim(unit), STR("bytes")))
		return -ENOENT;
	last = str_cut(&one, ',');
	first = str_trim(str_cut(&last, '-'));
	if (!last.p)
		return -ENOENT;
	last = str_trim(last);
	if ((first.n && str_u64(first, INT64_MAX, &a) < 0) ||
		(last.n && str_u64(last, INT64_MAX, &b) < 0) || (!first.n && !last.n))
		return -ENOENT;
	if (!first.n) {
		b = MIN(b, size);
		*from = size - b;
		*length = b;
		return b ? 0 : -ERANGE;
	}
	if (last.n && b < a)
		return -ENOENT;
	if (a >= size)
		return -ERANGE;
	*from = a;
	*length = (last.n ? MIN(b, size - 1) : size - 1) - a + 1;
	return 0;
}

/* --- what is sent --- */

static void on_drain(struct http *h, void *arg)
{
	agent_get_pause(((struct download *)arg)->get, false);
}

static void head(struct download *d, int status, const char *type, int64_t length)
{
	struct http *h = d->q->h;
	char text[300];
	size_t n = 0;
	struct str base = d->path;

	while (str_find(base, '/') >= 0)
		str_cut(&base, '/');
	n = (size_t)snprintf(text, sizeof(text), "attachment; filename=\"");
	for (size_t i = 0; i < base.n && n < sizeof(text) - 2; i++) {
		unsigned char c = (unsigned char)base.p[i];

		text[n++] = c < ' ' || c > '~' || c == '"' || c == '\\' ? '_' : (char)c;
	}
	text[n++] = '"';
	d->started = true;
	http_add_header(h, "Content-Disposition", str_n(text, n));
	http_add_header(h, "Accept-Ranges", STR("bytes"));
	http_on_drain(h, on_drain, d);
	http_start(h, status, type, length);
}

static int part_start(struct download *d, uint64_t from, uint64_t length, struct err *err);

/* The size is known: the range is what was asked for, or it is refused. */
static void range_found(struct download *d, uint64_t size)
{
	struct req *q = d->q;
	struct err err;
	char text[80];
	int r = range_from(d->range, size, &d->from, &d->length);

	if (r == -ENOENT) {
		d->ranged = false;
		d->left = size;
		head(d, 200, "application/octet-stream", (int64_t)size);
		return;
	}
	if (r < 0) {
		snprintf(text, sizeof(text), "bytes */%" PRIu64, size);
		http_add_header(q->h, "Content-Range", str_c(text));
		execd_fail(download_over(d), 416, "INVALID_FILE", "the file has %" PRIu64 " bytes", size);
		return;
	}
	agent_get_free(take_ptr(d->get));
	if (part_start(d, d->from, d->length, &err) < 0)
		download_fail(d, &err);
}

static void on_open(struct agent_get *g, uint64_t bytes, void *arg)
{
	struct download *d = arg;
	char text[80];

	if (d->ranged && !d->length) {
		range_found(d, bytes);
	} else if (d->ranged) {
		d->left = MIN(bytes, d->length);
		snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, d->from,
			d->from + d->left - 1, agent_get_size(g));
		http_add_header(d->q->h, "Content-Range", str_c(text));
		head(d, 206, "application/octet-stream", (int64_t)d->left);
	} else if (d->by_lines) {
		head(d, 200, "text/plain; charset=utf-8", -1);
	} else {
		d->left = bytes;
		head(d, 200, "application/octet-stream", (int64_t)bytes);
	}
}

/* The bytes of a piece that are in the lines asked for, each line end before the next line. */
static bool send_lines(struct download *d, struct str data)
{
	auto_buf struct buf out = BUF_MAX(2 * data.n + 16);

	while (data.n && (!d->last || d->line <= d->last)) {
		ssize_t end = str_find(data, '\n');
		struct str part = str_n(data.p, end < 0 ? data.n : (size_t)end);

		if (d->line >= d->first) {
			if (d->newline)
				buf_add_c(&out, "\n");
			d->newline = end >= 0;
			buf_add_str(&out, part);
		}
		if (end >= 0)
			d->line++;
		data = str_skip(data, part.n + (end >= 0));
	}
	return !out.n || http_write(d->q->h, buf_str(&out)) != 0;
}

static void on_data(struct agent_get *g, struct str data, void *arg)
{
	struct download *d = arg;

	if (d->by_lines) {
		if (!send_lines(d, data))
			agent_get_pause(g, true);
		return;
	}
	data.n = (size_t)MIN((uint64_t)data.n, d->left);
	d->left -= data.n;
	if (data.n && http_write(d->q->h, data) == 0)
		agent_get_pause(g, true);
}

static void on_end(struct agent_get *g, const struct err *err, void *arg)
{
	struct download *d = arg;
	struct err shorter;

	if (!err && (d->left || !d->started))
		err_set(&shorter, -EIO, ERR_UPSTREAM, "the file changed while it was read");
	if (err || d->left || !d->started)
		download_fail(d, err ? err : &shorter);
	else
		req_end(download_over(d));
}

static int part_start(struct download *d, uint64_t from, uint64_t length, struct err *err)
{
	static const struct agent_get_ops ops = { on_open, on_data, on_end };
	struct req *q = d->q;

	return agent_get_part(q->api->loop, &q->box->link, d->path, from, length, &ops, d, &d->get, err);
}

/* --- what was asked for --- */

static int number(struct req *q, const char *name, uint64_t min, uint64_t *ret, bool *seen)
{
	struct str text;
	struct err err;

	*seen = false;
	if (req_query(q, name, &text, &err) < 0 ||
		(text.n && (str_u64(text, INT32_MAX, ret) < 0 || *ret < min))) {
		execd_bad(q, "%s: expected a number, %" PRIu64 " or more", name, min);
		return -EINVAL;
	}
	*seen = text.n > 0;
	return 0;
}

void execd_download(struct req *q)
{
	struct str range = http_header(q->h, "range"), path;
	uint64_t offset = 1, limit = 0;
	bool has_offset, has_limit;
	struct download *d;
	struct err err;

	if (req_query(q, "path", &path, &err) < 0 || !path.n) {
		execd_fail(q, 400, "MISSING_QUERY", "missing query parameter: path");
		return;
	}
	if (execd_path(q, path, &path) < 0 || number(q, "offset", 1, &offset, &has_offset) < 0 ||
		number(q, "limit", 1, &limit, &has_limit) < 0)
		return;
	if (range.n && (has_offset || has_limit)) {
		execd_bad(q, "offset and limit count lines: not together with Range");
		return;
	}
	d = calloc(1, sizeof(*d));
	if (!d) {
		execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
		return;
	}
	d->q = q;
	d->path = path;
	d->range = range;
	d->ranged = range.n > 0;
	d->by_lines = has_offset || has_limit;
	d->line = 1;
	d->first = offset;
	d->last = has_limit ? offset + limit - 1 : 0;
	q->state = d;
	q->on_gone = download_gone;
	box_use(q->box, &d->use, download_bounce);
	if (part_start(d, 0, 0, &err) < 0)
		download_fail(d, &err);
}
