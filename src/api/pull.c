/* Images from registries: see the header. */
#include <openssl/evp.h>
#include <sys/queue.h>
#include "api/box.h"
#include "api/builds.h"
#include "api/createos/catalogue.h"
#include "api/mint.h"
#include "api/peers.h"
#include "api/pull.h"
#include "base/clock.h"
#include "base/hex.h"
#include "base/log.h"
#include "wire/json.h"

#define AUTH_BYTES 16384u
#define FROM_MAX   256u

struct pull_wait {
	LIST_ENTRY(pull_wait) next;
	pull_fn fn;
	void *arg;
	char user[64];
};

struct job {
	TAILQ_ENTRY(job) next;
	struct api *api;
	char name[IPC_NAME_LEN], from[FROM_MAX], user[64];
	struct secret auth; /* until it has been handed on */
	uint64_t since_ms;
	bool running;
	LIST_HEAD(, pull_wait) waits;
};

struct used {
	char name[IPC_NAME_LEN];
	uint64_t at; /* clock_mono_ns(); 0: not since the start */
};

struct pulls {
	TAILQ_HEAD(, job) jobs;
	unsigned int n, running;
	bool dropping; /* nothing starts meanwhile: it could be the one that goes */
	struct used used[IMAGES_MAX];
};

/* --- names --- */

static struct str next_registry(struct str *rest)
{
	return str_trim(str_cut(rest, ','));
}

static struct str host_of(struct str registry)
{
	return str_starts(registry, STR("http://")) ? str_skip(registry, 7) : registry;
}

static bool reference_ok(struct str s)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._/:@-";

	for (size_t i = 0; i < s.n; i++)
		if (!s.p[i] || !strchr(letters, s.p[i]))
			return false;
	return s.n && s.p[0] != '-' && s.p[0] != '/';
}

/* "host/…" has a dot, a colon or is localhost, as everywhere; anything else is of the first registry. */
static int locate(const struct api *a, struct str uri, char ret[FROM_MAX], struct str *ret_host,
	struct err *err)
{
	struct str all = str_c(a->config.images_registries), rest = uri;
	struct str head = str_cut(&rest, '/'), one;
	bool named = rest.p && (str_find(head, '.') >= 0 || str_find(head, ':') >= 0 ||
				       str_eq_c(head, "localhost"));
	int n;

	if (!reference_ok(uri))
		return err_field(err, -EINVAL, ERR_INVALID, "image",
			"image.uri: expected [host[:port]/]name[:tag][@digest]");
	if (!all.n)
		return err_field(err, -ENOENT, ERR_UPSTREAM, "rootfs",
			"unknown image: %.80s is not in this server's store, and it fetches none "
			"(images.registries)", log_q(uri));
	while (all.n) {
		one = next_registry(&all);
		if (named && !str_eq(host_of(one), head))
			continue;
		*ret_host = host_of(one);
		n = snprintf(ret, FROM_MAX, "%s" STR_FMT "/" STR_FMT,
			one.n == host_of(one).n ? "" : "http://", STR_ARG(*ret_host),
			STR_ARG(named ? rest : uri));
		return n < (int)FROM_MAX ? 0 : err_field(err, -ENAMETOOLONG, ERR_INVALID, "image",
			"image.uri: too long");
	}
	return err_field(err, -EACCES, ERR_UPSTREAM, "rootfs",
		"unknown image: the registry " STR_FMT " is not one of this server's (%s)",
		STR_ARG(head), a->config.images_registries);
}

static void hash_part(EVP_MD_CTX *md, struct str s)
{
	uint32_t n = (uint32_t)s.n;

	EVP_DigestUpdate(md, &n, sizeof(n));
	EVP_DigestUpdate(md, s.p, s.n);
}

