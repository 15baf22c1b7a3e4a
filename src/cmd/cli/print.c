/* What people see: tables, colours, times, and no control characters. */
#include <time.h>
#include "base/fd.h"
#include "cmd/cli/cli.h"

#define CELLS_MAX 500000u

/* U+0080 to U+009F: terminals take them for ESC and a letter. */
static bool c1_at(struct str text, size_t i)
{
	return (unsigned char)text.p[i] == 0xc2 && i + 1 < text.n &&
		(unsigned char)text.p[i + 1] < 0xa0;
}

void print_clean(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];
		bool c1 = c1_at(text, i);

		if (c < ' ' || c == 0x7f || c1) {
			buf_add(out, "?", 1);
			i += c1;
		} else {
			buf_u8(out, c);
		}
	}
}

static const char *const tones[] = { [TONE_NONE] = "", [TONE_GOOD] = "\033[32m",
	[TONE_WARN] = "\033[33m", [TONE_BAD] = "\033[31m", [TONE_DIM] = "\033[2m",
	[TONE_BOLD] = "\033[1m" };

void print_tone(struct buf *out, bool colour, enum tone tone, const char *text)
{
	colour = colour && tone != TONE_NONE;
	if (colour)
		buf_add_c(out, tones[tone]);
	print_clean(out, str_c(text));
	if (colour)
		buf_add_c(out, "\033[0m");
}

enum tone tone_of_status(const char *status)
{
	static const struct {
		const char *status;
		enum tone tone;
	} table[] = { { "running", TONE_GOOD }, { "paused", TONE_WARN }, { "error", TONE_BAD },
		{ "failed", TONE_BAD }, { "destroyed", TONE_DIM }, { "destroying", TONE_DIM } };

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(table[i].status, status) == 0)
			return table[i].tone;
	return TONE_NONE;
}

/* --- tables: cells by row, widths found at the end --- */

struct cell {
	enum tone tone;
	char *text;
};

struct table {
	const char *const *heads;
	unsigned int columns;
	struct cell *cells;
	size_t n, cap;
};

struct table *table_new(const char *const *heads, unsigned int columns)
{
	struct table *t = calloc(1, sizeof(*t));

	if (t) {
		t->heads = heads;
		t->columns = columns;
	}
	return t;
}

void table_cell_tone(struct table *t, enum tone tone, const char *text)
{
	auto_buf struct buf clean = BUF_MAX(65536);

	if (!t || t->n >= CELLS_MAX)
		return;
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 64;
		struct cell *cells = reallocarray(t->cells, cap, sizeof(*cells));

		if (!cells)
			return;
		t->cells = cells;
		t->cap = cap;
	}
	print_clean(&clean, str_c(text[0] ? text : "-"));
	t->cells[t->n++] = (struct cell){ .tone = tone, .text = str_dup(buf_str(&clean)) };
}

void table_cell(struct table *t, const char *text)
{
	table_cell_tone(t, TONE_NONE, text);
}

/* Characters rather than bytes; wide ones count once, which is right for what we print. */
static size_t width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static void put_cell(struct buf *out, bool colour, enum tone tone, const char *text, size_t pad)
{
	print_tone(out, colour, tone, text);
	for (; pad; pad--)
		buf_add(out, " ", 1);
}

void table_print(const struct table *t, bool colour, struct buf *out)
{
	size_t widths[16] = { 0 };

	if (!t)
		return;
	for (unsigned int i = 0; i < t->columns; i++)
		widths[i] = width(t->heads[i]);
	for (size_t i = 0; i < t->n; i++) {
		size_t w = width(t->cells[i].text ? t->cells[i].text : "");

		widths[i % t->columns] = MAX(widths[i % t->columns], w);
	}
	for (unsigned int i = 0; i < t->columns; i++) {
		bool last = i + 1 == t->columns;

		put_cell(out, colour, TONE_BOLD, t->heads[i],
			last ? 0 : widths[i] - width(t->heads[i]) + 2);
	}
	buf_add(out, "\n", 1);
	for (size_t i = 0; i < t->n; i++) {
		const struct cell *cell = &t->cells[i];
		const char *text = cell->text ? cell->text : "";
		bool last = (i + 1) % t->columns == 0;

		put_cell(out, colour, cell->tone, text,
			last ? 0 : widths[i % t->columns] - width(text) + 2);
		if (last)
			buf_add(out, "\n", 1);
	}
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		free(t->cells[i].text);
	free(t->cells);
	free(t);
}

