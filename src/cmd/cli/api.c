/*
 * The conversation with the daemon, over libcurl.
 *
 * One transfer at a time. What comes back is gathered (bounded), or, when it is a success and
 * the request says so, cut into lines or written to a descriptor as it arrives; a refusal is
 * always gathered, because its envelope says why.
 */
#include "base/fd.h"
#include "cmd/cli/cli.h"

#define ANSWER_MAX (256u << 20) /* buffered data; a list of every sandbox is far below */
#define LINE_MAX_N (8u << 20)	/* the daemon keeps its lines below 1 MiB */
#define CONNECT_S  10L

struct transfer {
	struct cli *c;
	const struct api_req *q;
	struct api_answer *a;
	struct buf line;
	int stopped; /* the line handler's word, or a failed write: -errno */
	bool tty;
	uint64_t shown; /* last bar, in monotonic ms */
};

void api_answer_done(struct api_answer *a)
{
	buf_done(&a->text);
	json_decref(a->data);
	a->data = NULL;
}

void api_escape(struct buf *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || strchr("-._~", c))
			buf_u8(out, c);
		else
			buf_fmt(out, "%%%02X", c);
	}
}

/* --- what arrives --- */

static bool is_success(struct transfer *t)
{
	curl_easy_getinfo(t->c->curl, CURLINFO_RESPONSE_CODE, &t->a->status);
	return t->a->status >= 200 && t->a->status < 300;
}

static int give_lines(struct transfer *t, struct str data)
{
	while (data.n) {
		ssize_t end = str_find(data, '\n');
		struct str part = str_n(data.p, end < 0 ? data.n : (size_t)end);

		if (buf_add_str(&t->line, part) < 0)
			return buf_failed(&t->line);
		if (end < 0)
			return 0;
		data = str_skip(data, (size_t)end + 1);
		if (t->line.n) {
			int r = t->q->on_line(buf_str(&t->line), t->q->arg);

			if (r)
				return r;
		}
		buf_reset(&t->line);
	}
	return 0;
}

static size_t on_data(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	int r;

	n *= size;
	if (is_success(t) && t->q->on_line)
		r = give_lines(t, str_n(p, n));
	else if (is_success(t) && t->q->download)
		r = fd_write_all(t->q->out_fd, p, n);
	else
		r = buf_add(&t->a->text, p, n);
	t->stopped = r;
	return r ? 0 : n;
}

void api_read_header(struct api_answer *a, struct str line)
{
	struct str value = line, name = str_cut(&value, ':');

	while (value.n && (value.p[value.n - 1] == '\n' || value.p[value.n - 1] == '\r'))
		value.n--;
	if (value.p && str_caseeq(name, STR("x-request-id"))) {
		auto_buf struct buf clean = BUF_MAX(4096);

		print_clean(&clean, str_trim(value));
		str_copy(a->request_id, sizeof(a->request_id), buf_str(&clean));
	}
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;

	api_read_header(t->a, str_n(p, n * size));
	return n * size;
}

static size_t on_wanted(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	ssize_t r;

	do
		r = read(t->q->in_fd, p, size * n);
	while (r < 0 && errno == EINTR && !(t->q->heed_signals && cli_interrupted));
	if (r < 0)
		t->stopped = -errno;
	return r < 0 ? CURL_READFUNC_ABORT : (size_t)r;
}

/* --- the bar --- */

static void show_bar(struct transfer *t, curl_off_t total, curl_off_t now, bool last)
{
	char bar[31];
	struct age have = bytes_text((uint64_t)now), all = bytes_text((uint64_t)total);

	if (total > 0) {
		size_t full = (size_t)((double)now / (double)total * (sizeof(bar) - 1));

		memset(bar, '.', sizeof(bar) - 1);
		memset(bar, '#', MIN(full, sizeof(bar) - 1));
		bar[sizeof(bar) - 1] = '\0';
		fprintf(stderr, "\r\033[K%s [%s] %s of %s%s", t->q->progress, bar, have.s, all.s,
			last ? "\n" : "");
	} else {
		fprintf(stderr, "\r\033[K%s %s%s", t->q->progress, have.s, last ? "\n" : "");
	}
}