/* Keyed, so that a name in the store is nothing to try passwords on. */
static int name_of(const struct api *a, const struct pull_ask *ask, const char *from,
	char ret[static IPC_NAME_LEN])
{
	uint8_t sum[EVP_MAX_MD_SIZE] = { 0 };
	auto_secret struct secret token = SECRET_NONE;
	char hex[65], name[33];
	EVP_MD_CTX *md = EVP_MD_CTX_new();

	if (!md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL)) {
		EVP_MD_CTX_free(md);
		return -ENOMEM;
	}
	hash_part(md, ask->login.n ? str_c(ask->user) : STR_NONE);
	hash_part(md, ask->login);
	hash_part(md, ask->login.n ? ask->password : STR_NONE);
	hash_part(md, str_c(from));
	EVP_DigestFinal_ex(md, sum, NULL);
	EVP_MD_CTX_free(md);
	hex_spell(hex, sum, 32);
	if (mint_token(a->mint, "image", str_c(hex), &token) < 0)
		return -ENOMEM;
	EVP_Digest(secret_reveal(&token).p, secret_reveal(&token).n, sum, NULL, EVP_sha256(), NULL);
	hex_spell(name, sum, 16);
	snprintf(ret, IPC_NAME_LEN, PULLED_PREFIX "%s.%s:1", a->config.daemon_name, name);
	return 0;
}

/* --- what is there --- */

static struct pulls *pulls_of(struct api *a)
{
	if (!a->pulls) {
		a->pulls = calloc(1, sizeof(*a->pulls));
		if (a->pulls)
			TAILQ_INIT(&a->pulls->jobs);
	}
	return a->pulls;
}

static struct used *used_of(struct pulls *p, const char *name)
{
	struct used *oldest = &p->used[0];

	for (size_t i = 0; i < IMAGES_MAX; i++) {
		if (strcmp(p->used[i].name, name) == 0)
			return &p->used[i];
		if (p->used[i].at < oldest->at)
			oldest = &p->used[i];
	}
	*oldest = (struct used){ .at = 0 };
	snprintf(oldest->name, sizeof(oldest->name), "%s", name);
	return oldest;
}

static bool listed(const struct api *a, const char *name)
{
	for (unsigned int i = 0; i < a->n_images; i++)
		if (strcmp(a->images[i].name, name) == 0)
			return true;
	return false;
}

bool pull_here(struct api *a, const struct pull_ask *ask, char ret[static IPC_NAME_LEN])
{
	struct pulls *p = pulls_of(a);
	char from[FROM_MAX];
	struct str host;
	struct err err;

	if (!p || ask->login.n || locate(a, ask->uri, from, &host, &err) < 0 ||
		name_of(a, ask, from, ret) < 0 || !listed(a, ret))
		return false;
	used_of(p, ret)->at = clock_mono_ns();
	return true;
}

/* --- making room --- */

