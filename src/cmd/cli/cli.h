/*
 * The command line: one table of commands (commands.c), one of options (args.c), one file per
 * command. The tables make the help, the completions and the checks of the manual page.
 *
 * A command is a function of struct cli that returns the exit status. It talks to the daemon
 * through api_*() (api.c), which say what went wrong and what to do about it (hint.c) before they
 * return a status other than 0; so a command is a straight line of `if (r) return r`.
 *
 * Standard output carries results only; words about what happens go to standard error.
 * Text from the daemon may have been chosen inside a sandbox: it is printed through
 * print_clean(), which lets no control byte reach the terminal. Only the output of commands run
 * by exec and run is passed on as it is.
 */
#pragma once
#include <curl/curl.h>
#include "base/secret.h"
#include "wire/json.h"

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,	     /* the daemon refused, or something went wrong */
	CLI_USAGE = 2,	     /* the command line is wrong */
	CLI_UNREACHABLE = 3, /* nobody answers */
	CLI_NO_ACCESS = 4,   /* no API key, or not one that may */
	CLI_NOT_FOUND = 5,
	CLI_DENY = 6,	     /* egress explain: would be refused */
	CLI_EXEC_FAILED = 125, /* exec and run: the command could not be run to its end */
	CLI_INTERRUPTED = 130, /* a signal: cli_main() makes it 128 + its number */
};

/* Where the daemon's first start leaves the admin's key. */
#define CLI_ADMIN_KEY "/var/lib/weir/api/admin.key"

/* --- options --- */

#define CLI_LIST_MAX 256
#define FORWARDS_MAX 64 /* of one weir forward: each is a listening socket */

struct cli_list {
	const char *v[CLI_LIST_MAX];
	unsigned int n;
};

enum cli_opt { /* rows of cli_options */
	OPT_HELP, OPT_JSON, OPT_URL, /* every command has these */
	OPT_SHAPE, OPT_NAME, OPT_ROOTFS, OPT_EGRESS, OPT_ENV, OPT_DISK, OPT_SSH_KEY, OPT_AUTO_PAUSE, OPT_NET,
	OPT_INTERACTIVE, OPT_KEEP, OPT_QUIET, OPT_ALL, OPT_FOLLOW, OPT_LIMIT, OPT_ADMIN, OPT_NO_WAIT,
	OPT_INGRESS, OPT_ACCESS, OPT_HOLD, OPT_NO_HOLD, OPT_PORTS, OPT_NO_PORTS, OPT_EXPIRES,
	OPT_PAUSED,
	OPT_FILES_ONLY,
	OPT_COUNT
};

struct cli_opts { /* where their values go */
	bool help, json, interactive, keep, quiet, all, follow, admin, no_wait;
	bool ingress, hold, no_hold, paused, files_only;
	const char *url, *shape, *name, *rootfs, *access, *ports, *no_ports;
	uint32_t disk, auto_pause, limit, expires;
	struct cli_list egress, env, ssh_key, net;
};

enum cli_kind {
	CLI_FLAG, CLI_TEXT, CLI_LIST, CLI_NUMBER,
	CLI_CHOICE /* --NAME or --NAME=VALUE: "" or the value */
};
struct cli_option {
	const char *name;
	char letter; /* 0: none */
	enum cli_kind kind;
	size_t offset;	 /* in struct cli_opts */
	const char *arg; /* how the help names its argument */
	uint32_t min, max;
	const char *help;
};
extern const struct cli_option cli_options[OPT_COUNT];

/* --- commands --- */

struct cli;
struct cli_command {
	const char *path;  /* "egress add" */
	const char *alias; /* another path, or NULL */
	const char *operands;
	const char *summary;
	uint32_t options;  /* bits 1 << OPT_… beside the common three */
	unsigned int min, max; /* operands; with rest: max of them, then the words of a command */
	bool rest;
	/* What the operands are, a letter for each, the last for all that follow: s sandbox, n network,
	 * f file or sandbox, w one of the words, . nothing to offer. */
	const char *complete, *words;
	int (*run)(struct cli *c);
	const char *more;     /* paragraphs and examples for its help */
};
extern const struct cli_command cli_commands[];
extern const size_t cli_n_commands;
/* The command of one or two words at argv; *used says how many. NULL if there is none. */
const struct cli_command *cli_find(int argc, char **argv, int *used);

/* --- one run --- */

#define CLI_KEY_HEADER "X-Api-Key: "
#define CLI_KEY_MAX	4096
struct cli_conf {
	char url[512];
	struct secret key;    /* the API key, at most CLI_KEY_MAX bytes; empty: none */
	char key_from[512];   /* where it came from, for complaints */
	char path[512];	      /* the configuration file looked at */
	bool readable_by_all; /* it holds a key and others can read it */
};

