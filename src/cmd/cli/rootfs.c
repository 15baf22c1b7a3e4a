/* weir rootfs ls, build, pulls; weir shapes. */
#include "cmd/cli/cli.h"

int cmd_rootfs_ls(struct cli *c)
{
	static const char *const heads[] = { "NAME", "DEFAULT", "DESCRIPTION" };
	auto_buf struct buf out = BUF_MAX(1u << 20);
	auto_json json_t *data = NULL;
	struct table *t;
	json_t *name, *entry;
	size_t i, k;
	int r;

	r = api_json(c, "GET", "/v1/rootfs", STR_NONE, &data);
	if (r)
		return r;
	if (c->opt.json)
		return print_json(c, data);
	t = table_new(heads, ARRAY_SIZE(heads));
	json_array_foreach(json_object_get(data, "rootfs"), i, name) {
		const char *text = json_string_value(name), *about = "";

		json_array_foreach(json_object_get(data, "entries"), k, entry) {
			if (text && strcmp(jtext(entry, "name"), text) == 0)
				about = jtext(entry, "description");
		}
		table_cell(t, text ? text : "");
		table_cell_tone(t, TONE_GOOD, text && strcmp(text, jtext(data, "default")) == 0 ? "yes" : "");
		table_cell(t, about);
	}
	table_print(t, c->colour, &out);
	table_free(t);
	print_flush(&out, STDOUT_FILENO);
	return CLI_OK;
}

struct build {
	struct cli *c;
	bool ended, ready;
};

static int on_line(struct str line, void *arg)
{
	auto_json json_t *frame = json_loadb(line.p, line.n, JSON_ALLOW_NUL, NULL);
	auto_buf struct buf out = BUF_MAX(9u << 20);
	struct build *b = arg;

	if (!frame || jbool(frame, "hb"))
		return 0;
	if (b->c->opt.json) {
		buf_add_str(&out, line);
		buf_add(&out, "\n", 1);
	} else if (json_object_get(frame, "line")) {
		print_clean(&out, str_c(jtext(frame, "line")));
		buf_add(&out, "\n", 1);
	}
	if (jbool(frame, "final")) {
		b->ended = true;
		b->ready = strcmp(jtext(frame, "status"), "ready") == 0;
	}
	print_flush(&out, STDOUT_FILENO);
	return 0;
}

int cmd_rootfs_build(struct cli *c)
{
	auto_buf struct buf body = BUF_MAX(4096);
	auto_answer struct api_answer a = { 0 };
	struct build b = { .c = c };
	struct api_req q = { .method = "POST", .path = "/v1/rootfs/build", .on_line = on_line,
		.arg = &b };
	struct jw w = JW(&body);
	int r;

	jw_obj(&w, NULL);
	jw_c(&w, "name", c->argv[0]);
	jw_end(&w);
	q.body = buf_str(&body);
	r = api_call(c, &q, &a);
	if (r)
		return r;
	if (!b.ready)
		cli_say(b.ended ? "%s could not be built" : "%s: the log ended before the build did",
			c->argv[0]);
	else if (isatty(STDERR_FILENO))
		cli_say("%s is ready", c->argv[0]);
	return b.ready ? CLI_OK : CLI_FAILED;
}

static void one_pull(struct table *t, json_t *pull, uint64_t now)
{
	char creates[24];

	snprintf(creates, sizeof(creates), "%" PRId64, jint(pull, "creates"));
	table_cell(t, jtext(pull, "image"));
	table_cell(t, jtext(pull, "status"));
	table_cell(t, creates);
	table_cell(t, age_of(jtext(pull, "created_at"), now).s);
}

int cmd_rootfs_pulls(struct cli *c)
{
	static const char *const heads[] = { "IMAGE", "STATUS", "CREATES", "AGE" };

	return print_list(c, &(struct list){ "/v1/rootfs/pulls", heads, ARRAY_SIZE(heads), 1u << 20,
		one_pull });
}

static void one_shape(struct table *t, json_t *shape, uint64_t now)
{
	double cpus = json_number_value(json_object_get(shape, "vcpu"));
	int64_t quota = jint(shape, "cpu_quota_pct");
	char text[40];

	snprintf(text, sizeof(text), "%g", quota > 0 ? (double)quota / 100 : cpus);
	table_cell(t, jtext(shape, "id"));
	table_cell(t, text);
	table_cell(t, bytes_text((uint64_t)jint(shape, "mem_mib") << 20).s);
	table_cell(t, bytes_text((uint64_t)jint(shape, "default_disk_mib") << 20).s);
}

int cmd_shapes(struct cli *c)
{
	static const char *const heads[] = { "SHAPE", "CPUS", "MEMORY", "DISK" };

	return print_list(c, &(struct list){ "/v1/shapes", heads, ARRAY_SIZE(heads), 1u << 20,
		one_shape });
}
