/* weir pause, resume: several sandboxes, one after the other; the first failure ends it. */
#include "cmd/cli/cli.h"

static int each(struct cli *c, const char *verb, const char *wanted)
{
	for (int i = 0; i < c->argc; i++) {
		auto_json json_t *view = NULL, *after = NULL;
		char id[CLI_ID_LEN], rest[16];
		int r = box_find(c, c->argv[i], id);

		snprintf(rest, sizeof(rest), "/%s", verb);
		if (!r)
			r = api_json(c, "POST", box_path(id, rest).s, STR_NONE, &view);
		if (!r && !c->opt.no_wait && strcmp(jtext(view, "status"), wanted) != 0)
			r = box_wait(c, id, wanted);
		if (!r && c->opt.json)
			r = api_json(c, "GET", box_path(id, "").s, STR_NONE, &after);
		if (!r && c->opt.json)
			r = print_json(c, after);
		if (r)
			return r;
	}
	return CLI_OK;
}

int cmd_pause(struct cli *c)
{
	return each(c, "pause", "paused");
}

int cmd_resume(struct cli *c)
{
	return each(c, "resume", "running");
}