/* --- small texts --- */

struct age age_of(const char *text, uint64_t now_s)
{
	struct age age = { "-" };
	struct tm tm = { 0 };
	int64_t s;

	if (!strptime(text, "%Y-%m-%dT%H:%M:%S", &tm))
		return age;
	s = (int64_t)now_s - (int64_t)timegm(&tm);
	s = MAX(s, (int64_t)0);
	if (s < 120)
		snprintf(age.s, sizeof(age.s), "%ds", (int)s);
	else if (s < 7200)
		snprintf(age.s, sizeof(age.s), "%dm", (int)(s / 60));
	else if (s < 172800)
		snprintf(age.s, sizeof(age.s), "%dh", (int)(s / 3600));
	else
		snprintf(age.s, sizeof(age.s), "%" PRId64 "d", s / 86400);
	return age;
}

struct age bytes_text(uint64_t n)
{
	static const char units[][4] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)n;
	unsigned int i = 0;
	struct age age;

	while (v >= 1024 && i + 1 < ARRAY_SIZE(units)) {
		v /= 1024;
		i++;
	}
	snprintf(age.s, sizeof(age.s), i && v < 100 ? "%.1f %s" : "%.0f %s", v, units[i]);
	return age;
}

void print_flush(struct buf *out, int fd)
{
	if (buf_failed(out)) {
		cli_say("out of memory");
		_exit(CLI_FAILED);
	}
	if (out->n && fd_write_all(fd, out->p, out->n) < 0)
		_exit(CLI_FAILED);
	buf_reset(out);
}

void print_escaped(struct buf *out, struct str json)
{
	for (size_t i = 0; i < json.n; i++) {
		unsigned char c = (unsigned char)json.p[i];

		if (c == 0x7f)
			buf_add_c(out, "\\u007f");
		else if (c1_at(json, i))
			buf_fmt(out, "\\u%04x", (unsigned char)json.p[++i]);
		else
			buf_u8(out, c);
	}
}

void print_line(const char *text)
{
	auto_buf struct buf out = BUF_MAX(65536);

	print_clean(&out, str_c(text));
	buf_add(&out, "\n", 1);
	print_flush(&out, STDOUT_FILENO);
}

int print_json(struct cli *c, const json_t *data)
{
	size_t flags = JSON_ENCODE_ANY | (isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT);
	auto_free char *text = json_dumps(data, flags);

	if (!text) {
		cli_say("out of memory");
		return CLI_FAILED;
	}
	auto_buf struct buf out = BUF_MAX(strlen(text) * strlen("\\u0000") + 1);

	print_escaped(&out, str_c(text));
	buf_add(&out, "\n", 1);
	print_flush(&out, STDOUT_FILENO);
	return CLI_OK;
}

const char *jtext(const json_t *obj, const char *key)
{
	const char *text = json_string_value(json_object_get(obj, key));

	return text ? text : "";
}

int64_t jint(const json_t *obj, const char *key)
{
	double v = json_number_value(json_object_get(obj, key));

	/* Who answers may be anybody: what int64_t cannot hold is the nearest that it can. */
	return v >= 0x1p63 ? INT64_MAX : v <= -0x1p63 ? INT64_MIN : (int64_t)v;
}

bool jbool(const json_t *obj, const char *key)
{
	return json_is_true(json_object_get(obj, key));
}
