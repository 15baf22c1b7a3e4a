/*
 * weir-build NAME --store DIR: make a root file system and put it into the image store.
 *
 * Theory of operation. What an image is made of comes from a mirror or a registry and runs maintainer
 * scripts: foreign code. So the work is done by a *recipe* (scripts/images/<name>), a shell script
 * that runs as root of a user namespace of its own, in its own mount, pid, ipc and host name
 * namespaces. It owns nothing on the machine but a disk made for it and the download cache, and sees
 * no socket of the machine's services (build/view.c). Its network is the slot that the daemon started
 * us in, behind the same policy program as a sandbox's; by hand it is none, unless the machine's own
 * is asked for. The files it leaves belong to the range [uid_base, uid_base + 65535], which no sandbox
 * has, so a set-uid program in the store is nobody's root; the runtime maps the range when it mounts
 * the image. This program only stages, digests, copies and publishes; it never runs or parses what the
 * recipe brought.
 *
 * The store (several daemons may share one):
 *
 *	lock, publish, locks/	who works here (build/store.c)
 *	tmp/			staging
 *	images/<hex>/rootfs	content, named by its SHA-256, never changed once there
 *	images/<hex>/meta	name=, digest=, bytes=, uid_base=, created=
 *	names/<name>		-> ../images/<hex>, replaced by rename
 *
 * Built already: says so and ends in milliseconds; what is fetched with credentials only after the
 * registry was asked whether they still open it, so that one who lost them loses the image too.
 * --force builds anew. --uid-base 0 is the fallback for a kernel without user namespaces: the recipe
 * then runs as the real root.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "cmd/build/build.h"

#define DISK_MIB_DEFAULT   16384u
#define LAYERS_MIB_DEFAULT 8192u
#define DISK_MIB_MIN	   64u
#define DISK_MIB_MAX	   (1u << 20)

/* devbox:1 -> devbox_1 */
static int find_script(struct job *job, struct err *err)
{
	int r = path_fmt(job->script, sizeof(job->script), err, "%s/%s", job->recipes,
		job->from ? FETCH : job->name);

	if (r < 0)
		return r;
	job->script_name = strrchr(job->script, '/') + 1;
	for (char *p = strrchr(job->script, '/'); *p; p++)
		if (*p == ':')
			*p = '_';
	if (access(job->script, X_OK) < 0)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "name", "no recipe for %s in %s",
			job->name, job->recipes);
	return 0;
}

/* The recipe, then what it made: digested, copied, named. */
static int make(struct job *job, struct err *err)
{
	char hex[65];
	uint64_t bytes = 0;
	int r = disk_open(job, err);

	if (r == 0)
		r = recipe_stage(job, err);
	if (r < 0)
		return r;
	say(job->check ? "asking for %s" : job->from ? "fetching %s" : "building %s",
		job->from ? job->from : job->name);
	r = recipe_run(job, err);
	if (job->check)
		return r;
	if (r == 0) {
		say("digesting");
		r = tree_digest(job->rootfs, job->uid_base, hex, &bytes, err);
	}
	if (r == 0)
		r = store_publish(job, hex, bytes, err);
	if (r == 0)
		say("%s is sha256:%s, %" PRIu64 " MiB", job->name, hex, bytes >> 20);
	return r;
}

static int build(struct job *job, struct err *err)
{
	int r = store_open(job, err);

	if (r < 0)
		return r;
	if (!job->force && store_has(job)) {
		job->check = job->from && !secret_empty(&job->auth);
		if (!job->check)
			return 0;
	}
	r = find_script(job, err);
	if (r == 0)
		r = path_fmt(job->staging, sizeof(job->staging), err, "%s/tmp/%d", job->store,
			(int)getpid());
	if (r == 0)
		r = path_fmt(job->rootfs, sizeof(job->rootfs), err, "%s/rootfs", job->staging);
	if (r < 0)
		return r;
	r = make(job, err);
	disk_close(job);
	return r;
}

static int drop(struct job *job, struct err *err)
{
	int r = store_open(job, err);

	return r < 0 ? r : store_drop(job, err);
}

/* --- the command line --- */

/* NAME is <repository>:<tag>, lower case; it becomes file names. */
static bool name_ok(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-:");
	const char *colon = strchr(name, ':');

	return n && n < 60 && !name[n] && colon && colon != name && colon[1] &&
		!strchr(colon + 1, ':') && name[0] != '.' && name[0] != '-';
}

