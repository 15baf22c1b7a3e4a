/*
 * What went wrong, in the daemon's words where there are any, and what to do next. The exit
 * status is decided here and nowhere else.
 */
#include "cmd/cli/cli.h"

/* Names that would have been right, in one line; or what makes the first of them. */
static void hint_names(struct cli *c, const char *path, const char *list, const char *key,
	const char *what, const char *first)
{
	struct api_req q = { .method = "GET", .path = path };
	auto_answer struct api_answer a = { 0 };
	auto_buf struct buf line = BUF_MAX(4096);
	json_t *item;
	size_t i;

	if (api_perform(c, &q, &a) < 0 || !a.data)
		return;
	json_array_foreach(json_object_get(a.data, list), i, item) {
		const char *name = key ? jtext(item, key) : json_string_value(item);

		if (!name || !name[0])
			continue;
		buf_add_c(&line, line.n ? ", " : "");
		print_clean(&line, str_c(name));
	}
	if (line.n && buf_cstr(&line))
		cli_hint("%s: %s", what, buf_cstr(&line));
	else if (first)
		cli_hint("%s", first);
}

static int no_answer(struct cli *c, const struct api_req *q, const struct api_answer *a)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wswitch-enum"
	switch (a->curl) {
	case CURLE_ABORTED_BY_CALLBACK:
		if (cli_interrupted)
			return CLI_INTERRUPTED;
		cli_say("%s", a->message[0] ? a->message : "aborted");
		return CLI_FAILED;
	case CURLE_COULDNT_CONNECT:
		cli_say("nobody answers at %s", c->conf.url);
		cli_hint("is weird running? root starts it with \"weird\"; \"weir doctor\" looks closer; "
			 "another address: --url or WEIR_URL");
		return CLI_UNREACHABLE;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		cli_say("the host name in %s is unknown", c->conf.url);
		cli_hint("set another address with --url, WEIR_URL or \"url = ...\" in %s", c->conf.path);
		return CLI_UNREACHABLE;
	case CURLE_WRITE_ERROR:
	case CURLE_READ_ERROR:
		cli_say("%s", a->message[0] ? a->message : "cannot pass on what the daemon sent");
		return CLI_FAILED;
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
		cli_say("the daemon closed the connection before its answer was complete");
		cli_hint("its log says why");
		return CLI_FAILED;
	default:
		cli_say("%s: %s", c->conf.url, curl_easy_strerror(a->curl));
		return CLI_UNREACHABLE;
	}
#pragma GCC diagnostic pop
}

static int no_access(struct cli *c, const struct api_answer *a)
{
	if (secret_empty(&c->conf.key)) {
		cli_say("no API key");
		cli_hint("set WEIR_API_KEY, or \"api_key = ...\" in %s", c->conf.path);
		cli_hint("the admin's key lies in " CLI_ADMIN_KEY " on the daemon's machine; root there "
			 "uses it by itself");
		return CLI_NO_ACCESS;
	}
	cli_say("the daemon does not know the API key from %s", c->conf.key_from);
	cli_hint("the admin's key lies in " CLI_ADMIN_KEY "; \"weir key create\" makes others");
	return CLI_NO_ACCESS;
}

int hint_failure(struct cli *c, const struct api_req *q, const struct api_answer *a)
{
	if (a->curl != CURLE_OK)
		return no_answer(c, q, a);
	if (a->status == 401)
		return no_access(c, a);
	if (!a->message[0]) {
		cli_say("%s does not answer like a Weir daemon (HTTP %ld)", c->conf.url, a->status);
		cli_hint("is the address right? --url, WEIR_URL, or \"url = ...\" in %s", c->conf.path);
		return a->status == 404 ? CLI_NOT_FOUND : CLI_FAILED;
	}
	cli_say("%s", a->message);
	if (strcmp(a->field, "shape") == 0)
		hint_names(c, "/v1/shapes?limit=500", "data", "id", "shapes", NULL);
	else if (strcmp(a->field, "rootfs") == 0)
		hint_names(c, "/v1/rootfs", "rootfs", NULL, "root file systems",
			"none is built yet: \"weir rootfs build devbox:1\"");
	else if (strcmp(a->field, "egress") == 0 || strncmp(a->field, "egress[", 7) == 0)
		cli_hint("rules look like: example.org, *.example.org:443, 192.0.2.7, 10.0.0.0/8:8080");
	else if (a->status == 404 && str_starts(str_c(a->message), STR("network")))
		cli_hint("\"weir net ls\" lists your private networks");
	else if (a->status == 404 && strstr(q->path, "/ingress/tokens/"))
		cli_hint("\"weir ingress token ls\" lists the tokens of a sandbox");
	else if (a->status == 404 && strstr(q->path, "/sandboxes/") && strcmp(a->field, "id") == 0)
		cli_hint("\"weir ls\" lists your sandboxes");
	else if (a->status == 409 && strstr(a->message, "is paused"))
		cli_hint("\"weir resume\" lets it go on");
	else if (a->status == 403)
		cli_hint("the key from %s may not do this", c->conf.key_from);
	else if (a->status >= 500 && a->status != 502 && a->status != 503 && a->request_id[0])
		cli_hint("the daemon's log has more under %s", a->request_id);
	if (a->status == 403)
		return CLI_NO_ACCESS;
	return a->status == 404 ? CLI_NOT_FOUND : CLI_FAILED;
}
