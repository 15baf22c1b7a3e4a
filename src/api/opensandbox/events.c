/* Events of commands: see the header. */
#include "api/createos/frames.h"
#include "api/opensandbox/events.h"

void event_begin(struct jw *w, struct buf *out, const char *type, uint64_t now_ms)
{
	*w = JW(out);
	jw_obj(w, NULL);
	jw_c(w, "type", type);
	jw_u64(w, "timestamp", now_ms);
}

void event_end(struct jw *w)
{
	jw_end(w);
	buf_add(w->out, "\n\n", 2);
}

void event_text(struct buf *out, const char *type, uint64_t now_ms, struct str text)
{
	struct jw w;

	event_begin(&w, out, type, now_ms);
	jw_str(&w, "text", text);
	event_end(&w);
}

void event_complete(struct buf *out, uint64_t now_ms, uint64_t took_ms)
{
	struct jw w;

	event_begin(&w, out, "execution_complete", now_ms);
	jw_u64(&w, "execution_time", took_ms);
	event_end(&w);
}

void event_error(struct buf *out, uint64_t now_ms, struct str name, struct str value,
	struct str trace)
{
	struct jw w;

	event_begin(&w, out, "error", now_ms);
	jw_obj(&w, "error");
	jw_str(&w, "ename", name);
	jw_str(&w, "evalue", value);
	jw_arr(&w, "traceback");
	while (trace.n) {
		struct str line = str_cut(&trace, '\n');

		jw_str(&w, NULL, line);
	}
	jw_arr_end(&w);
	jw_end(&w);
	event_end(&w);
}

void event_exit(struct buf *out, uint64_t now_ms, uint64_t took_ms, int code, int signal)
{
	char value[16], trace[64];

	if (!code && !signal) {
		event_complete(out, now_ms, took_ms);
		return;
	}
	snprintf(value, sizeof(value), "%d", signal ? -1 : code);
	if (signal)
		snprintf(trace, sizeof(trace), "signal: %s", strsignal(signal));
	else
		snprintf(trace, sizeof(trace), "exit status %d", code);
	for (char *p = trace; *p; p++) /* "Killed" is written small there */
		*p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
	event_error(out, now_ms, STR("CommandExecError"), str_c(value), str_c(trace));
}

/* --- lines --- */

static void line(struct lines *l, struct buf *out, const char *type, uint64_t now_ms, struct str end)
{
	struct str text = end;

	if (l->rest.n) {
		buf_add_str(&l->rest, end);
		text = buf_str(&l->rest);
	}
	event_text(out, type, now_ms, text.n ? text : STR("\n"));
	buf_reset(&l->rest);
}

/* A line that does not end: told as far as it is, but for a character that is not whole. */
static void cut(struct lines *l, struct buf *out, const char *type, uint64_t now_ms)
{
	size_t tail = frames_unfinished(buf_str(&l->rest));
	struct str whole = str_n(l->rest.p, l->rest.n - tail);

	event_text(out, type, now_ms, whole);
	buf_consume(&l->rest, whole.n);
}

void lines_add(struct lines *l, struct buf *out, const char *type, uint64_t now_ms, struct str data)
{
	while (data.n) {
		size_t n = 0, room = EVENT_LINE_MAX - l->rest.n;

		if (l->cr && data.p[0] == '\n')
			data = str_skip(data, 1);
		l->cr = false;
		while (n < data.n && n < room && data.p[n] != '\n' && data.p[n] != '\r')
			n++;
		if (n < data.n && n < room) {
			l->cr = data.p[n] == '\r';
			line(l, out, type, now_ms, str_n(data.p, n));
			data = str_skip(data, n + 1);
			continue;
		}
		buf_add(&l->rest, data.p, n);
		data = str_skip(data, n);
		if (l->rest.n == EVENT_LINE_MAX)
			cut(l, out, type, now_ms);
	}
}

void lines_flush(struct lines *l, struct buf *out, const char *type, uint64_t now_ms)
{
	if (l->rest.n)
		line(l, out, type, now_ms, STR_NONE);
}

void lines_done(struct lines *l)
{
	buf_done(&l->rest);
}
