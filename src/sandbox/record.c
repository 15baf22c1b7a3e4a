/* Records of sandboxes: see the header. */
#include <dirent.h>
#include <fcntl.h>
#include "base/fault.h"
#include "base/fd.h"
#include "base/ulid.h"
#include "sandbox/record.h"

bool record_id_ok(const char *id)
{
	struct ulid u;

	return strncmp(id, "sb-", 3) == 0 && ulid_from(str_c(id + 3), &u) == 0 &&
	       strcmp(u.s, id + 3) == 0;
}

uint64_t record_boot(void)
{
	auto_buf struct buf b = BUF_MAX(64);
	uint64_t v = 0;

	if (file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &b) < 0)
		return 1;
	for (size_t i = 0; i < b.n && i < 18; i++) {
		char c = b.p[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t)(c - 'a' + 10);
	}
	return v ? v : 1;
}

int record_encode(const struct record *r, struct buf *out)
{
	struct str rt = str_c(r->rt);

	buf_fmt(out, "id=%s\nboot=%" PRIu64 "\nslot=%u\nifindex=%u\nlink=%s\nruntime=%s\nip4=%s\n",
		r->id, r->boot, r->slot, r->ifindex, r->link, r->runtime, ip_text(r->ip4).s);
	if (r->ip6.family)
		buf_fmt(out, "ip6=%s\n", ip_text(r->ip6).s);
	if (r->dead)
		buf_fmt(out, "dead=%u\n", (unsigned int)r->exit_status);
	while (rt.n) {
		struct str line = str_cut(&rt, '\n');

		if (line.n)
			buf_fmt(out, "rt." STR_FMT "\n", STR_ARG(line));
	}
	return buf_failed(out);
}

static int u32(struct str v, uint32_t *ret)
{
	uint64_t n;
	int r = str_u64(v, UINT32_MAX, &n);

	if (r == 0)
		*ret = (uint32_t)n;
	return r;
}

static int address(struct str v, uint8_t family, struct ip *ret)
{
	int r = ip_from(v, ret);

	return r < 0 ? r : ret->family == family ? 0 : -EINVAL;
}

static int rt_line(struct record *r, struct str key, struct str value)
{
	size_t n = strlen(r->rt);
	int k = snprintf(r->rt + n, sizeof(r->rt) - n, STR_FMT "=" STR_FMT "\n", STR_ARG(key),
		STR_ARG(value));

	return k < 0 || (size_t)k >= sizeof(r->rt) - n ? -E2BIG : 0;
}

static int one_line(struct record *r, struct str key, struct str value)
{
	uint32_t status = 0;
	int k;

	if (str_starts(key, STR("rt.")))
		return rt_line(r, str_skip(key, 3), value);
	if (str_eq_c(key, "id"))
		return str_copy(r->id, sizeof(r->id), value);
	if (str_eq_c(key, "boot"))
		return str_u64(value, UINT64_MAX, &r->boot);
	if (str_eq_c(key, "slot"))
		return u32(value, &r->slot);
	if (str_eq_c(key, "ifindex"))
		return u32(value, &r->ifindex);
	if (str_eq_c(key, "link"))
		return str_copy(r->link, sizeof(r->link), value);
	if (str_eq_c(key, "runtime"))
		return str_copy(r->runtime, sizeof(r->runtime), value);
	if (str_eq_c(key, "ip4"))
		return address(value, 4, &r->ip4);
	if (str_eq_c(key, "ip6"))
		return address(value, 6, &r->ip6);
	if (!str_eq_c(key, "dead"))
		return -EINVAL;
	k = u32(value, &status);
	r->dead = true;
	r->exit_status = (int32_t)status;
	return k;
}

int record_decode(struct str text, struct record *ret, struct err *err)
{
	*ret = (struct record){ .slot = 0 };
	while (text.n) {
		struct str line = str_cut(&text, '\n'), key = str_cut(&line, '=');
		int r;

		if (!text.p || !line.p)
			return err_set(err, -EBADMSG, ERR_INTERNAL, "record: cut short");
		r = one_line(ret, key, line);
		if (r < 0)
			return err_set(err, -EBADMSG, ERR_INTERNAL,
				"record: bad line \"" STR_FMT "\"", STR_ARG(key));
	}
	if (!record_id_ok(ret->id) || !ret->slot || !ret->link[0] || !ret->boot ||
		!ret->ip4.family || !ret->runtime[0])
		return err_set(err, -EBADMSG, ERR_INTERNAL, "record: incomplete");
	return 0;
}

int record_save(int dir, const struct record *r, struct err *err)
{
	auto_buf struct buf b = BUF_MAX(RECORD_MAX);
	int k = record_encode(r, &b);

	if (k == 0)
		k = FAULT_ERROR("host.record.save");
	if (k == 0)
		k = file_replace(dir, r->id, buf_str(&b), 0600, false);
	return k < 0 ? err_sys(err, k, "write the record of %s", r->id) : 0;
}

int record_load(int dir, const char *id, struct record *ret, struct err *err)
{
	auto_buf struct buf b = BUF_MAX(RECORD_MAX);
	int r = file_read(dir, id, &b);

	if (r < 0)
		return err_sys(err, r, "read the record of %s", id);
	r = record_decode(buf_str(&b), ret, err);
	if (r == 0 && strcmp(ret->id, id) != 0)
		return err_set(err, -EBADMSG, ERR_INTERNAL, "record of %s names %s", id, ret->id);
	return r;
}

int record_remove(int dir, const char *id)
{
	return unlinkat(dir, id, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int record_each(int dir, int (*fn)(const char *id, void *arg), void *arg)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;

	if (!d) {
		r = -errno;
		fd_close(copy);
		return r;
	}
	while (r == 0 && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (record_id_ok(e->d_name))
			r = fn(e->d_name, arg);
		else
			unlinkat(dir, e->d_name, 0); /* what an interrupted save left */
	}
	closedir(d);
	return r;
}
