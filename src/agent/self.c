/*
 * A sandbox asks for its own pause or end.
 *
 * Two doors, open to every process inside: POST /self/pause and /self/delete with an optional
 * ?reason= at http://127.0.0.1:1029, and the words "park" and "retire" written to the FIFO
 * /run/self. What comes in goes to the watcher, the one connection that the api role keeps
 * (WATCH), as a SIGNAL frame, SIGNAL_DELAY_MS later: the answer 202 must have reached the caller,
 * and a worker that ends right after its call should have ended, before the sandbox stops.
 *
 * Without a watcher the answer is 503. A signal that was promised waits up to SIGNAL_KEEP_MS for
 * a watcher that went away meanwhile.
 *
 * The HTTP here is one request line: everything after it is read to the blank line and not
 * looked at, no body is read, and the connection closes after one answer.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "agent/agent.h"

struct pending {
	struct timer timer;
	struct pending *next;
	enum frame_signal kind;
	unsigned int waited_ms;
	char reason[FRAME_REASON_MAX + 1];
};

struct request {
	struct watch watch;
	struct timer timer;
	size_t n;
	bool answered;
	char head[SELF_HEAD_MAX];
};

static struct watch listener = { .fd = -EBADF }, fifo = { .fd = -EBADF };
static struct conn *watcher;
static unsigned int n_requests, n_pending;

/* --- signals --- */

static void on_due(struct timer *t)
{
	struct pending *p = container_of(t, struct pending, timer);
	union frame_body m = { .signal = { .kind = p->kind, .reason = str_c(p->reason) } };

	if (!watcher && p->waited_ms < SIGNAL_KEEP_MS) {
		p->waited_ms += SIGNAL_DELAY_MS;
		timer_set(&p->timer, SIGNAL_DELAY_MS, on_due);
		return;
	}
	if (watcher)
		conn_send(watcher, FRAME_SIGNAL, &m);
	n_pending--;
	free(p);
}

static int signal_add(enum frame_signal kind, struct str reason)
{
	struct pending *p;

	if (!watcher || n_pending >= SELF_PENDING_MAX)
		return -EAGAIN;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->kind = kind;
	if (str_copy(p->reason, sizeof(p->reason), reason) < 0)
		p->reason[0] = '\0';
	n_pending++;
	timer_set(&p->timer, SIGNAL_DELAY_MS, on_due);
	return 0;
}

static void on_watcher_gone(struct conn *c)
{
	if (watcher == c)
		watcher = NULL;
}

static const struct conn_ops watcher_ops = { .gone = on_watcher_gone };

/* The newest watcher is the one: an older one belongs to an api role that is no more. */
void watch_start(struct conn *c, const union frame_body *m)
{
	struct conn *old = watcher;

	c->ops = &watcher_ops;
	watcher = c;
	if (old)
		conn_close(old);
	conn_send(c, FRAME_OK, &(union frame_body){ 0 });
}

/* --- HTTP --- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Form decoding into text of at most REASON_CHARS characters; a bad escape stands for itself and
 * control bytes become spaces. */
static void reason_decode(struct str in, struct buf *out)
{
	unsigned int chars = 0;

	for (size_t i = 0; i < in.n; i++) {
		unsigned char c = (unsigned char)in.p[i];

		if (c == '+')
			c = ' ';
		if (c == '%' && i + 2 < in.n && hex_digit(in.p[i + 1]) >= 0 &&
			hex_digit(in.p[i + 2]) >= 0) {
			c = (unsigned char)(hex_digit(in.p[i + 1]) << 4 | hex_digit(in.p[i + 2]));
			i += 2;
		}
		if (c < ' ' || c == 0x7f)
			c = ' ';
		if ((c & 0xc0) != 0x80 && ++chars > REASON_CHARS) /* not a continuation byte */
			return;
		if (buf_u8(out, c) < 0)
			return;
	}
}

static struct str query_reason(struct str query)
{
	while (query.n) {
		struct str value = str_cut(&query, '&'), name = str_cut(&value, '=');

		if (str_eq(name, STR("reason")) && value.p)
			return value;
	}
	return STR_NONE;
}

