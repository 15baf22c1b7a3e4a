/*
 * Where the daemon is and which key to show it. For each of the two, the first that says wins:
 * the command line (url only), WEIR_URL and WEIR_API_KEY, the configuration file
 * ~/.config/weir/config ("key = value" lines: url, api_key), and at last http://127.0.0.1:8080
 * and, for root, the admin's key that the daemon wrote at its first start.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "cmd/cli/cli.h"

#define DEFAULT_URL "http://127.0.0.1:8080"
#define FILE_MAX    65536

static bool white(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct str trim(struct str s)
{
	while (s.n && white(s.p[0]))
		s = str_skip(s, 1);
	while (s.n && white(s.p[s.n - 1]))
		s.n--;
	return s;
}

static int set_key(struct cli_conf *conf, struct str key, const char *from, struct err *err)
{
	key = trim(key);
	for (size_t i = 0; i < key.n; i++)
		if (key.p[i] <= ' ' || key.p[i] > '~' || i >= CLI_KEY_MAX)
			return err_set(err, -EINVAL, ERR_INVALID, "%s: not an API key", from);
	snprintf(conf->key_from, sizeof(conf->key_from), "%s", from);
	return secret_copy(&conf->key, key) < 0 ? err_sys(err, -ENOMEM, "%s", from) : 0;
}

static int set_url(struct cli_conf *conf, struct str url, const char *from, struct err *err)
{
	url = trim(url);
	while (url.n && url.p[url.n - 1] == '/')
		url.n--;
	if (!str_starts(url, STR("http://")) && !str_starts(url, STR("https://")))
		return err_set(err, -EINVAL, ERR_INVALID,
			"%s: \"%.*s\" is not a URL like " DEFAULT_URL, from, (int)MIN(url.n, 80u), url.p);
	if (str_copy(conf->url, sizeof(conf->url), url) < 0 || strpbrk(conf->url, "?# "))
		return err_set(err, -EINVAL, ERR_INVALID, "%s: not a base URL", from);
	return 0;
}

static int read_text(struct cli_conf *conf, struct str text, struct err *err)
{
	unsigned int number = 0;

	while (text.p) {
		struct str line = trim(str_cut(&text, '\n')), value = line, key;
		char from[600];
		int r = 0;

		number++;
		if (!line.n || line.p[0] == '#')
			continue;
		key = trim(str_cut(&value, '='));
		snprintf(from, sizeof(from), "%s:%u", conf->path, number);
		if (value.p && str_eq_c(key, "url"))
			r = set_url(conf, value, from, err);
		else if (value.p && str_eq_c(key, "api_key"))
			r = set_key(conf, value, from, err);
		else
			r = err_set(err, -EINVAL, ERR_INVALID,
				"%s: expected \"url = ...\" or \"api_key = ...\"", from);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_file(struct cli_conf *conf, struct err *err)
{
	const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	auto_secret struct secret text = SECRET_NONE; /* the key's line is among it */
	struct stat st;
	int r;

	if (base && base[0] == '/')
		snprintf(conf->path, sizeof(conf->path), "%s/weir/config", base);
	else if (home && home[0] == '/')
		snprintf(conf->path, sizeof(conf->path), "%s/.config/weir/config", home);
	else
		return 0;
	r = secret_room(&text, FILE_MAX);
	if (r == 0)
		r = file_read(AT_FDCWD, conf->path, secret_writer(&text));
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0)
		return err_sys(err, r, "read %s", conf->path);
	r = read_text(conf, secret_reveal(&text), err);
	conf->readable_by_all = !secret_empty(&conf->key) && stat(conf->path, &st) == 0 && (st.st_mode & 0077);
	return r;
}

/* The api role owns the directory, and what we read here is sent to it: a link there must not
 * make root send it another file. */
static int read_admin_key(struct cli_conf *conf, struct err *err)
{
	auto_secret struct secret text = SECRET_NONE;
	auto_fd int fd = -EBADF;
	struct stat st;

	if (geteuid() != 0)
		return 0;
	fd = open(CLI_ADMIN_KEY, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid == 0)
		return 0;
	if (secret_room(&text, CLI_KEY_MAX) < 0 || fd_read_end(fd, secret_writer(&text)) < 0 ||
		!str_starts(secret_reveal(&text), STR("weir_")))
		return 0;
	return set_key(conf, secret_reveal(&text), CLI_ADMIN_KEY, err);
}

int cli_conf_read(struct cli_conf *conf, const char *url, struct err *err)
{
	const char *env_url = getenv("WEIR_URL"), *env_key = getenv("WEIR_API_KEY");
	int r;

	*conf = (struct cli_conf){ .url = DEFAULT_URL };
	r = read_file(conf, err);
	if (r < 0)
		return r;
	if (env_url && env_url[0])
		r = set_url(conf, str_c(env_url), "WEIR_URL", err);
	if (r == 0 && url)
		r = set_url(conf, str_c(url), "--url", err);
	if (r == 0 && env_key && env_key[0])
		r = set_key(conf, str_c(env_key), "WEIR_API_KEY", err);
	if (r == 0 && secret_empty(&conf->key))
		r = read_admin_key(conf, err);
	return r;
}
