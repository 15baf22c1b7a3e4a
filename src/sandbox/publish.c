/*
 * Publishing: see the header. Programs of the system do what would bring foreign code into this
 * process: getent asks the host's resolver, openssl makes a certificate.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "base/log.h"
#include "base/secret.h"
#include "host/run.h"
#include "sandbox/boot.h"
#include "sandbox/daemon.h"
#include "sandbox/publish.h"
#include "sandbox/roles.h"
#include "wire/keys.h"

#define PEM_MAX	    (256u << 10)
#define LOOK_MS	    5000 /* for changed files */
#define RESOLVE_S   "10" /* seconds for getent: only a silent resolver takes so long */

struct publish {
	struct daemon *d;
	uv_timer_t look;
	uv_signal_t hup; /* SIGHUP: look now */
	unsigned int handles;
	char cert_path[256], key_path[256];
	struct timespec cert_at, key_at; /* the files' times when they were read */
	struct timespec keys_at;
	int cert, key, keys;		 /* sealed memory files, or -EBADF */
};

/* --- names --- */

static bool below_localhost(struct str domain)
{
	struct str tail = STR(".localhost");

	return str_eq_c(domain, "localhost") ||
		(domain.n > tail.n && str_eq(str_skip(domain, domain.n - tail.n), tail));
}

/* Does this machine resolve names below the domain? */
static bool resolves(const char *domain)
{
	char name[sizeof(((struct config *)0)->ingress_domain) + 8];
	const char *argv[] = { "timeout", RESOLVE_S, "getent", "ahosts", name, NULL };
	struct err err;

	snprintf(name, sizeof(name), "weir.%s", domain);
	return run_program(argv, STR_NONE, NULL, &err) == 0;
}

static void settle_template(struct config *c)
{
	bool path;

	if (!str_eq_c(str_c(c->ingress_template), "auto"))
		return;
	path = below_localhost(str_c(c->ingress_domain)) && !resolves(c->ingress_domain);
	if (path)
		log_event(LOG_WARN, "ingress.paths",
			"*.%s does not resolve here (libnss-myhostname would do it): services are "
			"published by path", c->ingress_domain);
	snprintf(c->ingress_template, sizeof(c->ingress_template), "%s", path ? "path" : "host");
}

/* --- the certificate --- */

static int make_certificate(struct publish *p, struct err *err)
{
	const char *domain = p->d->cfg.ingress_domain;
	char subject[80], names[2 * sizeof(p->d->cfg.ingress_domain) + 64], part[264];
	const char *argv[] = { "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
		"ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650", "-subj", subject,
		"-addext", names, "-keyout", part, "-out", p->cert_path, NULL };
	int r;

	snprintf(subject, sizeof(subject), "/CN=%.60s", domain);
	snprintf(names, sizeof(names), "subjectAltName=DNS:%s,DNS:*.%s", domain, domain);
	snprintf(part, sizeof(part), "%s.part", p->key_path);
	unlink(part);
	r = run_program(argv, STR_NONE, NULL, err);
	/* The key comes last: without it there is no pair. openssl makes it for its owner alone. */
	if (r == 0 && rename(part, p->key_path) < 0)
		r = err_sys(err, -errno, "write %s", p->key_path);
	return r;
}

static int read_text(const char *path, size_t max, struct secret *text, struct timespec *at,
	struct err *err)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, -errno, "read %s", path);
	r = secret_room(text, max);
	if (r == 0)
		r = fd_read_end(fd, secret_writer(text));
	if (r < 0)
		return err_sys(err, r, "read %s", path);
	*at = st.st_mtim;
	return 0;
}

static int read_pem(const char *path, struct timespec *at, struct err *err)
{
	auto_secret struct secret text = SECRET_NONE; /* the key is one, and both are read alike */
	int r = read_text(path, PEM_MAX, &text, at, err);

	if (r < 0)
		return r;
	r = memfd_sealed("pem", secret_reveal(&text));
	return r < 0 ? err_sys(err, r, "read %s", path) : r;
}

static int read_pair(struct publish *p, struct err *err)
{
	auto_fd int cert = read_pem(p->cert_path, &p->cert_at, err);
	auto_fd int key = cert < 0 ? -EBADF : read_pem(p->key_path, &p->key_at, err);

	if (cert < 0 || key < 0)
		return cert < 0 ? cert : key;
	fd_close(p->cert);
	fd_close(p->key);
	p->cert = take_fd(cert);
	p->key = take_fd(key);
	return 0;
}

static bool is_newer(const char *path, const struct timespec *at)
{
	struct stat st;

	return stat(path, &st) == 0 &&
		(st.st_mtim.tv_sec != at->tv_sec || st.st_mtim.tv_nsec != at->tv_nsec);
}

/* --- the keys --- */