/* The status of a request whose head is complete. */
static int request_status(struct str head)
{
	auto_buf struct buf reason = BUF_MAX(FRAME_REASON_MAX);
	struct str line = str_cut(&head, '\n'), method = str_cut(&line, ' '),
		   target = str_cut(&line, ' '), query = target, path = str_cut(&query, '?');
	enum frame_signal kind;

	if (!str_starts(line, STR("HTTP/1.")) || !target.n)
		return 400;
	if (str_eq(path, STR("/self/pause")))
		kind = FRAME_SIGNAL_PAUSE;
	else if (str_eq(path, STR("/self/delete")))
		kind = FRAME_SIGNAL_DELETE;
	else
		return 404;
	if (!str_eq(method, STR("POST")))
		return 405;
	reason_decode(query_reason(query), &reason);
	return signal_add(kind, buf_str(&reason)) < 0 ? 503 : 202;
}

static void request_free(struct request *q)
{
	timer_stop(&q->timer);
	watch_close(&q->watch);
	free(q);
	n_requests--;
	watch_set(&listener, EPOLLIN);
}

static void on_request_end(struct timer *t)
{
	request_free(container_of(t, struct request, timer));
}

static void answer(struct request *q, int status)
{
	const char *words = status == 202 ? "Accepted" : status == 400 ? "Bad Request" :
		status == 404 ? "Not Found" : status == 405 ? "Method Not Allowed" :
		status == 431 ? "Request Header Fields Too Large" : "Service Unavailable";
	char text[160];
	int n = snprintf(text, sizeof(text),
		"HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n%s\r\n", status, words,
		status == 405 ? "Allow: POST\r\n" : "");

	q->answered = true;
	send(q->watch.fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT); /* an empty socket takes it */
	shutdown(q->watch.fd, SHUT_WR);
	timer_set(&q->timer, LINGER_MS, on_request_end);
}

static void on_request(struct watch *w, uint32_t events)
{
	struct request *q = container_of(w, struct request, watch);
	ssize_t k;
	char *end;

	if (q->answered) { /* until the caller closes, its bytes go nowhere */
		k = recv(w->fd, scratch, sizeof(scratch), MSG_DONTWAIT);
		if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR))
			request_free(q);
		return;
	}
	k = recv(w->fd, q->head + q->n, sizeof(q->head) - q->n, MSG_DONTWAIT);
	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (k <= 0) {
		request_free(q);
		return;
	}
	q->n += (size_t)k;
	end = memmem(q->head, q->n, "\r\n\r\n", 4);
	if (end)
		answer(q, request_status(str_n(q->head, (size_t)(end - q->head) + 2)));
	else if (q->n == sizeof(q->head))
		answer(q, 431);
}

static void on_listener(struct watch *w, uint32_t events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct request *q = fd < 0 ? NULL : calloc(1, sizeof(*q));

	if (!q) {
		if (fd >= 0)
			close(fd);
		return;
	}
	q->watch = (struct watch){ .fd = fd, .fn = on_request };
	n_requests++;
	timer_set(&q->timer, HELLO_MS, on_request_end);
	watch_set(&q->watch, EPOLLIN);
	if (n_requests >= SELF_CONNS_MAX) /* more of them wait in the backlog */
		watch_set(w, 0);
}

/* --- the FIFO --- */

static void on_fifo(struct watch *w, uint32_t events)
{
	char text[512];
	ssize_t k = read(w->fd, text, sizeof(text));
	struct str rest = str_n(text, (size_t)MAX(k, (ssize_t)0));

	while (rest.n) {
		struct str line = str_trim(str_cut(&rest, '\n'));

		if (str_eq(line, STR("park")))
			signal_add(FRAME_SIGNAL_PAUSE, STR("park"));
		else if (str_eq(line, STR("retire")))
			signal_add(FRAME_SIGNAL_DELETE, STR("retire"));
	}
}

static void fifo_open(void)
{
	struct stat st;

	mkdir("/run", 0755);
	if (lstat("/run/self", &st) == 0 && !S_ISFIFO(st.st_mode))
		unlink("/run/self");
	if (mkfifo("/run/self", 0666) == 0)
		chmod("/run/self", 0666); /* the HTTP door asks for no credential either */
	/* For writing too: so the last writer that leaves is no end of file. */
	fifo.fd = open("/run/self", O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	fifo.fn = on_fifo;
	if (fifo.fd >= 0)
		watch_set(&fifo, EPOLLIN);
}

int self_open(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(SELF_PORT),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1;

	fifo_open();
	listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	listener.fn = on_listener;
	if (listener.fd < 0)
		return -errno;
	setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener.fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(listener.fd, 64) < 0)
		return -errno;
	return watch_set(&listener, EPOLLIN);
}
