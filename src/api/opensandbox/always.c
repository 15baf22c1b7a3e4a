/* The operator's lists: see the header. */
#include <sys/stat.h>
#include "api/box.h"
#include "api/dialect.h"
#include "api/opensandbox/always.h"
#include "base/fd.h"
#include "base/log.h"

#define LOOK_MS	 1000u /* two calls of stat() */
#define FILE_MAX (1u << 20)

struct list {
	const char *path; /* the configuration's; "" : none */
	struct stat seen; /* st_ino 0: not there */
	struct buf text;
	struct str *targets; /* into text */
	size_t n;
};

struct always {
	struct list deny, allow;
	struct opensandbox_always lists;
	struct tick *tick;
};

static void list_done(struct list *l)
{
	buf_done(&l->text);
	free(l->targets);
}

static int list_parse(struct list *l, struct err *err)
{
	struct str rest = buf_str(&l->text);
	unsigned int number = 0;

	l->targets = calloc(OPENSANDBOX_ALWAYS_MAX, sizeof(*l->targets));
	if (!l->targets)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	while (rest.n) {
		struct str line = str_cut(&rest, '\n'), target;
		const char *why = "";

		number++;
		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		if (opensandbox_always_line(line, &target, &why) < 0)
			return err_set(err, -EINVAL, ERR_INVALID, "%s:%u: %s: %s", l->path, number,
				log_q(str_n(line.p, MIN(line.n, (size_t)80))), why);
		if (target.n && l->n == OPENSANDBOX_ALWAYS_MAX)
			return err_set(err, -E2BIG, ERR_INVALID, "%s:%u: more than %u targets",
				l->path, number, OPENSANDBOX_ALWAYS_MAX);
		if (target.n)
			l->targets[l->n++] = target;
	}
	return 0;
}

/* 1: it is another file than the one seen, and *next holds it; 0: the same. */
static int list_look(const struct list *l, struct list *next, struct err *err)
{
	struct stat st = { 0 };
	int r;

	*next = (struct list){ .path = l->path, .text = BUF_MAX(FILE_MAX) };
	if (l->path[0] && stat(l->path, &st) < 0) {
		if (errno != ENOENT && errno != ENOTDIR)
			return err_sys(err, -errno, "look at %s", l->path);
		st = (struct stat){ 0 };
	}
	if (st.st_ino == l->seen.st_ino && st.st_size == l->seen.st_size &&
		st.st_mtim.tv_sec == l->seen.st_mtim.tv_sec &&
		st.st_mtim.tv_nsec == l->seen.st_mtim.tv_nsec)
		return 0;
	next->seen = st;
	if (!st.st_ino)
		return 1;
	r = file_read(AT_FDCWD, l->path, &next->text);
	if (r < 0)
		err_sys(err, r, "read %s", l->path);
	else
		r = list_parse(next, err);
	if (r < 0)
		list_done(next);
	return r < 0 ? r : 1;
}

static int list_update(struct list *l, bool *changed, struct err *err)
{
	struct list next;
	int r = list_look(l, &next, err);

	if (r == 1) {
		list_done(l);
		*l = next;
		*changed = true;
	} else if (r < 0) {
		l->seen = next.seen; /* once is enough said */
	}
	return MIN(r, 0);
}

static void publish(struct api *a)
{
	struct always *w = a->always;

	w->lists = (struct opensandbox_always){ .deny = w->deny.targets, .n_deny = w->deny.n,
		.allow = w->allow.targets, .n_allow = w->allow.n,
		.block_doh = a->config.egress_block_doh_443, .doh = a->config.egress_doh_blocklist.p,
		.n_doh = a->config.egress_doh_blocklist.n };
}

/* Every policy of the dialect, read anew with the lists as they are now. */
static void put_in_force(struct api *a)
{
	struct box *b, *tmp;
	unsigned int n = 0;

	HASH_ITER (hh, a->boxes, b, tmp) {
		struct policy *p = NULL;
		struct err err;

		if (b->row.dialect != POLICY_OPENSANDBOX || b->row.state == LIFE_DESTROYING)
			continue;
		if (dialect_policy(a, b->row.dialect, str_c(b->row.policy_json), &p, &err) < 0) {
			log_event(LOG_ERROR, "egress.always", "sandbox=%s text=%s", b->row.id,
				log_q(str_c(err.text)));
			continue;
		}
		flow_policy(b, p, str_c(b->row.policy_json), b->row.dialect, NULL, NULL, NULL);
		n++;
	}
	log_event(LOG_INFO, "egress.always", "deny=%zu allow=%zu sandboxes=%u", a->always->deny.n,
		a->always->allow.n, n);
}

static void look(void *arg)
{
	struct api *a = arg;
	struct always *w = a->always;
	bool changed = false;
	struct err err;

	if (list_update(&w->deny, &changed, &err) < 0 || list_update(&w->allow, &changed, &err) < 0)
		log_event(LOG_ERROR, "egress.always", "text=%s", log_q(str_c(err.text)));
	publish(a);
	if (changed && a->ready)
		put_in_force(a);
}

int always_open(struct api *a, struct err *err)
{
	struct always *w = calloc(1, sizeof(*w));
	bool changed;
	int r;

	if (!w)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	a->always = w;
	w->deny.path = a->config.egress_deny_always;
	w->allow.path = a->config.egress_allow_always;
	r = list_update(&w->deny, &changed, err);
	if (r == 0)
		r = list_update(&w->allow, &changed, err);
	publish(a);
	if (r == 0)
		w->tick = tick_new(a->loop, LOOK_MS, LOOK_MS, look, a);
	return r;
}

const struct opensandbox_always *always_lists(const struct api *a)
{
	return &a->always->lists;
}
