/* weir denials: what a sandbox was refused; also the postscript of weir run. */
#include "base/fd.h"
#include "cmd/cli/cli.h"

/* What the sentence says after the target, which stands in a column of its own. */
static const char *sentence(const json_t *d)
{
	const char *text = jtext(d, "text"), *const targets[] = { jtext(d, "name"), jtext(d, "address") };

	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		size_t n = strlen(targets[i]);

		if (n && strncmp(text, targets[i], n) == 0 && strncmp(text + n, ": ", 2) == 0)
			return text + n + 2;
	}
	return text[0] ? text : jtext(d, "reason");
}

/* "09:30:00  tcp a.example:443  no rule names it  (3 times)" */
static void put_denial(struct buf *out, bool colour, const json_t *d, bool with_time)
{
	const char *at = jtext(d, "at"), *clock = strchr(at, 'T'), *name = jtext(d, "name");
	char target[400], port[16] = "", brief[16] = "";

	if (with_time && clock) {
		str_copy(brief, sizeof(brief), str_n(clock + 1, MIN(strlen(clock + 1), (size_t)8)));
		print_tone(out, colour, TONE_DIM, brief);
		buf_add_c(out, "  ");
	}
	if (jint(d, "port") > 0)
		snprintf(port, sizeof(port), ":%d", (int)jint(d, "port"));
	snprintf(target, sizeof(target), "%.255s%s", name[0] ? name : jtext(d, "address"), port);
	print_tone(out, colour, TONE_WARN, jtext(d, "protocol"));
	buf_add_c(out, jtext(d, "protocol")[0] ? " " : "");
	print_tone(out, colour, TONE_BOLD, target[0] ? target : "-");
	if (strcmp(jtext(d, "direction"), "in") == 0)
		buf_add_c(out, " (inbound)");
	buf_add_c(out, "  ");
	print_clean(out, str_c(sentence(d)));
	if (jint(d, "count") > 1)
		buf_fmt(out, "  (%" PRId64 " times)", jint(d, "count"));
	buf_add(out, "\n", 1);
}

int box_denials(struct cli *c, const char *id, uint32_t limit, FILE *to, bool complain)
{
	auto_buf struct buf out = BUF_MAX(4u << 20);
	auto_answer struct api_answer a = { 0 };
	char path[256];
	struct api_req q = { .method = "GET", .path = path };
	const json_t *list;
	int r;

	snprintf(path, sizeof(path), "/v1/sandboxes/%s/denials?limit=%u", id, limit);
	r = complain ? api_call(c, &q, &a) : api_perform(c, &q, &a);
	if (r || !a.data)
		return r;
	if (c->opt.json && complain)
		return print_json(c, a.data);
	list = json_object_get(a.data, "denials");
	/* The newest comes first; in a terminal it belongs to the bottom. */
	for (size_t i = json_array_size(list); i > 0; i--) {
		if (!complain)
			buf_add_c(&out, "refused: ");
		put_denial(&out, to == stderr ? c->colour_err : c->colour,
			json_array_get(list, i - 1), complain);
	}
	if (jint(a.data, "suppressed") > 0)
		buf_fmt(&out, "%s%" PRId64 " more were counted, not listed\n", complain ? "" : "refused: ",
			jint(a.data, "suppressed"));
	if (complain && !out.n && isatty(STDOUT_FILENO))
		buf_add_c(&out, "nothing was refused\n");
	print_flush(&out, to == stderr ? STDERR_FILENO : STDOUT_FILENO);
	return CLI_OK;
}

static int on_denial(struct str line, void *arg)
{
	auto_json json_t *d = json_loadb(line.p, line.n, JSON_ALLOW_NUL, NULL);
	auto_buf struct buf out = BUF_MAX(65536);
	struct cli *c = arg;

	if (!d || jbool(d, "hb"))
		return 0;
	if (c->opt.json) {
		buf_add_str(&out, line);
		buf_add(&out, "\n", 1);
	} else {
		put_denial(&out, c->colour, d, true);
	}
	print_flush(&out, STDOUT_FILENO);
	return 0;
}

int cmd_denials(struct cli *c)
{
	auto_answer struct api_answer a = { 0 };
	char id[CLI_ID_LEN], path[256];
	struct api_req q = { .method = "GET", .path = path, .on_line = on_denial, .arg = c,
		.heed_signals = true };
	int r = box_find(c, c->argv[0], id);

	if (r)
		return r;
	if (!c->opt.follow)
		return box_denials(c, id, c->opt.limit ? c->opt.limit : 50, stdout, true);
	cli_catch_signals();
	snprintf(path, sizeof(path), "/v1/sandboxes/%s/denials?follow=true&limit=%u", id,
		c->opt.limit ? c->opt.limit : 50);
	r = api_call(c, &q, &a);
	return r == CLI_INTERRUPTED ? CLI_OK : r; /* Ctrl-C is how following ends */
}
