/*
 * weir run: create, run, say what was refused, destroy.
 *
 * A signal during the create waits for its answer (a sandbox that nobody knows would stay);
 * after it, the command is dropped and the sandbox destroyed like at an ordinary end.
 */
#include "base/ulid.h"
#include "cmd/cli/cli.h"

static int destroy(struct cli *c, const char *id)
{
	auto_json json_t *gone = NULL;
	int r = api_json(c, "DELETE", box_path(id, "").s, STR_NONE, &gone);

	/* A name of the person's choice should be free for the next run. */
	if (!r && c->opt.name && strcmp(jtext(gone, "status"), "destroyed") != 0)
		r = box_wait(c, id, "destroyed");
	if (r)
		cli_hint("the sandbox is left behind: weir rm %s", id);
	return r;
}

int cmd_run(struct cli *c)
{
	auto_json json_t *box = NULL;
	char id[CLI_ID_LEN], name[32];
	uint32_t random;
	int r, code;

	cli_catch_signals();
	random_bytes(&random, sizeof(random));
	snprintf(name, sizeof(name), "run-%08x", random);
	r = box_create(c, c->opt.name ? c->opt.name : name, &box);
	if (r)
		return CLI_EXEC_FAILED;
	if (str_copy(id, sizeof(id), str_c(jtext(box, "id"))) < 0 || strchr(id, '/')) {
		cli_say("the daemon gave an id that cannot be one");
		return CLI_EXEC_FAILED;
	}
	code = cli_interrupted ? CLI_INTERRUPTED : box_exec(c, id, c->argv, c->argc, true);
	if (!c->opt.quiet && !cli_interrupted)
		box_denials(c, id, 20, stderr, false);
	if (c->opt.keep)
		cli_say("kept as %s", c->opt.name ? c->opt.name : name);
	else if (destroy(c, id) && code == 0)
		return CLI_EXEC_FAILED;
	return cli_interrupted ? 128 + cli_interrupted : code;
}
