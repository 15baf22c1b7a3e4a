/*
 * weir cp: one file by the files route; a directory as a tar archive by way of /tmp inside.
 *
 * A download is written beside its target and renamed when it is whole. An archive from a
 * sandbox is not to be trusted: our tar unpacks it without owners, without set-user-id bits,
 * and (as GNU tar does) without leaving the target directory.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "base/ulid.h"
#include "cmd/cli/cli.h"

#define PATH_MAX_N 4096

struct place {
	bool remote;
	char id[CLI_ID_LEN];
	char path[PATH_MAX_N];
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool ends_with_slash(const char *path)
{
	size_t n = strlen(path);

	return n && path[n - 1] == '/';
}

static int say_errno(const char *what, int error)
{
	cli_say("%s: %s", what, strerror(error));
	return CLI_FAILED;
}

/* SANDBOX:/path, or a local path: one with a slash before any colon. */
static int place_from(struct cli *c, const char *word, struct place *p)
{
	struct str rest = str_c(word), name = str_cut(&rest, ':');
	char box[128];
	int r = CLI_OK;

	p->remote = rest.p && name.n && str_find(name, '/') < 0;
	if (p->remote && (str_copy(box, sizeof(box), name) < 0 || !rest.n || rest.p[0] != '/')) {
		cli_say("%.200s: the path in a sandbox must be absolute", word);
		cli_hint("write %.100s:/... ; a local file with a colon is ./%.100s", word, word);
		return CLI_USAGE;
	}
	if (p->remote)
		r = box_find(c, box, p->id);
	if (!r && str_copy(p->path, sizeof(p->path), p->remote ? rest : str_c(word)) < 0) {
		cli_say("%.60s...: the path is too long", word);
		return CLI_USAGE;
	}
	return r;
}

static void files_path(struct buf *out, const char *id, const char *path)
{
	buf_add_c(out, box_path(id, "/files?path=").s);
	api_escape(out, path);
	buf_cstr(out);
}

/* --- bytes --- */

static int send_fd(struct cli *c, const char *id, const char *path, int fd, int64_t size)
{
	auto_buf struct buf url = BUF_MAX(4 * PATH_MAX_N);
	auto_answer struct api_answer a = { 0 };
	struct api_req q = { .method = "PUT", .upload = true, .in_fd = fd, .in_size = size,
		.progress = c->opt.quiet ? NULL : base_name(path), .heed_signals = true };

	files_path(&url, id, path);
	q.path = url.p;
	return api_call(c, &q, &a);
}

/* may_be_dir: a refusal is not complained about; the caller finds out what it is. */
static int fetch_fd(struct cli *c, const char *id, const char *path, int fd, bool may_be_dir)
{
	auto_buf struct buf url = BUF_MAX(4 * PATH_MAX_N);
	auto_answer struct api_answer a = { 0 };
	struct api_req q = { .method = "GET", .download = true, .out_fd = fd,
		.progress = c->opt.quiet ? NULL : base_name(path), .heed_signals = true };

	files_path(&url, id, path);
	q.path = url.p;
	if (api_perform(c, &q, &a) == 0 && a.status >= 200 && a.status < 300)
		return CLI_OK;
	if (may_be_dir && a.curl == CURLE_OK && a.status >= 400 && a.status != 401) {
		static const char *const test[] = { "test", "-d" };
		const char *words[] = { test[0], test[1], path };

		if (box_exec_quietly(c, id, words, 3) == 0)
			return -EISDIR;
	}
	return hint_failure(c, &q, &a);
}

/* --- tar, here and inside --- */

static pid_t tar_start(const char *const *words, int fd, int as)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (dup2(fd, as) < 0)
			_exit(127);
		execvp("tar", (char *const *)words);
		fprintf(stderr, "weir: tar: %s\n", strerror(errno));
		_exit(127);
	}
	return pid;
}

static int tar_end(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return CLI_FAILED;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? CLI_OK : CLI_FAILED;
}

/* A name for an archive inside that nobody else uses. */
static void archive_name(char *out, size_t size)
{
	uint64_t random;

	random_bytes(&random, sizeof(random));
	snprintf(out, size, "/tmp/.weir-cp-%016" PRIx64 ".tar", random);
}

static int upload_dir(struct cli *c, const char *from, const struct place *to)
{
	const char *const pack[] = { "tar", "-C", from, "-cf", "-", ".", NULL };
	static const char script[] =
		"mkdir -p -- \"$2\" && tar -C \"$2\" --no-same-owner -xf \"$1\"; r=$?; "
		"rm -f -- \"$1\"; exit $r";
	const char *unpack[] = { "sh", "-c", script, "sh", NULL, to->path };
	char archive[64];
	int fds[2], r;
	pid_t pid;

	archive_name(archive, sizeof(archive));
	unpack[4] = archive;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return say_errno("pipe", errno);
	pid = tar_start(pack, fds[1], STDOUT_FILENO);
	fd_close(fds[1]);
	r = pid < 0 ? say_errno("fork", errno) : send_fd(c, to->id, archive, fds[0], -1);
	fd_close(fds[0]);
	if (pid > 0 && tar_end(pid) && !r) {
		cli_say("%s could not be read in full", from);
		r = CLI_FAILED;
	}
	/* Also after a failure: the archive must not stay. */
	if (box_exec_quietly(c, to->id, unpack, ARRAY_SIZE(unpack)) != 0 && !r) {
		cli_say("%s could not be unpacked inside", to->path);
		r = CLI_FAILED;
	}
	return r;
}

