/* Log lines: see the header. A line is built on the stack and written whole. */
#include "base/log.h"
#include "base/clock.h"
#include "base/fd.h"

static const char *const level_names[] = { "debug", "info", "warn", "error" };
static const char *log_role = "weir";
static enum log_level log_least = LOG_INFO;

void log_open(const char *role, enum log_level least)
{
	log_role = role;
	log_least = least;
}

bool log_enabled(enum log_level level)
{
	return level >= log_least;
}

int log_level_from(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++)
		if (str_eq_c(name, level_names[i]))
			return (int)i;
	return -EINVAL;
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	char line[2048];
	struct rfc3339 now;
	size_t n;
	va_list ap;
	int k;

	if (!log_enabled(level))
		return;
	now = rfc3339_from(clock_wall_ns());
	k = snprintf(line, sizeof(line), "%s %s %s %s ", now.s, level_names[level], log_role, event);
	n = MIN((size_t)MAX(k, 0), sizeof(line) - 2);
	va_start(ap, fmt);
	k = vsnprintf(line + n, sizeof(line) - n, fmt, ap);
	va_end(ap);
	n = MIN(n + (size_t)MAX(k, 0), sizeof(line) - 2);
	line[n++] = '\n';
	(void)!write(STDERR_FILENO, line, n);
}

struct log_text log_quote(struct str foreign)
{
	static const char hex[] = "0123456789abcdef";
	struct log_text t;
	size_t at = 0;

	for (size_t i = 0; i < foreign.n && at < 200; i++) {
		unsigned char c = (unsigned char)foreign.p[i];

		if (c > ' ' && c < 0x7f && c != '\\') {
			t.s[at++] = (char)c;
			continue;
		}
		t.s[at++] = '\\';
		t.s[at++] = 'x';
		t.s[at++] = hex[c >> 4];
		t.s[at++] = hex[c & 15];
	}
	t.s[at] = '\0';
	return t;
}
