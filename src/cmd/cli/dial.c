/*
 * A connection to the daemon that stops being HTTP: libcurl connects (proxies, names, TLS), the
 * request and the head of the answer are ours, and what follows 101 belongs to the caller.
 */
#include <poll.h>
#include <sys/socket.h>
#include "cmd/cli/cli.h"

#define CONNECT_S  10L
#define ANSWER_MS  60000 /* the daemon may resume a sandbox first */
#define HEAD_MAX_N 16384u
#define BODY_MAX_N (1u << 20)
#define PIECE	   16384
#define REQUEST_MAX 65536u

void dial_done(struct dial *d)
{
	curl_easy_cleanup(d->curl);
	d->curl = NULL;
	buf_done(&d->ahead);
}

static int failed(CURLcode code)
{
	return code == CURLE_AGAIN ? -EAGAIN : -ECONNRESET;
}

ssize_t dial_read(struct dial *d, char *p, size_t n)
{
	size_t got = MIN(n, d->ahead.n);
	CURLcode code;

	if (got) {
		memcpy(p, d->ahead.p, got);
		buf_consume(&d->ahead, got);
		return (ssize_t)got;
	}
	code = curl_easy_recv(d->curl, p, n, &got);
	return code == CURLE_OK ? (ssize_t)got : failed(code);
}

ssize_t dial_write(struct dial *d, const char *p, size_t n)
{
	size_t sent = 0;
	CURLcode code = curl_easy_send(d->curl, p, n, &sent);

	return code == CURLE_OK ? (ssize_t)sent : failed(code);
}

int dial_shut(struct dial *d)
{
	return shutdown(d->fd, SHUT_WR) < 0 ? -errno : 0;
}

/* --- the request --- */

/* The host as the URL has it, and what stands before our paths. */
static int read_url(const char *url, struct buf *host, struct buf *prefix)
{
	CURLU *u = curl_url();
	char *name = NULL, *port = NULL, *path = NULL;
	int r = -EINVAL;

	if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_HOST, &name, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_PATH, &path, 0) == CURLUE_OK) {
		buf_add_c(host, name);
		if (curl_url_get(u, CURLUPART_PORT, &port, 0) == CURLUE_OK)
			buf_fmt(host, ":%s", port);
		buf_add_c(prefix, strcmp(path, "/") == 0 ? "" : path);
		r = buf_cstr(host) && buf_cstr(prefix) ? 0 : -ENOMEM;
	}
	curl_free(name);
	curl_free(port);
	curl_free(path);
	curl_url_cleanup(u);
	return r;
}

static int write_request(struct cli *c, const char *path, const char *protocol, struct buf *out)
{
	auto_buf struct buf host = BUF_MAX(1024), prefix = BUF_MAX(1024);
	int r = read_url(c->conf.url, &host, &prefix);

	if (r < 0)
		return r;
	buf_fmt(out, "POST %s%s HTTP/1.1\r\nHost: %s\r\n", prefix.p, path, host.p);
	buf_fmt(out, "Connection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 0\r\n", protocol);
	buf_add_c(out, "Accept: application/json\r\nUser-Agent: weir/" WEIR_VERSION "\r\n");
	if (!secret_empty(&c->conf.key)) {
		buf_add_c(out, CLI_KEY_HEADER);
		buf_add_str(out, secret_reveal(&c->conf.key));
		buf_add_c(out, "\r\n");
	}
	buf_add_c(out, "\r\n");
	return buf_failed(out);
}

