/* Learned names in the kernel's map: see the header. */
#include "base/base.h"
#include "base/fd.h"
#include "bpf/map.h"
#include "datapath/keys.h"
#include "edge/hash.h"
#include "edge/keeper_kernel.h"

struct note {
	struct note *next;
	struct weir_name_key key;
	struct kept kept;
};
struct former { /* what was kept of one sandbox */
	UT_hash_handle hh;
	uint8_t box[sizeof(((struct weir_name_key *)0)->box)];
	struct note *notes;
};
struct keeper_kernel {
	int fd;
	struct former *former;
};

/* FNV-1a: the map outlives the key of hash_bytes(). Names that collide, on one address of one
 * sandbox, replace each other: the later is kept. */
static uint64_t hash_stable(const struct name *name)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (uint8_t i = 0; i < name->n; i++)
		h = (h ^ (uint8_t)name->s[i]) * 0x100000001b3u;
	return h;
}

static struct weir_name_key key_name(const char *box, struct ip ip, const struct name *name)
{
	struct weir_name_key key = { .addr = key_addr(ip), .family = ip.family,
		.hash = hash_stable(name) };

	memcpy(key.box, box, strnlen(box, sizeof(key.box)));
	return key;
}

static int do_keep(void *arg, const char *box, const struct kept *k)
{
	const struct keeper_kernel *keeper = arg;
	struct weir_name_key key = key_name(box, k->ip, &k->name);
	struct weir_name value = { .expires = k->expires, .from = key_addr(k->from),
		.from_family = k->from.family, .n = k->name.n };

	memcpy(value.s, k->name.s, k->name.n);
	return map_set(keeper->fd, &key, &value);
}

static void do_forget(void *arg, const char *box, struct ip ip, const struct name *name)
{
	const struct keeper_kernel *keeper = arg;
	struct weir_name_key key = key_name(box, ip, name);

	map_delete(keeper->fd, &key);
}

static void former_end(struct keeper_kernel *k, struct former *f)
{
	HASH_DEL(k->former, f);
	while (f->notes) {
		struct note *n = f->notes;

		f->notes = n->next;
		free(n);
	}
	free(f);
}

static void do_recall(void *arg, const char *box, kept_fn fn, void *fn_arg)
{
	struct keeper_kernel *k = arg;
	uint8_t id[sizeof(((struct former *)0)->box)] = { 0 };
	struct former *f;

	memcpy(id, box, strnlen(box, sizeof(id)));
	HASH_FIND(hh, k->former, id, sizeof(id), f);
	if (!f)
		return;
	for (const struct note *n = f->notes; n; n = n->next)
		fn(fn_arg, &n->kept);
	former_end(k, f);
}

static const struct keeper_ops kernel_ops = { do_keep, do_forget, do_recall };

struct keeper keeper_kernel(struct keeper_kernel *k)
{
	return (struct keeper){ &kernel_ops, k };
}

static struct former *former_get(struct keeper_kernel *k, const uint8_t *box)
{
	struct former *f;

	HASH_FIND(hh, k->former, box, sizeof(f->box), f);
	if (f)
		return f;
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	memcpy(f->box, box, sizeof(f->box));
	HASH_ADD(hh, k->former, box, sizeof(f->box), f);
	if (table_has(f))
		return f;
	free(f);
	return NULL;
}

/* -EBADMSG: not what do_keep() writes. Names are read by the one parser there is, as any text. */
static int note_read(const struct weir_name_key *key, const struct weir_name *value,
	struct kept *ret)
{
	*ret = (struct kept){ .ip = { .family = (uint8_t)key->family }, .expires = value->expires,
		.from = { .family = (uint8_t)value->from_family } };
	memcpy(ret->ip.a, key->addr.a, sizeof(ret->ip.a));
	memcpy(ret->from.a, value->from.a, sizeof(ret->from.a));
	if ((key->family != 4 && key->family != 6) ||
		(value->from_family && value->from_family != 4 && value->from_family != 6) ||
		value->n > sizeof(value->s) ||
		name_from(str_n(value->s, value->n), &ret->name, NULL) < 0)
		return -EBADMSG;
	return 0;
}

static int read_all(struct keeper_kernel *k)
{
	struct weir_name_key key, next;
	struct weir_name value;

	for (int r = map_next(k->fd, NULL, &next); r == 0; r = map_next(k->fd, &key, &next)) {
		struct former *f;
		struct note *n;

		key = next;
		if (map_get(k->fd, &key, &value) < 0)
			continue; /* another worker has just let go of it */
		f = former_get(k, key.box);
		n = calloc(1, sizeof(*n));
		if (!f || !n) {
			free(n);
			return -ENOMEM;
		}
		n->key = key;
		if (note_read(&key, &value, &n->kept) < 0) {
			free(n);
			continue;
		}
		n->next = f->notes;
		f->notes = n;
	}
	return 0;
}

int keeper_kernel_new(int names_fd, struct keeper_kernel **ret)
{
	struct keeper_kernel *k = calloc(1, sizeof(*k));
	int r;

	if (!k) {
		fd_close(names_fd);
		return -ENOMEM;
	}
	k->fd = names_fd;
	r = read_all(k);
	if (r < 0)
		keeper_kernel_free(k);
	else
		*ret = k;
	return r;
}

void keeper_kernel_synced(struct keeper_kernel *k)
{
	struct former *f, *tmp;

	HASH_ITER(hh, k->former, f, tmp) {
		for (const struct note *n = f->notes; n; n = n->next)
			map_delete(k->fd, &n->key);
		former_end(k, f);
	}
}

struct keeper_kernel *keeper_kernel_free(struct keeper_kernel *k)
{
	struct former *f, *tmp;

	if (!k)
		return NULL;
	HASH_ITER(hh, k->former, f, tmp)
		former_end(k, f);
	fd_close(k->fd);
	free(k);
	return NULL;
}
