/* weir version: ours always, the daemon's if it answers. */
#include "cmd/cli/cli.h"

int cmd_version(struct cli *c)
{
	struct api_req q = { .method = "GET", .path = "/v1/version" };
	auto_answer struct api_answer a = { 0 };
	auto_buf struct buf out = BUF_MAX(8192);
	json_t *item;
	size_t i;

	api_perform(c, &q, &a);
	if (c->opt.json) {
		auto_json json_t *both = json_pack("{s:s, s:O?}", "client", WEIR_VERSION, "daemon", a.data);

		return print_json(c, both);
	}
	buf_fmt(&out, "weir    %s\n", WEIR_VERSION);
	if (a.data) {
		buf_add_c(&out, "daemon  ");
		print_clean(&out, str_c(jtext(a.data, "version")));
		buf_add_c(&out, " at ");
		print_clean(&out, str_c(c->conf.url));
		json_array_foreach(json_object_get(a.data, "runtimes"), i, item) {
			buf_add_c(&out, i ? ", " : "; runtimes: ");
			print_clean(&out, str_c(json_string_value(item) ? json_string_value(item) : "?"));
		}
		buf_add(&out, "\n", 1);
	} else {
		buf_fmt(&out, "daemon  %s %s\n", a.curl == CURLE_OK ? "does not say its version at"
							     : "does not answer at", c->conf.url);
	}
	print_flush(&out, STDOUT_FILENO);
	return CLI_OK;
}