static int on_progress(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all,
	curl_off_t up)
{
	struct transfer *t = arg;
	struct timespec ts;
	uint64_t now;

	if (t->q->heed_signals && cli_interrupted)
		return 1;
	if (!t->tty)
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	if (now - t->shown < 100)
		return 0;
	t->shown = now;
	show_bar(t, t->q->upload ? up_all : down_all, t->q->upload ? up : down, false);
	return 0;
}

/* --- envelopes --- */

/* {"status":"fail","data":{…}} or {"status":"error","message":…}: the daemon's own words. */
static void read_refusal(struct api_answer *a, const json_t *envelope)
{
	const json_t *data = json_object_get(envelope, "data");
	struct buf words = BUF_MAX(sizeof(a->message) - 1);
	const char *key, *text;
	json_t *value;

	if (jtext(envelope, "message")[0]) {
		print_clean(&words, str_c(jtext(envelope, "message")));
	} else if (json_is_string(data)) {
		print_clean(&words, str_c(json_string_value(data)));
	} else {
		json_object_foreach((json_t *)data, key, value) {
			text = json_string_value(value);
			if (!text)
				continue;
			if (json_object_size(data) == 1)
				str_copy(a->field, sizeof(a->field), str_c(key));
			buf_add_c(&words, words.n ? ", " : "");
			/* "name: …" helps; "id: sandbox not found" does not. */
			if (strcmp(key, "id") != 0 && strcmp(key, "auth") != 0 && strcmp(key, "status") != 0) {
				print_clean(&words, str_c(key));
				buf_add_c(&words, ": ");
			}
			print_clean(&words, str_c(text));
		}
	}
	str_copy(a->message, sizeof(a->message), buf_str(&words));
	buf_done(&words);
}

void api_read_envelope(struct api_answer *a)
{
	auto_json json_t *envelope =
		json_loadb(a->text.p ? a->text.p : "", a->text.n, JSON_ALLOW_NUL, NULL);

	if (a->status >= 200 && a->status < 300 && strcmp(jtext(envelope, "status"), "success") == 0)
		a->data = json_incref(json_object_get(envelope, "data"));
	else
		read_refusal(a, envelope);
}

/* --- one transfer --- */

static struct curl_slist *headers(struct transfer *t, struct curl_slist *list)
{
	const struct secret *key = &t->c->conf.key;
	auto_secret struct secret line = SECRET_NONE;

	list = curl_slist_append(list, "Accept: application/json");
	if (t->q->body.p)
		list = curl_slist_append(list, "Content-Type: application/json");
	if (t->q->upload)
		list = curl_slist_append(list, "Content-Type: application/octet-stream");
	if (t->q->upload && t->q->in_size < 0)
		list = curl_slist_append(list, "Transfer-Encoding: chunked");
	if (!t->q->body.p && !t->q->upload)
		list = curl_slist_append(list, "Content-Type:");
	if (!t->q->upload)
		list = curl_slist_append(list, "Expect:");
	if (!secret_empty(key) && secret_room(&line, strlen(CLI_KEY_HEADER) + secret_reveal(key).n) == 0) {
		buf_add_c(secret_writer(&line), CLI_KEY_HEADER);
		buf_add_str(secret_writer(&line), secret_reveal(key));
		list = curl_slist_append(list, secret_reveal(&line).p);
	}
	return list;
}

static int prepare(struct transfer *t, const char *url, struct curl_slist *list)
{
	CURL *h = t->c->curl;
	const struct api_req *q = t->q;

	curl_easy_reset(h);
	curl_easy_setopt(h, CURLOPT_URL, url);
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
	curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
	curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(h, CURLOPT_USERAGENT, "weir/" WEIR_VERSION);
	curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, q->method);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, list);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(h, CURLOPT_XFERINFODATA, t);
	curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
	if (q->upload) {
		curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(h, CURLOPT_READFUNCTION, on_wanted);
		curl_easy_setopt(h, CURLOPT_READDATA, t);
		curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->in_size);
	} else if (q->body.p || strcmp(q->method, "GET") != 0) {
		curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body.n);
		curl_easy_setopt(h, CURLOPT_POSTFIELDS, q->body.p ? q->body.p : "");
	}
	return 0;
}