static bool ours(const struct api *a, const char *name)
{
	char prefix[IPC_NAME_LEN];

	snprintf(prefix, sizeof(prefix), PULLED_PREFIX "%s.", a->config.daemon_name);
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool in_use(const struct api *a, const char *name)
{
	const struct job *j;
	struct box *b, *tmp;

	TAILQ_FOREACH (j, &a->pulls->jobs, next)
		if (strcmp(j->name, name) == 0)
			return true;
	HASH_ITER (hh, a->boxes, b, tmp)
		if (strcmp(b->row.rootfs, name) == 0)
			return true;
	return false;
}

static void make_room(struct api *a);
static void start_some(struct api *a);

static void on_dropped(struct chan_msg *m, const struct err *err, void *arg)
{
	struct api *a = arg;

	a->pulls->dropping = false;
	if (err)
		log_event(LOG_ERROR, "image.drop", "text=%s", log_q(str_c(err->text)));
	else
		make_room(a);
	start_some(a);
}

static void make_room(struct api *a)
{
	uint64_t sum = 0, oldest = UINT64_MAX;
	struct ipc_image *victim = NULL;
	struct ipc_image_drop drop = { .name = "" };
	unsigned int n = 0;

	if (a->pulls->dropping || a->pulls->running)
		return; /* the next end asks again */
	for (unsigned int i = 0; i < a->n_images; i++) {
		struct ipc_image *im = &a->images[i];
		uint64_t at;

		if (!ours(a, im->name))
			continue;
		n++;
		sum += im->bytes;
		at = used_of(a->pulls, im->name)->at;
		if (at < oldest && !in_use(a, im->name)) {
			oldest = at;
			victim = im;
		}
	}
	if (!victim || (n <= PULLED_MAX && sum <= (uint64_t)a->config.images_pulled_mib << 20))
		return;
	log_event(LOG_INFO, "image.drop", "name=%s mib=%" PRIu64 " all_mib=%" PRIu64, victim->name,
		victim->bytes >> 20, sum >> 20);
	memcpy(drop.name, victim->name, sizeof(drop.name));
	*victim = a->images[--a->n_images]; /* nobody gets it any more */
	a->pulls->dropping = true;
	host_call(a, IPC_HOST_IMAGE_DROP, &drop, sizeof(drop), -1, on_dropped, a);
}

static void on_listed(void *arg)
{
	make_room(arg);
}

/* --- pulling --- */

static void job_end(struct job *j, const struct err *err)
{
	struct api *a = j->api;
	struct pull_wait *w;

	TAILQ_REMOVE(&a->pulls->jobs, j, next);
	a->pulls->n--;
	a->pulls->running -= j->running;
	if (!err)
		used_of(a->pulls, j->name)->at = clock_mono_ns();
	while ((w = LIST_FIRST(&j->waits))) {
		struct pull_wait was = *w;

		LIST_REMOVE(w, next);
		free(w);
		was.fn(err ? NULL : j->name, err, was.arg);
	}
	secret_done(&j->auth);
	free(j);
	start_some(a);
	if (!err)
		images_fresh(a, 0, on_listed, a);
}

static void on_build_end(const struct err *err, void *arg)
{
	struct job *j = arg;

	log_event(err ? LOG_WARN : LOG_INFO, "image.pull", "from=%s user=%s%s%s", j->from, j->user,
		err ? " text=" : "", err ? log_q(str_c(err->text)) : "");
	job_end(j, err);
}

static void start_some(struct api *a)
{
	struct job *j, *next;

	for (j = TAILQ_FIRST(&a->pulls->jobs); j; j = next) {
		auto_secret struct secret auth = SECRET_NONE;

		next = TAILQ_NEXT(j, next);
		if (a->pulls->dropping || a->pulls->running >= a->config.build_at_once)
			return;
		if (j->running)
			continue;
		j->running = true;
		a->pulls->running++;
		auth = secret_take(&j->auth); /* for no longer than it takes to hand it on */
		build_start(a, &(struct build_spec){ .name = str_c(j->name), .from = str_c(j->from),
			.auth = &auth, .user = j->user, .on_end = on_build_end, .arg = j });
		next = TAILQ_FIRST(&a->pulls->jobs); /* that one may have ended at once */
	}
}

/* {"auths":{"host":{"auth":"base64 of login:password"}}} */
static int write_auth(const struct pull_ask *ask, struct str host, struct secret *ret)
{
	auto_secret struct secret plain = SECRET_NONE, coded = SECRET_NONE;
	auto_buf struct buf key = BUF_MAX(FROM_MAX);
	struct buf *p = secret_writer(&plain), *c = secret_writer(&coded);
	struct jw w = JW(secret_writer(ret));
	size_t n = ask->login.n + 1 + ask->password.n;
	int r;

	if (!ask->login.n)
		return 0;
	r = n > AUTH_BYTES / 2 ? -EFBIG : secret_room(&plain, n);
	if (r == 0)
		r = secret_room(&coded, (n + 2) / 3 * 4);
	if (r == 0)
		r = secret_room(ret, AUTH_BYTES);
	if (r < 0)
		return r;
	buf_fmt(p, STR_FMT ":" STR_FMT, STR_ARG(ask->login), STR_ARG(ask->password));
	c->n = (size_t)EVP_EncodeBlock((uint8_t *)c->p, (const uint8_t *)p->p, (int)p->n);
	buf_add_str(&key, host);
	jw_obj(&w, NULL);
	jw_obj(&w, "auths");
	jw_obj(&w, buf_cstr(&key));
	jw_str(&w, "auth", secret_reveal(&coded));
	jw_end(&w);
	jw_end(&w);
	jw_end(&w);
	return buf_failed(secret_writer(ret));
}

static int job_new(struct api *a, const struct pull_ask *ask, const char *name, const char *from,
	struct str host, struct job **ret, struct err *err)
{
	struct job *j;
	int r;

	if (a->pulls->n >= PULLS_MAX)
		return err_set(err, -EBUSY, ERR_CAPACITY, "%u images are being fetched already",
			a->pulls->n);
	j = calloc(1, sizeof(*j));
	if (!j)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	j->api = a;
	j->since_ms = api_now_ms();
	LIST_INIT(&j->waits);
	snprintf(j->name, sizeof(j->name), "%s", name);
	snprintf(j->from, sizeof(j->from), "%s", from);
	snprintf(j->user, sizeof(j->user), "%s", ask->user);
	r = write_auth(ask, host, &j->auth);
	if (r < 0) {
		secret_done(&j->auth);
		free(j);
		return r == -ENOMEM ? err_set(err, r, ERR_INTERNAL, "out of memory") :
				      err_field(err, r, ERR_INVALID, "image", "image.auth: too long");
	}
	TAILQ_INSERT_TAIL(&a->pulls->jobs, j, next);
	a->pulls->n++;
	*ret = j;
	return 0;
}

static int join(struct api *a, const struct pull_ask *ask, struct job **ret, struct err *err)
{
	char name[IPC_NAME_LEN], from[FROM_MAX];
	struct str host;
	struct job *j;
	int r = pulls_of(a) ? locate(a, ask->uri, from, &host, err) : -ENOMEM;

	if (r == 0)
		r = name_of(a, ask, from, name);
	if (r == -ENOMEM)
		return err_set(err, r, ERR_INTERNAL, "out of memory");
	if (r < 0)
		return r;
	TAILQ_FOREACH (j, &a->pulls->jobs, next)
		if (strcmp(j->name, name) == 0) {
			*ret = j;
			return 0;
		}
	return job_new(a, ask, name, from, host, ret, err);
}

struct pull_wait *pull(struct api *a, const struct pull_ask *ask, pull_fn fn, void *arg)
{
	struct pull_wait *w = calloc(1, sizeof(*w)), *still;
	struct job *j = NULL;
	struct err err;
	int r = w ? join(a, ask, &j, &err)
		  : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r < 0) {
		free(w);
		fn(NULL, &err, arg);
		return NULL;
	}
	*w = (struct pull_wait){ .fn = fn, .arg = arg };
	snprintf(w->user, sizeof(w->user), "%s", ask->user);
	LIST_INSERT_HEAD(&j->waits, w, next);
	start_some(a);
	/* Has it ended at once? */
	TAILQ_FOREACH (j, &a->pulls->jobs, next)
		LIST_FOREACH (still, &j->waits, next)
			if (still == w)
				return w;
	return NULL;
}

void pull_forget(struct pull_wait *w)
{
	LIST_REMOVE(w, next);
	free(w);
}

void pulls_each(const struct api *a, const char *user,
	void (*fn)(const struct pull_view *v, void *arg), void *arg)
{
	const struct pull_wait *w;
	const struct job *j;

	if (!a->pulls)
		return;
	TAILQ_FOREACH (j, &a->pulls->jobs, next) {
		struct pull_view v = { .from = j->from, .running = j->running,
			.since_ms = j->since_ms };

		LIST_FOREACH (w, &j->waits, next)
			v.creates += !user || strcmp(w->user, user) == 0;
		if (v.creates || !user)
			fn(&v, arg);
	}
}
