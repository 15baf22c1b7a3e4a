/* weir(1) and the completion scripts against the tables: what there is, is in them. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "cmd/cli/cli.h"
#include "../unit.h"

static void source_file(const char *name, struct buf *out)
{
	char path[1024];
	const char *root = getenv("WEIR_SOURCE");

	assert_non_null(root);
	snprintf(path, sizeof(path), "%s/%s", root, name);
	*out = (struct buf)BUF_MAX(1u << 20);
	assert_int_equal(file_read(AT_FDCWD, path, out), 0);
	assert_non_null(buf_cstr(out));
}

static void wants(const struct buf *text, const char *what)
{
	if (!memmem(text->p, text->n, what, strlen(what)))
		fail_msg("not there: %s", what);
}

static void manual(void **state)
{
	auto_buf struct buf man = BUF_MAX(0);
	char what[128];

	source_file("man/weir.1", &man);
	for (size_t i = 0; i < cli_n_commands; i++) {
		snprintf(what, sizeof(what), "\n.It Ic %s", cli_commands[i].path);
		wants(&man, what);
		if (cli_commands[i].alias) {
			snprintf(what, sizeof(what), "\n.Ic %s\nis the same", cli_commands[i].alias);
			wants(&man, what);
		}
	}
	for (int i = 0; i < OPT_COUNT; i++) {
		snprintf(what, sizeof(what), cli_options[i].letter ? "| -%s" : "Fl -%s",
			cli_options[i].name);
		if (cli_options[i].letter && !memmem(man.p, man.n, what, strlen(what)))
			snprintf(what, sizeof(what), "Fl %c , Fl -%s", cli_options[i].letter,
				cli_options[i].name);
		wants(&man, what);
	}
	/* and what the manual says of exit statuses */
	for (int i = CLI_OK; i <= CLI_DENY; i++) {
		snprintf(what, sizeof(what), "\n.It %d\n", i);
		wants(&man, what);
	}
}

static void well_formed(void **state)
{
	char command[1200];

	if (system("command -v mandoc >/dev/null 2>&1") != 0)
		skip();
	/* References to other manuals depend on what is installed here. */
	snprintf(command, sizeof(command),
		"! mandoc -Tlint %s/man/weir.1 2>&1 | grep -v 'referenced manual not found'",
		getenv("WEIR_SOURCE"));
	assert_int_equal(system(command), 0);
}

static void prints(const char *shell, const char *file)
{
	auto_buf struct buf kept = BUF_MAX(0), got = BUF_MAX(1u << 20);
	auto_fd int out = memfd_create("out", MFD_CLOEXEC);
	char path[64];
	pid_t pid;
	int status;

	source_file(file, &kept);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		char *argv[] = { (char *)"weir", (char *)"completion", (char *)shell, NULL };

		dup2(out, STDOUT_FILENO);
		_exit(cli_main(3, argv));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", out);
	assert_int_equal(file_read(AT_FDCWD, path, &got), 0);
	if (!str_eq(buf_str(&kept), buf_str(&got)))
		fail_msg("%s is not what \"weir completion %s\" prints", file, shell);
}

/* A group that is not in one piece would be completed, and listed in the help, twice. */
static void groups_are_in_one_piece(void **state)
{
	unsigned int groups = 0;

	for (size_t i = 0; i < cli_n_commands; i++) {
		const char *space = strchr(cli_commands[i].path, ' ');
		size_t n = space ? (size_t)(space - cli_commands[i].path) + 1 : 0;

		if (!n || (i && strncmp(cli_commands[i - 1].path, cli_commands[i].path, n) == 0))
			continue;
		groups++;
		for (size_t k = 0; k < i; k++)
			if (strncmp(cli_commands[k].path, cli_commands[i].path, n) == 0)
				fail_msg("%s stands apart from %s", cli_commands[i].path,
					cli_commands[k].path);
	}
	assert_true(groups >= 5);
}

static void completions(void **state)
{
	prints("bash", "scripts/completion/weir.bash");
	prints("zsh", "scripts/completion/_weir");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(manual), cmocka_unit_test(well_formed),
		cmocka_unit_test(groups_are_in_one_piece), cmocka_unit_test(completions) };

	return cmocka_run_group_tests_name("cmd/manual", tests, NULL, NULL);
}