/* A reference that can be nothing but one: it becomes a word on skopeo's command line. */
static bool from_ok(const char *from)
{
	size_t n = strspn(from, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/:@-");

	return n && n < 256 && !from[n] && from[0] != '-' && strchr(from, '/');
}

/* http://host:port, without a password: it stands in the environment of foreign code. */
static bool proxy_ok(const char *proxy)
{
	size_t n = strspn(proxy, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:/-[]");

	return n < 256 && !proxy[n] && str_starts(str_c(proxy), STR("http://")) && n > 7;
}

static int net_from(const char *word, enum build_net *ret)
{
	static const char *const words[] = { "none", "slot", "host" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(word, words[i]) == 0) {
			*ret = (enum build_net)i;
			return 0;
		}
	return -EINVAL;
}

static int number(const char *text, uint64_t min, uint64_t max, uint32_t *ret)
{
	uint64_t n;

	if (str_u64(str_c(text), max, &n) < 0 || n < min)
		return -EINVAL;
	*ret = (uint32_t)n;
	return 0;
}

/* What came with the job: empty files are none. */
static int read_given(struct job *job, const char *auth, const char *ca, struct err *err)
{
	int r = auth ? secret_room(&job->auth, AUTH_MAX) : 0;

	if (r == 0 && auth)
		r = file_read(AT_FDCWD, auth, secret_writer(&job->auth));
	if (r < 0)
		return err_sys(err, r, "read %s", auth);
	r = ca ? file_read(AT_FDCWD, ca, &job->ca) : 0;
	return r < 0 ? err_sys(err, r, "read %s", ca) : 0;
}

static int usage(FILE *to, int code)
{
	fputs("usage: weir-build NAME --store DIR [--from IMAGE [--auth FILE] [--layers-mib N]]\n"
	      "                  [--network none|slot|host] [--proxy URL] [--ca FILE] [--disk-mib N]\n"
	      "                  [--cache DIR] [--recipes DIR] [--uid-base N] [--force]\n"
	      "       weir-build --drop NAME --store DIR\n"
	      "\n"
	      "Build the image NAME (debian:12, devbox:1) into an image store. Needs root.\n"
	      "  --store DIR     the image store\n"
	      "  --from IMAGE    fetch it: registry.example/name:tag (http://… without TLS)\n"
	      "  --auth FILE     the registry's credentials, as containers-auth.json(5) has them\n"
	      "  --layers-mib N  how large its layers may be as they are sent (default 8192)\n"
	      "  --network WORD  none (default); slot, that of the caller behind a policy; host, the\n"
	      "                  machine's own, with nothing between it and foreign code\n"
	      "  --proxy URL     http://host:port, for HTTP and HTTPS\n"
	      "  --ca FILE       certificate authorities to trust, instead of the machine's\n"
	      "  --disk-mib N    how large it may become, unpacked (default 16384; 0: no limit)\n"
	      "  --cache DIR     downloaded packages (default /var/cache/weir/build)\n"
	      "  --recipes DIR   where recipes lie (default " WEIR_RECIPES ")\n"
	      "  --uid-base N    owner range of the files; 0: no user namespace (default 4293918720)\n"
	      "  --force         build even when the store has it\n"
	      "  --drop          forget NAME, and what only it leads to\n",
		to);
	return code;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "store", required_argument, NULL, 's' }, { "cache", required_argument, NULL, 'c' },
		{ "recipes", required_argument, NULL, 'r' }, { "uid-base", required_argument, NULL, 'u' },
		{ "from", required_argument, NULL, 'i' }, { "auth", required_argument, NULL, 'a' },
		{ "network", required_argument, NULL, 'n' }, { "proxy", required_argument, NULL, 'p' },
		{ "ca", required_argument, NULL, 'C' }, { "disk-mib", required_argument, NULL, 'd' },
		{ "layers-mib", required_argument, NULL, 'l' }, { "drop", no_argument, NULL, 'D' },
		{ "force", no_argument, NULL, 'f' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' }, { 0 }
	};
	struct job job = { .cache = "/var/cache/weir/build", .recipes = WEIR_RECIPES,
		.uid_base = UID_BASE_DEFAULT, .disk_mib = DISK_MIB_DEFAULT,
		.layers_mib = LAYERS_MIB_DEFAULT, .ca = BUF_MAX(CA_MAX),
		.publish_lock = -EBADF, .build_lock = -EBADF, .name_lock = -EBADF };
	const char *tree = getenv("WEIR_RECIPES"); /* a daemon run from the build tree */
	const char *auth = NULL, *ca = NULL;
	bool dropping = false;
	struct err err = { 0 };
	int c, r = 0;

	if (tree && tree[0] == '/')
		job.recipes = tree;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 's': job.store = optarg; break;
		case 'c': job.cache = optarg; break;
		case 'r': job.recipes = optarg; break;
		case 'u': r |= number(optarg, 0, UINT32_MAX - UID_COUNT, &job.uid_base); break;
		case 'i': job.from = optarg; break;
		case 'a': auth = optarg; break;
		case 'n': r |= net_from(optarg, &job.net); break;
		case 'p': job.proxy = optarg; break;
		case 'C': ca = optarg; break;
		case 'd': r |= number(optarg, 0, DISK_MIB_MAX, &job.disk_mib); break;
		case 'l': r |= number(optarg, 1, DISK_MIB_MAX, &job.layers_mib); break;
		case 'D': dropping = true; break;
		case 'f': job.force = true; break;
		case 'h': return usage(stdout, 0);
		case 'V': puts("weir-build " WEIR_VERSION); return 0;
		default: return usage(stderr, 2);
		}
	}
	if (r < 0 || optind + 1 != argc || !job.store || job.store[0] != '/' || job.cache[0] != '/' ||
	    !name_ok(argv[optind]) || (job.from && !from_ok(job.from)) || (auth && !job.from) ||
	    (job.proxy && !proxy_ok(job.proxy)) || (job.disk_mib && job.disk_mib < DISK_MIB_MIN))
		return usage(stderr, 2);
	job.name = argv[optind];
	if (geteuid() != 0) {
		fputs("weir-build: must be started as root: it gives the image a user range of its own\n",
			stderr);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN); /* the reader of the log may leave; the build goes on */
	umask(022);
	r = read_given(&job, auth, ca, &err);
	if (r == 0)
		r = dropping ? drop(&job, &err) : build(&job, &err);
	store_close(&job);
	secret_done(&job.auth);
	buf_done(&job.ca);
	if (r == 0)
		return 0;
	fprintf(stderr, "weir-build: %s\n", err.text);
	return 1;
}