static CURLcode connect_to(struct cli *c, struct dial *d)
{
	CURLcode code;

	d->curl = curl_easy_init();
	if (!d->curl)
		return CURLE_OUT_OF_MEMORY;
	curl_easy_setopt(d->curl, CURLOPT_URL, c->conf.url);
	curl_easy_setopt(d->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(d->curl, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
	curl_easy_setopt(d->curl, CURLOPT_HTTPPROXYTUNNEL, 1L);
	curl_easy_setopt(d->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(d->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
	curl_easy_setopt(d->curl, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(d->curl, CURLOPT_CONNECT_ONLY, 1L);
	code = curl_easy_perform(d->curl);
	if (code == CURLE_OK) {
		curl_socket_t fd = CURL_SOCKET_BAD;

		code = curl_easy_getinfo(d->curl, CURLINFO_ACTIVESOCKET, &fd);
		d->fd = fd;
	}
	return code;
}

/* --- the answer --- */

static int await(struct dial *d, short events)
{
	struct pollfd p = { .fd = d->fd, .events = events };
	int r = poll(&p, 1, ANSWER_MS);

	return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

static int send_all(struct dial *d, struct str text)
{
	while (text.n) {
		ssize_t n = dial_write(d, text.p, text.n);
		int r = n == -EAGAIN ? await(d, POLLOUT) : n < 0 ? (int)n : 0;

		if (r < 0)
			return r;
		text = str_skip(text, n > 0 ? (size_t)n : 0);
	}
	return 0;
}

/* Read more behind what is there. 1; 0 at the end; or a negative errno. */
static int read_more(struct dial *d, struct buf *to)
{
	for (;;) {
		size_t got;
		CURLcode code;
		int r = buf_room(to, PIECE);

		if (r < 0)
			return r;
		code = curl_easy_recv(d->curl, to->p + to->n, PIECE, &got);
		if (code == CURLE_OK) {
			to->n += got;
			return got > 0;
		}
		r = code == CURLE_AGAIN ? await(d, POLLIN) : failed(code);
		if (r < 0)
			return r;
	}
}

/* The head's length, once it is whole. */
static int read_head(struct dial *d, struct buf *got, size_t *ret)
{
	for (;;) {
		const char *end = got->n ? memmem(got->p, got->n, "\r\n\r\n", 4) : NULL;
		int r;

		if (end) {
			*ret = (size_t)(end - got->p) + 4;
			return *ret > HEAD_MAX_N ? -EFBIG : 0;
		}
		r = got->n > HEAD_MAX_N ? -EFBIG : read_more(d, got);
		if (r <= 0)
			return r < 0 ? r : -ECONNRESET;
	}
}

/* "HTTP/1.1 101 …", then lines of which two matter. */
static int parse_head(struct str head, struct api_answer *a, uint64_t *ret_length)
{
	struct str line = str_cut(&head, '\n'), code;
	uint64_t status;

	if (!str_starts(line, STR("HTTP/1.1 ")))
		return -EBADMSG;
	line = str_skip(line, strlen("HTTP/1.1 "));
	code = str_n(line.p, MIN(line.n, (size_t)3));
	if (code.n != 3 || str_u64(code, 999, &status) < 0)
		return -EBADMSG;
	a->status = (long)status;
	while (head.p) {
		struct str value = str_cut(&head, '\n'), whole = value, name = str_cut(&value, ':');

		api_read_header(a, whole);
		while (value.n && value.p[value.n - 1] == '\r')
			value.n--;
		if (value.p && str_caseeq(name, STR("content-length")) &&
			str_u64(str_trim(value), BODY_MAX_N, ret_length) < 0)
			return -EBADMSG;
	}
	return 0;
}

static int converse(struct dial *d, struct str request, struct api_answer *a)
{
	auto_buf struct buf got = BUF_MAX(HEAD_MAX_N + BODY_MAX_N + PIECE);
	uint64_t length = BODY_MAX_N; /* without one the body ends with the connection */
	size_t head;
	int r = send_all(d, request);

	if (r == 0)
		r = read_head(d, &got, &head);
	if (r == 0)
		r = parse_head(str_n(got.p, head), a, &length);
	if (r < 0)
		return r;
	buf_consume(&got, head);
	if (a->status == 101) {
		d->ahead = got;
		got = BUF_MAX(0);
		return 0;
	}
	while (r == 0 && got.n < length) {
		r = read_more(d, &got);
		if (r == 0)
			break;
		r = r < 0 ? r : 0;
	}
	if (r == 0)
		buf_add_str(&a->text, str_n(got.p, MIN(got.n, (size_t)length)));
	return r;
}

int dial_open(struct cli *c, const char *path, const char *protocol, struct dial *ret)
{
	struct api_req q = { .method = "POST", .path = path };
	auto_answer struct api_answer a = { .text = BUF_MAX(BODY_MAX_N) };
	auto_secret struct secret request = SECRET_NONE; /* the key is in it */
	auto_dial struct dial d = { .fd = -EBADF };
	int r = secret_room(&request, REQUEST_MAX);

	if (r == 0)
		r = write_request(c, path, protocol, secret_writer(&request));
	a.curl = r == -EINVAL ? CURLE_URL_MALFORMAT : r < 0 ? CURLE_OUT_OF_MEMORY : connect_to(c, &d);
	if (a.curl == CURLE_OK) {
		r = converse(&d, secret_reveal(&request), &a);
		if (r == -ETIMEDOUT)
			a.curl = CURLE_OPERATION_TIMEDOUT;
		else if (r < 0 && r != -EBADMSG && r != -EFBIG)
			a.curl = CURLE_RECV_ERROR;
	}
	if (a.curl == CURLE_OK && r == 0 && a.status == 101) {
		*ret = d;
		d = (struct dial){ .fd = -EBADF };
		return CLI_OK;
	}
	if (a.curl == CURLE_OK)
		api_read_envelope(&a);
	return hint_failure(c, &q, &a);
}