struct cli {
	const struct cli_command *cmd;
	struct cli_opts opt;
	int argc; /* operands */
	char **argv;
	struct cli_conf conf;
	CURL *curl;
	bool colour, colour_err; /* on standard output and error */
};

int cli_main(int argc, char **argv);
/* Read a command line. 0, or -EINVAL with a sentence. --help sets opt.help, cmd may be NULL. */
int cli_parse(struct cli *c, int argc, char **argv, struct err *err);
int cli_conf_read(struct cli_conf *conf, const char *url, struct err *err);
void cli_help(struct buf *out, const struct cli_command *cmd); /* NULL: of everything */
/* Words to the person: "weir: …" and, on the next line, what to do. */
void cli_say(const char *fmt, ...) _printf_(1, 2);
void cli_hint(const char *fmt, ...) _printf_(1, 2);
void cli_usage_of(const struct cli *c);
extern volatile int cli_interrupted; /* set by SIGINT and SIGTERM once cli_catch_signals() ran */
void cli_catch_signals(void);

/* --- the conversation --- */

struct api_req {
	const char *method, *path;
	struct str body;  /* JSON; p NULL: none */
	int in_fd;	  /* with upload: sent as the body */
	bool upload;
	int64_t in_size;  /* -1: unknown */
	int out_fd;	  /* with download: receives the body of a success */
	bool download;
	const char *progress; /* what is being copied: a bar on a terminal */
	/* NDJSON: one call per line; non-zero ends the transfer. */
	int (*on_line)(struct str line, void *arg);
	void *arg;
	bool heed_signals; /* end when a signal came */
};

struct api_answer {
	CURLcode curl;
	long status;
	struct buf text;
	json_t *data;	   /* of a success; owned */
	char field[64];	   /* of a refusal: the field at fault, "" if none or several */
	char message[800]; /* of a refusal: the daemon's words */
	char request_id[64];
};

/* Speak with the daemon. 0: an answer came, whatever it says. Otherwise a->curl tells. */
int api_perform(struct cli *c, const struct api_req *q, struct api_answer *a);
/* The same, and complain unless it was a success; the exit status. */
int api_call(struct cli *c, const struct api_req *q, struct api_answer *a);
/* The usual form: method, path, JSON body (or STR_NONE) -> data, which the caller owns. */
int api_json(struct cli *c, const char *method, const char *path, struct str body, json_t **ret);
/* DELETE what lies below path under this name; `what` it is, for a name that can be none. */
int api_delete(struct cli *c, const char *path, const char *name, const char *what);
void api_answer_done(struct api_answer *a);
#define auto_answer _cleanup_(api_answer_done)
/* For who reads an answer by himself: a header's line; the envelope that is in a->text. */
void api_read_header(struct api_answer *a, struct str line);
void api_read_envelope(struct api_answer *a);
/* Append percent-encoded, for paths and queries. */
void api_escape(struct buf *out, const char *text);
/* All items of a paginated route; item is borrowed. Non-zero from the callback ends it. */
int api_each(struct cli *c, const char *path, int (*each)(json_t *item, void *arg), void *arg);
/* Say what an answer that is no success means, and what to do. Returns the exit status. */
int hint_failure(struct cli *c, const struct api_req *q, const struct api_answer *a);

/* --- connections of their own (dial.c) --- */

/* POST with "Upgrade: <protocol>" was answered 101: raw bytes from here on, and half-closes. */
struct dial {
	CURL *curl;
	int fd; /* curl's: non-blocking, to poll; reading goes on until -EAGAIN before it is polled */
	struct buf ahead; /* read together with the head */
};
/* 0, or the exit status after a complaint. */
int dial_open(struct cli *c, const char *path, const char *protocol, struct dial *ret);
ssize_t dial_read(struct dial *d, char *p, size_t n); /* 0 at the end, or a negative errno */
ssize_t dial_write(struct dial *d, const char *p, size_t n);
int dial_shut(struct dial *d); /* nothing more will be written */
void dial_done(struct dial *d);
#define auto_dial _cleanup_(dial_done)

/* --- sandboxes --- */