static int read_keys(struct publish *p, struct err *err)
{
	auto_keys struct ipc_ingress_keys keys = { 0 };
	auto_secret struct secret text = SECRET_NONE;
	const char *path = p->d->cfg.gateway_keys;
	int r = read_text(path, KEYS_FILE_MAX, &text, &p->keys_at, err);

	if (r == 0)
		r = keys_read(path, secret_reveal(&text), &keys, err);
	if (r < 0)
		return r;
	r = memfd_sealed("keys", str_n(&keys, sizeof(keys)));
	if (r < 0)
		return err_sys(err, r, "read %s", path);
	fd_close(p->keys);
	p->keys = r;
	log_event(LOG_INFO, "gateway.keys", "file=%s keys=%u", path, keys.n);
	return 0;
}

static void look_keys(struct publish *p)
{
	struct chan *api = roles_api(p->d->roles, 0);
	struct err err;

	if (!p->d->cfg.gateway_keys[0] || !is_newer(p->d->cfg.gateway_keys, &p->keys_at))
		return;
	if (read_keys(p, &err) < 0)
		log_event(LOG_ERROR, "gateway.keys", "error=%s; those before stay", log_q(str_c(err.text)));
	else if (api && publish_boot_api(p, api) < 0)
		log_event(LOG_ERROR, "gateway.keys", "error=\"the api role was not told\"");
}

/* --- when files change --- */

static void tell_worker(struct chan *c, void *arg)
{
	publish_boot(arg, c);
}

/* Both files change one after the other: a pair that does not fit is refused by the workers, and
 * the second file's change brings the one that does. */
static void look_pair(struct publish *p)
{
	struct err err;

	if (!is_newer(p->cert_path, &p->cert_at) && !is_newer(p->key_path, &p->key_at))
		return;
	if (read_pair(p, &err) < 0) {
		log_event(LOG_ERROR, "ingress.cert", "error=%s", log_q(str_c(err.text)));
		return;
	}
	log_event(LOG_INFO, "ingress.cert", "file=%s", p->cert_path);
	roles_each_edge(p->d->roles, tell_worker, p);
}

static void look(struct publish *p)
{
	look_pair(p);
	look_keys(p);
}

static void on_look(uv_timer_t *t)
{
	look(t->data);
}

static void on_hup(uv_signal_t *s, int signum)
{
	look(s->data);
}

/* --- together --- */

static int find_pair(struct publish *p, struct err *err)
{
	const struct config *c = &p->d->cfg;

	if (c->ingress_cert[0]) {
		snprintf(p->cert_path, sizeof(p->cert_path), "%s", c->ingress_cert);
		snprintf(p->key_path, sizeof(p->key_path), "%s", c->ingress_key);
		return read_pair(p, err);
	}
	snprintf(p->cert_path, sizeof(p->cert_path), "%s/ingress.crt", p->d->path.state);
	snprintf(p->key_path, sizeof(p->key_path), "%s/ingress.key", p->d->path.state);
	if (access(p->key_path, F_OK) == 0)
		return read_pair(p, err);
	if (make_certificate(p, err) < 0)
		return -EIO;
	return read_pair(p, err);
}

int publish_open(struct daemon *d, struct publish **ret, struct err *err)
{
	struct publish *p = calloc(1, sizeof(*p));
	struct err why;

	if (!p)
		return err_sys(err, -ENOMEM, "publish");
	p->d = d;
	p->cert = p->key = p->keys = -EBADF;
	settle_template(&d->cfg);
	if (find_pair(p, &why) < 0)
		log_event(LOG_WARN, "ingress.cert", "error=%s; each edge process makes its own",
			log_q(str_c(why.text)));
	if (d->cfg.gateway_keys[0] && read_keys(p, &why) < 0)
		log_event(LOG_ERROR, "gateway.keys", "error=%s; no endpoint can be signed",
			log_q(str_c(why.text)));
	uv_timer_init(&d->loop, &p->look);
	p->look.data = p;
	uv_timer_start(&p->look, on_look, LOOK_MS, LOOK_MS);
	uv_unref((uv_handle_t *)&p->look);
	uv_signal_init(&d->loop, &p->hup);
	p->hup.data = p;
	uv_signal_start(&p->hup, on_hup, SIGHUP);
	uv_unref((uv_handle_t *)&p->hup);
	p->handles = 2;
	*ret = p;
	return 0;
}

int publish_boot(const struct publish *p, struct chan *c)
{
	int r = boot_fd(c, "ingress.cert", p->cert);

	return r < 0 ? r : boot_fd(c, "ingress.key", p->key);
}

int publish_boot_api(const struct publish *p, struct chan *c)
{
	return boot_fd(c, "gateway.keys", p->keys);
}

static void closed(uv_handle_t *h)
{
	struct publish *p = h->data;

	if (--p->handles == 0)
		free(p);
}

void publish_free(struct publish *p)
{
	if (!p)
		return;
	fd_close(p->cert);
	fd_close(p->key);
	fd_close(p->keys);
	uv_close((uv_handle_t *)&p->hup, closed);
	uv_close((uv_handle_t *)&p->look, closed);
}
