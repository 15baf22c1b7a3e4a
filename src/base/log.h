/*
 * One event, one line, on standard error: a stable event name and fields.
 *
 *	log_event(LOG_INFO, "sandbox.start", "sandbox=%s took_ms=%u", id, ms);
 *	-> 2026-01-05T09:30:00.123Z info api sandbox.start sandbox=sb-… took_ms=4
 *
 * An event is logged where it is decided; lower rooms return instead of
 * speaking (LOG_DEBUG excepted). Text that a tenant or client chose is printed
 * through log_quote(), which escapes control bytes and ends at 200 characters.
 */
#pragma once
#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* role: printed on each line ("host", "api", "edge"); a literal. */
void log_open(const char *role, enum log_level least);
void log_event(enum log_level level, const char *event, const char *fmt, ...) _printf_(3, 4);
bool log_enabled(enum log_level level);
/* "info" -> LOG_INFO; -EINVAL if unknown. */
int log_level_from(struct str name);

struct log_text {
	char s[208];
};
struct log_text log_quote(struct str foreign);
#define log_q(foreign) (log_quote(foreign).s)
