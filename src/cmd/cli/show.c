/* weir show: one sandbox, its limits, its rules, and what its link counted. */
#include <time.h>
#include "cmd/cli/cli.h"

static void line(struct cli *c, struct buf *out, const char *name, enum tone tone, const char *text)
{
	if (!text[0])
		return;
	buf_fmt(out, "%-12s ", name);
	print_tone(out, c->colour, tone, text);
	buf_add(out, "\n", 1);
}

static void put_list(struct cli *c, struct buf *out, const char *name, const json_t *list)
{
	const char *text;
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item) {
		text = json_string_value(item);
		line(c, out, i ? "" : name, TONE_NONE, text ? text : "");
	}
}

/* Counters are of this daemon; without them the rest is still worth showing. */
static void put_counters(struct cli *c, struct buf *out, const char *id)
{
	struct box_path path = box_path(id, "/counters");
	struct api_req q = { .method = "GET", .path = path.s };
	auto_answer struct api_answer a = { 0 };
	char text[200];
	const char *reason;
	json_t *n;

	if (api_perform(c, &q, &a) < 0 || !json_is_object(a.data))
		return;
	snprintf(text, sizeof(text), "%s in %" PRId64 " packets",
		bytes_text((uint64_t)jint(a.data, "out_bytes")).s, jint(a.data, "out_packets"));
	line(c, out, "sent", TONE_NONE, text);
	snprintf(text, sizeof(text), "%s in %" PRId64 " packets",
		bytes_text((uint64_t)jint(a.data, "in_bytes")).s, jint(a.data, "in_packets"));
	line(c, out, "received", TONE_NONE, text);
	json_object_foreach(json_object_get(a.data, "denied"), reason, n) {
		if (json_integer_value(n) <= 0)
			continue;
		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT " %.80s", json_integer_value(n), reason);
		line(c, out, "denied", TONE_WARN, text);
	}
}

int cmd_show(struct cli *c)
{
	auto_json json_t *box = NULL;
	auto_buf struct buf out = BUF_MAX(1u << 20);
	const json_t *egress;
	char id[CLI_ID_LEN], text[120];
	int r;

	r = box_find(c, c->argv[0], id);
	if (!r)
		r = api_json(c, "GET", box_path(id, "").s, STR_NONE, &box);
	if (r)
		return r;
	if (c->opt.json)
		return print_json(c, box);
	line(c, &out, "name", TONE_BOLD, jtext(box, "name"));
	line(c, &out, "id", TONE_NONE, jtext(box, "id"));
	line(c, &out, "status", tone_of_status(jtext(box, "status")), jtext(box, "status"));
	line(c, &out, "runtime", TONE_NONE, jtext(box, "runtime"));
	snprintf(text, sizeof(text), "%s: %g CPU, %s memory, %s disk", jtext(box, "shape"),
		json_number_value(json_object_get(box, "vcpu")),
		bytes_text((uint64_t)jint(box, "mem_mib") << 20).s,
		bytes_text((uint64_t)jint(box, "disk_mib") << 20).s);
	line(c, &out, "shape", TONE_NONE, text);
	line(c, &out, "rootfs", TONE_NONE, jtext(box, "rootfs"));
	line(c, &out, "ip", TONE_NONE, jtext(box, "ip"));
	snprintf(text, sizeof(text), "%s (%s ago)", jtext(box, "created_at"),
		age_of(jtext(box, "created_at"), (uint64_t)time(NULL)).s);
	line(c, &out, "created", TONE_NONE, text);
	line(c, &out, "paused", TONE_NONE,
		strcmp(jtext(box, "status"), "paused") == 0 ? jtext(box, "paused_at") : "");
	if (jint(box, "auto_pause_after_seconds") > 0) {
		snprintf(text, sizeof(text), "after %" PRId64 " s without use",
			jint(box, "auto_pause_after_seconds"));
		line(c, &out, "auto-pause", TONE_NONE, text);
	}
	line(c, &out, "ingress", TONE_NONE, jtext(box, "ingress_url_template"));
	line(c, &out, "forked from", TONE_NONE, jtext(box, "forked_from"));
	egress = json_object_get(box, "egress");
	if (json_array_size(egress))
		put_list(c, &out, "may reach", egress);
	else
		line(c, &out, "may reach", TONE_NONE, "everything");
	put_list(c, &out, "environment", json_object_get(box, "envs"));
	put_counters(c, &out, id);
	print_flush(&out, STDOUT_FILENO);
	return CLI_OK;
}