#define CLI_ID_LEN 64
/* A name or an id to an id. 0, or the exit status after a complaint. */
int box_find(struct cli *c, const char *word, char id[CLI_ID_LEN]);
/* "/v1/sandboxes/<id><rest>" */
struct box_path {
	char s[256];
};
struct box_path box_path(const char *id, const char *rest);
/* The body of a create from the options; 0 or CLI_USAGE. */
int box_create_body(struct cli *c, const char *name, struct buf *out);
int box_fork_body(struct cli *c, struct buf *out);
int box_create(struct cli *c, const char *name, json_t **ret);
/* What the options say of ingress, into a body; 0 or CLI_USAGE. */
int ingress_options(struct cli *c, struct jw *w);
/* Wait until its status is wanted, or one from which it cannot become so. */
int box_wait(struct cli *c, const char *id, const char *wanted);
/* Run a command and pass its output on; the exit status. words[n] need not be NULL. */
int box_exec(struct cli *c, const char *id, char **words, int n, bool heed_signals);
/* Run a command for ourselves, output thrown away; its exit status, or -1 after a complaint. */
int box_exec_quietly(struct cli *c, const char *id, const char *const *words, size_t n);
/* What was refused, on standard error or output; quiet when nothing was. */
int box_denials(struct cli *c, const char *id, uint32_t limit, FILE *to, bool complain);

/* --- printing --- */

enum tone { TONE_NONE, TONE_GOOD, TONE_WARN, TONE_BAD, TONE_DIM, TONE_BOLD };
struct table;
struct table *table_new(const char *const *heads, unsigned int columns);
void table_cell(struct table *t, const char *text);
void table_cell_tone(struct table *t, enum tone tone, const char *text);
void table_print(const struct table *t, bool colour, struct buf *out);
void table_free(struct table *t);

/* What `path` lists, a row of a table each; with --json all of it. */
struct list {
	const char *path;
	const char *const *heads;
	unsigned int columns;
	size_t max; /* bytes of the table */
	void (*row)(struct table *t, json_t *item, uint64_t now); /* as many cells as columns */
};
int print_list(struct cli *c, const struct list *list);
/* Append text with control characters replaced by '?'. */
void print_clean(struct buf *out, struct str text);
/* Append JSON with the control characters it may hold raw, DEL and U+0080 to U+009F, as \uXXXX. */
void print_escaped(struct buf *out, struct str json);
/* The same in a colour, if there are colours. */
void print_tone(struct buf *out, bool colour, enum tone tone, const char *text);
enum tone tone_of_status(const char *status);
/* "3m", "2h", "5d" since an RFC 3339 time; "-" if it is none. */
struct age {
	char s[24];
};
struct age age_of(const char *rfc3339, uint64_t now_s);
struct age bytes_text(uint64_t n); /* "1.5 MiB" */
/* Write all of it; a closed pipe ends the program quietly. */
void print_flush(struct buf *out, int fd);
/* A result that is one text of the daemon's, cleaned: a line of standard output. */
void print_line(const char *text);
/* The raw data for --json. */
int print_json(struct cli *c, const json_t *data);
const char *jtext(const json_t *obj, const char *key); /* "" if absent */
int64_t jint(const json_t *obj, const char *key);
bool jbool(const json_t *obj, const char *key);

/* --- the commands, one file each --- */

int cmd_create(struct cli *c);
int cmd_ls(struct cli *c);
int cmd_show(struct cli *c);
int cmd_exec(struct cli *c);
int cmd_run(struct cli *c);
int cmd_cp(struct cli *c);
int cmd_egress_get(struct cli *c);
int cmd_egress_set(struct cli *c);
int cmd_egress_add(struct cli *c);
int cmd_egress_rm(struct cli *c);
int cmd_egress_explain(struct cli *c);
int cmd_denials(struct cli *c);
int cmd_fork(struct cli *c);
int cmd_pause(struct cli *c);
int cmd_resume(struct cli *c);
int cmd_rm(struct cli *c);
int cmd_net_create(struct cli *c);
int cmd_net_ls(struct cli *c);
int cmd_net_show(struct cli *c);
int cmd_net_rm(struct cli *c);
int cmd_net_attach(struct cli *c);
int cmd_net_detach(struct cli *c);
int cmd_url(struct cli *c);
int cmd_ingress_on(struct cli *c);
int cmd_ingress_off(struct cli *c);
int cmd_ingress_token(struct cli *c);
int cmd_forward(struct cli *c);
int cmd_net_policy(struct cli *c);
int cmd_rootfs_ls(struct cli *c);
int cmd_rootfs_build(struct cli *c);
int cmd_rootfs_pulls(struct cli *c);
int cmd_shapes(struct cli *c);
int cmd_key_create(struct cli *c);
int cmd_key_ls(struct cli *c);
int cmd_key_rm(struct cli *c);
int cmd_doctor(struct cli *c);
int cmd_version(struct cli *c);
int cmd_completion(struct cli *c);