int api_perform(struct cli *c, const struct api_req *q, struct api_answer *a)
{
	struct transfer t = { .c = c, .q = q, .a = a, .line = BUF_MAX(LINE_MAX_N),
		.tty = q->progress && isatty(STDERR_FILENO) };
	auto_buf struct buf url = BUF_MAX(65536);
	struct curl_slist *list = NULL;

	*a = (struct api_answer){ .text = BUF_MAX(ANSWER_MAX) };
	if (!c->curl)
		c->curl = curl_easy_init();
	buf_add_c(&url, c->conf.url);
	buf_add_c(&url, q->path);
	if (!c->curl || !buf_cstr(&url)) {
		a->curl = CURLE_OUT_OF_MEMORY;
		return -ENOMEM;
	}
	list = headers(&t, list);
	prepare(&t, buf_cstr(&url), list);
	a->curl = curl_easy_perform(c->curl);
	if (t.tty && t.shown) {
		curl_off_t n = 0;

		curl_easy_getinfo(c->curl,
			q->upload ? CURLINFO_SIZE_UPLOAD_T : CURLINFO_SIZE_DOWNLOAD_T, &n);
		show_bar(&t, n, n, true);
	}
	/* A line handler that has seen enough ends the transfer, and that is well. */
	if (a->curl == CURLE_WRITE_ERROR && t.stopped > 0)
		a->curl = CURLE_OK;
	if (a->curl == CURLE_OK && !(is_success(&t) && (q->on_line || q->download)))
		api_read_envelope(a);
	else if (t.stopped < 0)
		snprintf(a->message, sizeof(a->message), "%s", strerror(-t.stopped));
	curl_slist_free_all(list);
	buf_done(&t.line);
	return a->curl == CURLE_OK ? 0 : -EIO;
}

int api_call(struct cli *c, const struct api_req *q, struct api_answer *a)
{
	if (api_perform(c, q, a) == 0 && a->status >= 200 && a->status < 300 &&
		(a->data || q->on_line || q->download))
		return CLI_OK;
	return hint_failure(c, q, a);
}

int api_json(struct cli *c, const char *method, const char *path, struct str body, json_t **ret)
{
	struct api_req q = { .method = method, .path = path, .body = body };
	auto_answer struct api_answer a = { 0 };
	int r = api_call(c, &q, &a);

	if (r == CLI_OK)
		*ret = take_ptr(a.data);
	return r;
}

int api_delete(struct cli *c, const char *path, const char *name, const char *what)
{
	auto_buf struct buf whole = BUF_MAX(4096);
	auto_json json_t *data = NULL;
	int r;

	buf_add_c(&whole, path);
	api_escape(&whole, name);
	if (!buf_cstr(&whole)) {
		cli_say("\"%.60s...\" is no %s", name, what);
		return CLI_USAGE;
	}
	r = api_json(c, "DELETE", whole.p, STR_NONE, &data);
	return r || !c->opt.json ? r : print_json(c, data);
}

int api_each(struct cli *c, const char *path, int (*each)(json_t *item, void *arg), void *arg)
{
	size_t offset = 0, total = 1;

	while (offset < total) {
		auto_buf struct buf at = BUF_MAX(4096);
		auto_json json_t *page = NULL;
		const json_t *items;
		json_t *item;
		size_t i;
		int r;

		buf_fmt(&at, "%s%climit=500&offset=%zu", path, strchr(path, '?') ? '&' : '?', offset);
		r = api_json(c, "GET", buf_cstr(&at), STR_NONE, &page);
		if (r)
			return r;
		items = json_object_get(page, "data");
		json_array_foreach(items, i, item) {
			if (each(item, arg))
				return CLI_OK;
		}
		if (!json_array_size(items))
			break;
		offset += json_array_size(items);
		total = (size_t)jint(json_object_get(page, "pagination"), "total");
	}
	return CLI_OK;
}