static int download_dir(struct cli *c, const struct place *from, const char *to)
{
	const char *const unpack[] = { "tar", "-C", to, "--no-same-owner", "--no-same-permissions", "-xf",
		"-", NULL };
	const char *pack[] = { "tar", "-C", from->path, "-cf", NULL, "." };
	const char *drop[] = { "rm", "-f", NULL };
	char archive[64];
	int fds[2], r;
	pid_t pid;

	if (mkdir(to, 0755) < 0 && errno != EEXIST)
		return say_errno(to, errno);
	archive_name(archive, sizeof(archive));
	pack[4] = drop[2] = archive;
	if (box_exec_quietly(c, from->id, pack, ARRAY_SIZE(pack)) != 0) {
		cli_say("%s could not be packed inside", from->path);
		box_exec_quietly(c, from->id, drop, ARRAY_SIZE(drop));
		return CLI_FAILED;
	}
	if (pipe2(fds, O_CLOEXEC) < 0)
		return say_errno("pipe", errno);
	pid = tar_start(unpack, fds[0], STDIN_FILENO);
	fd_close(fds[0]);
	r = pid < 0 ? say_errno("fork", errno) : fetch_fd(c, from->id, archive, fds[1], false);
	fd_close(fds[1]);
	if (pid > 0 && tar_end(pid) && !r)
		r = CLI_FAILED;
	box_exec_quietly(c, from->id, drop, ARRAY_SIZE(drop));
	return r;
}

/* --- the two ways --- */

static int upload(struct cli *c, const char *from, struct place *to)
{
	auto_fd int fd = -EBADF;
	struct stat st;
	int r;

	if (ends_with_slash(to->path)) {
		size_t n = strlen(to->path);
		/* The name of "." is that of the directory it stands for: nothing is added. */
		const char *name = strcmp(from, "-") == 0 ? "stdin" : base_name(from);

		if (snprintf(to->path + n, sizeof(to->path) - n, "%s", strcmp(name, ".") ? name : "") >=
			(int)(sizeof(to->path) - n))
			return say_errno(to->path, ENAMETOOLONG);
	}
	if (strcmp(from, "-") == 0)
		return send_fd(c, to->id, to->path, STDIN_FILENO, -1);
	fd = open(from, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return say_errno(from, errno);
	if (S_ISDIR(st.st_mode))
		return upload_dir(c, from, to);
	r = send_fd(c, to->id, to->path, fd, S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1);
	if (!r && S_ISREG(st.st_mode) && (st.st_mode & 0111)) {
		const char *words[] = { "chmod", "0755", to->path };

		/* The file is there; that it cannot be executed yet is worth a word. */
		if (box_exec_quietly(c, to->id, words, ARRAY_SIZE(words)) != 0)
			cli_say("%s is not executable inside", to->path);
	}
	return r;
}

static int download(struct cli *c, const struct place *from, const char *to)
{
	char target[PATH_MAX_N + 256], part[PATH_MAX_N + 300];
	auto_fd int fd = -EBADF;
	struct stat st;
	bool into;
	int r;

	if (strcmp(to, "-") == 0)
		return fetch_fd(c, from->id, from->path, STDOUT_FILENO, false);
	into = stat(to, &st) == 0 && S_ISDIR(st.st_mode);
	if (ends_with_slash(from->path) || !base_name(from->path)[0])
		return download_dir(c, from, to);
	snprintf(target, sizeof(target), "%s%s%s", to, into && !ends_with_slash(to) ? "/" : "",
		into ? base_name(from->path) : "");
	snprintf(part, sizeof(part), "%s.weir-XXXXXX", target);
	fd = mkostemp(part, O_CLOEXEC);
	if (fd < 0)
		return say_errno(target, errno);
	r = fetch_fd(c, from->id, from->path, fd, true);
	if (!r) {
		mode_t mask = umask(0);

		umask(mask);
		if (fchmod(fd, 0666 & ~mask) < 0 || rename(part, target) < 0)
			r = say_errno(target, errno);
	}
	if (r)
		unlink(part);
	/* A directory: into an existing one under its own name, else as the new one. */
	return r == -EISDIR ? download_dir(c, from, target) : r;
}

int cmd_cp(struct cli *c)
{
	struct place from, to;
	int r;

	r = place_from(c, c->argv[0], &from);
	if (!r)
		r = place_from(c, c->argv[1], &to);
	if (r)
		return r;
	if (from.remote == to.remote) {
		cli_say(from.remote ? "both are in sandboxes; copy by way of here"
				    : "neither is in a sandbox");
		cli_hint("write one as SANDBOX:/absolute/path");
		return CLI_USAGE;
	}
	cli_catch_signals();
	signal(SIGPIPE, SIG_IGN);
	return to.remote ? upload(c, from.path, &to) : download(c, &from, to.path);
}
