/*
 * Frames and their messages. A message is described by a table of fields: tag, kind, place in
 * union frame_body, limits. One encoder writes it, one decoder reads it, and both ask the same
 * field_ok(), which is why decode(encode(x)) is x and nothing but encode's form is accepted.
 */
#include "wire/frame.h"

enum kind { END_OF_FIELDS, U32, U64, TEXT, PATH, BYTES, LIST, ENVS };

struct field {
	enum kind kind;
	uint16_t offset;
	bool required;
	uint64_t min, max; /* numbers: value; the rest: length, of each entry for lists */
};

#define AT(member) (uint16_t)offsetof(union frame_body, member)
#define ENTRY_MAX  FRAME_REQUEST_MAX

/* The tag of a field is its position in its row, from 1. */
#define FIELDS_MAX 15u /* of one message */
static const struct field fields[][FIELDS_MAX + 1] = {
	[FRAME_EXEC] = { { LIST, AT(exec.argv), true, 0, ENTRY_MAX },
		{ ENVS, AT(exec.env), false, 2, ENTRY_MAX },
		{ PATH, AT(exec.cwd), false, 1, FRAME_PATH_MAX },
		{ U32, AT(exec.flags), false, 1, FRAME_EXEC_KILL } },
	[FRAME_PUT] = { { PATH, AT(put.path), true, 1, FRAME_PATH_MAX },
		{ U32, AT(put.mode), false, 1, 07777 },
		{ TEXT, AT(put.owner), false, 1, FRAME_OWNER_MAX },
		{ TEXT, AT(put.group), false, 1, FRAME_OWNER_MAX },
		{ U32, AT(put.exact), false, 1, 1 } },
	[FRAME_GET] = { { PATH, AT(get.path), true, 1, FRAME_PATH_MAX },
		{ U64, AT(get.offset), false, 1, INT64_MAX },
		{ U64, AT(get.length), false, 1, INT64_MAX } },
	[FRAME_WAKE] = { { TEXT, AT(wake.hostname), false, 1, FRAME_NAME_MAX },
		{ BYTES, AT(wake.ip4), false, 4, 4 },
		{ BYTES, AT(wake.ip6), false, 16, 16 },
		{ U64, AT(wake.wall_ns), false, 1, UINT64_MAX },
		{ BYTES, AT(wake.entropy), false, 1, FRAME_ENTROPY_MAX },
		{ ENVS, AT(wake.env), false, 2, ENTRY_MAX },
		{ LIST, AT(wake.ssh_keys), false, 1, ENTRY_MAX },
		{ BYTES, AT(wake.overlay), false, 4, 4 },
		{ BYTES, AT(wake.machine), false, 16, 16 } },
	[FRAME_CONNECT] = { { U32, AT(connect.port), true, 1, UINT16_MAX } },
	[FRAME_START] = { { LIST, AT(start.argv), true, 0, ENTRY_MAX },
		{ ENVS, AT(start.env), false, 2, ENTRY_MAX },
		{ PATH, AT(start.cwd), false, 1, FRAME_PATH_MAX },
		{ U32, AT(start.flags), false, 1, FRAME_START_FLAGS },
		{ TEXT, AT(start.id), true, 1, FRAME_ID_MAX },
		{ TEXT, AT(start.label), false, 1, FRAME_ID_MAX },
		{ TEXT, AT(start.note), false, 1, FRAME_NOTE_MAX },
		{ U32, AT(start.size), false, 1, UINT32_MAX },
		{ U32, AT(start.timeout_ms), false, 1, UINT32_MAX },
		{ U32, AT(start.idle_ms), false, 1, UINT32_MAX },
		{ U32, AT(start.keep), false, 1, UINT32_MAX },
		{ U32, AT(start.uid), false, 1, INT32_MAX },
		{ U32, AT(start.gid), false, 1, INT32_MAX } },
	[FRAME_ATTACH] = { { TEXT, AT(attach.id), true, 1, FRAME_ID_MAX },
		{ U64, AT(attach.from), false, 1, INT64_MAX },
		{ U32, AT(attach.flags), false, 1, FRAME_ATTACH_FLAGS },
		{ BYTES, AT(attach.input), false, 1, FRAME_REQUEST_MAX } },
	[FRAME_PROCS] = { { TEXT, AT(procs.label), false, 1, FRAME_ID_MAX },
		{ TEXT, AT(procs.id), false, 1, FRAME_ID_MAX } },
	[FRAME_CONTROL] = { { TEXT, AT(control.id), true, 1, FRAME_ID_MAX },
		{ U32, AT(control.flags), false, 1, FRAME_CONTROL_FLAGS },
		{ U32, AT(control.signal), false, 1, 64 },
		{ U32, AT(control.size), false, 1, UINT32_MAX },
		{ U32, AT(control.grace_ms), false, 1, UINT32_MAX } },
	[FRAME_TREE] = { { U32, AT(tree.op), true, FRAME_TREE_STAT, FRAME_TREE_REPLACE },
		{ PATH, AT(tree.path), true, 1, FRAME_PATH_MAX },
		{ PATH, AT(tree.target), false, 1, FRAME_PATH_MAX },
		{ TEXT, AT(tree.pattern), false, 1, FRAME_PATH_MAX },
		{ BYTES, AT(tree.old), false, 1, FRAME_REQUEST_MAX },
		{ BYTES, AT(tree.new), false, 1, FRAME_REQUEST_MAX },
		{ U32, AT(tree.depth), false, 1, UINT16_MAX },
		{ U32, AT(tree.mode), false, 1, 07777 },
		{ U32, AT(tree.flags), false, 1, FRAME_TREE_FLAGS },
		{ TEXT, AT(tree.owner), false, 1, FRAME_OWNER_MAX },
		{ TEXT, AT(tree.group), false, 1, FRAME_OWNER_MAX } },
	[FRAME_NOTIFY] = { { PATH, AT(notify.path), true, 1, FRAME_PATH_MAX },
		{ U32, AT(notify.flags), false, 1, FRAME_NOTIFY_ALL } },
	[FRAME_GO] = { { U64, AT(go.wall_ns), true, 1, INT64_MAX } },
	[FRAME_STARTED] = { { U32, AT(started.pid), true, 1, INT32_MAX } },
	[FRAME_EXIT] = { { U32, AT(exit.code), true, 0, 255 },
		{ U32, AT(exit.signal), false, 1, 64 },
		{ TEXT, AT(exit.error), false, 1, FRAME_SENTENCE_MAX } },
	[FRAME_OK] = { { U64, AT(ok.bytes), false, 1, INT64_MAX },
		{ U32, AT(ok.mode), false, 1, 07777 },
		{ U64, AT(ok.size), false, 1, INT64_MAX } },
	[FRAME_ERROR] = { { U32, AT(error.code), true, 1, 4095 },
		{ TEXT, AT(error.text), true, 1, FRAME_SENTENCE_MAX } },
	[FRAME_SIGNAL] = { { U32, AT(signal.kind), true, FRAME_SIGNAL_PAUSE, FRAME_SIGNAL_DELETE },
		{ TEXT, AT(signal.reason), false, 1, FRAME_REASON_MAX } },
	[FRAME_KILL] = { { U32, AT(kill.signal), true, 1, 64 } },
	[FRAME_SEEK] = { { U64, AT(seek.offset), false, 1, INT64_MAX } },
	[FRAME_PROC] = { { TEXT, AT(proc.id), true, 1, FRAME_ID_MAX },
		{ TEXT, AT(proc.label), false, 1, FRAME_ID_MAX },
		{ TEXT, AT(proc.note), false, 1, FRAME_NOTE_MAX },
		{ U32, AT(proc.flags), false, 1, FRAME_PROC_FLAGS },
		{ U32, AT(proc.pid), false, 1, INT32_MAX },
		{ U32, AT(proc.size), false, 1, UINT32_MAX },
		{ U64, AT(proc.started_ms), false, 1, INT64_MAX },
		{ U64, AT(proc.ended_ms), false, 1, INT64_MAX },
		{ U32, AT(proc.code), false, 1, 255 },
		{ U32, AT(proc.signal), false, 1, 64 },
		{ TEXT, AT(proc.error), false, 1, FRAME_SENTENCE_MAX },
		{ U64, AT(proc.oldest), false, 1, INT64_MAX },
		{ U64, AT(proc.newest), false, 1, INT64_MAX } },
	[FRAME_RESIZE] = { { U32, AT(resize.size), true, 1, UINT32_MAX } },
	[FRAME_ENTRY] = { { PATH, AT(entry.path), true, 1, FRAME_PATH_MAX },
		{ U32, AT(entry.kind), true, FRAME_FILE, FRAME_OTHER },
		{ U32, AT(entry.mode), false, 1, 07777 },
		{ U64, AT(entry.bytes), false, 1, INT64_MAX },
		{ U64, AT(entry.modified_ns), false, 1, INT64_MAX },
		{ U64, AT(entry.created_ns), false, 1, INT64_MAX },
		{ TEXT, AT(entry.owner), false, 1, FRAME_OWNER_MAX },
		{ TEXT, AT(entry.group), false, 1, FRAME_OWNER_MAX },
		{ TEXT, AT(entry.target), false, 1, FRAME_PATH_MAX } },
	[FRAME_CHANGE] = { { PATH, AT(change.path), true, 1, FRAME_PATH_MAX },
		{ U32, AT(change.what), true, FRAME_CREATED, FRAME_INVALIDATED } },
};

static bool type_known(uint8_t type)
{
	return (type >= FRAME_EXEC && type <= FRAME_GO) ||
		(type >= FRAME_DATA && type <= FRAME_CHANGE);
}

static bool type_raw(uint8_t type)
{
	return type == FRAME_DATA || type == FRAME_STDOUT || type == FRAME_STDERR ||
		type == FRAME_SIDE;
}

/* Messages that may be longer than a frame. */
static bool type_long(uint8_t type)
{
	return type == FRAME_EXEC || type == FRAME_WAKE || type == FRAME_START ||
		type == FRAME_ATTACH || type == FRAME_TREE;
}

static bool type_empty(uint8_t type)
{
	return type == FRAME_END || type == FRAME_PING || type == FRAME_WATCH ||
		type == FRAME_SLEEP;
}

static bool frame_ok(uint8_t type, uint8_t flags, size_t length)
{
	if (!type_known(type) || length > FRAME_MAX)
		return false;
	if (flags == FRAME_MORE)
		return type_long(type) && length == FRAME_MAX;
	if (flags || (type_empty(type) && length) || (type_raw(type) && !length))
		return false;
	return true;
}

/* --- frames --- */

void frame_header(uint8_t raw[FRAME_HEADER], uint8_t type, uint8_t flags, uint32_t length)
{
	const uint8_t h[FRAME_HEADER] = { type, flags, 0, 0, (uint8_t)(length >> 24),
		(uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length };

	memcpy(raw, h, sizeof(h));
}

int frame_add(struct buf *out, uint8_t type, uint8_t flags, struct str body)
{
	uint8_t raw[FRAME_HEADER];
	int r;

	if (!frame_ok(type, flags, body.n))
		return -EINVAL;
	frame_header(raw, type, flags, (uint32_t)body.n);
	r = buf_room(out, sizeof(raw) + body.n); /* whole or not at all */
	if (r < 0)
		return r;
	buf_add(out, raw, sizeof(raw));
	return buf_add_str(out, body);
}

int frame_next(struct str *in, struct frame *ret)
{
	struct rd rd = rd_from(*in);
	uint8_t type, flags;
	uint16_t zero;
	uint32_t length;

	if (in->n < FRAME_HEADER)
		return 0;
	type = rd_u8(&rd);
	flags = rd_u8(&rd);
	zero = rd_be16(&rd);
	length = rd_be32(&rd);
	if (zero || !frame_ok(type, flags, length)) /* judged before the body has come */
		return -EBADMSG;
	if (rd_left(&rd) < length)
		return 0;
	*ret = (struct frame){ .type = type, .flags = flags, .body = rd_str(&rd, length) };
	*in = str_skip(*in, FRAME_HEADER + length);
	return 1;
}

/* --- fields --- */

static bool value_ok(const struct field *f, struct str v)
{
	if (v.n < f->min || v.n > f->max)
		return false;
	if (f->kind == BYTES)
		return true;
	if (str_find(v, '\0') >= 0 || (f->kind == PATH && v.p[0] != '/'))
		return false;
	return f->kind != ENVS || str_find(v, '=') > 0;
}

static void field_add(struct buf *out, size_t tag, struct str v)
{
	buf_be32(out, (uint32_t)tag << 24);
	buf_be32(out, (uint32_t)v.n);
	buf_add_str(out, v);
}

static int number_encode(const struct field *f, size_t tag, const void *at, struct buf *out)
{
	uint64_t v = f->kind == U32 ? *(const uint32_t *)at : *(const uint64_t *)at;

	if (v == 0 && !f->required)
		return 0;
	if (v < f->min || v > f->max)
		return -EINVAL;
	buf_be32(out, (uint32_t)tag << 24);
	buf_be32(out, f->kind == U32 ? 4 : 8);
	if (f->kind == U32)
		buf_be32(out, (uint32_t)v);
	else
		buf_be64(out, v);
	return 0;
}

static int list_encode(const struct field *f, size_t tag, const struct frame_list *l,
	struct buf *out)
{
	if ((f->required && !l->n) || l->n > FRAME_LIST_MAX)
		return -EINVAL;
	for (size_t i = 0; i < l->n; i++) {
		if (!value_ok(f, l->v[i]))
			return -EINVAL;
		field_add(out, tag, l->v[i]);
	}
	return 0;
}

static int field_encode(const struct field *f, size_t tag, const void *at, struct buf *out)
{
	const struct str *v = at;

	switch (f->kind) {
	case U32:
	case U64:
		return number_encode(f, tag, at, out);
	case LIST:
	case ENVS:
		return list_encode(f, tag, at, out);
	case TEXT:
	case PATH:
	case BYTES:
		if (v->n == 0 && !f->required)
			return 0;
		if (!value_ok(f, *v))
			return -EINVAL;
		field_add(out, tag, *v);
		return 0;
	case END_OF_FIELDS:
		break;
	}
	return -EINVAL;
}

static int pieces_add(struct buf *out, uint8_t type, struct str body)
{
	int r;

	while (body.n > FRAME_MAX) {
		r = frame_add(out, type, FRAME_MORE, str_n(body.p, FRAME_MAX));
		if (r < 0)
			return r;
		body = str_skip(body, FRAME_MAX);
	}
	return frame_add(out, type, 0, body);
}

int frame_encode(struct buf *out, uint8_t type, const union frame_body *msg)
{
	auto_buf struct buf body = BUF_MAX(FRAME_REQUEST_MAX);
	int r;

	if (!type_known(type) || type_raw(type))
		return -EINVAL;
	for (size_t i = 0; type < ARRAY_SIZE(fields) && fields[type][i].kind; i++) {
		const struct field *f = &fields[type][i];

		r = field_encode(f, i + 1, (const char *)msg + f->offset, &body);
		if (r < 0)
			return r;
	}
	if (buf_failed(&body))
		return buf_failed(&body);
	return pieces_add(out, type, buf_str(&body));
}

/* --- decoding --- */

static int number_decode(const struct field *f, struct str v, void *at)
{
	struct rd rd = rd_from(v);
	uint64_t n = f->kind == U32 ? rd_be32(&rd) : rd_be64(&rd);

	if (rd_failed(&rd) || rd_left(&rd) || n < f->min || n > f->max)
		return -EBADMSG;
	if (f->kind == U32)
		*(uint32_t *)at = (uint32_t)n;
	else
		*(uint64_t *)at = n;
	return 0;
}

/* Lists grow by doubling; FRAME_LIST_MAX is a power of two. */
static int list_add(struct frame_list *l, struct str v)
{
	if (l->n == FRAME_LIST_MAX)
		return -EBADMSG;
	if ((l->n & (l->n - 1)) == 0) {
		struct str *p = realloc(l->v, MAX(l->n * 2, (size_t)1) * sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->v = p;
	}
	l->v[l->n++] = v;
	return 0;
}

static int field_decode(const struct field *f, struct str v, void *at)
{
	if (f->kind == U32 || f->kind == U64)
		return number_decode(f, v, at);
	if (!value_ok(f, v))
		return -EBADMSG;
	if (f->kind == LIST || f->kind == ENVS)
		return list_add(at, v);
	*(struct str *)at = v;
	return 0;
}

static bool field_repeats(const struct field *f)
{
	return f->kind == LIST || f->kind == ENVS;
}

static int fields_decode(const struct field *row, struct rd *rd, union frame_body *ret)
{
	size_t last = 0, tag;
	int r;

	while (rd_left(rd)) {
		uint32_t head = rd_be32(rd), n = rd_be32(rd);
		struct str v = rd_str(rd, n);
		const struct field *f;

		tag = head >> 24;
		if (rd_failed(rd) || (head & 0xffffff) || !tag || tag > FIELDS_MAX || !row[tag - 1].kind)
			return -EBADMSG;
		f = &row[tag - 1];
		if (tag < last || (tag == last && !field_repeats(f)))
			return -EBADMSG;
		for (size_t i = last + 1; i < tag; i++) /* skipped fields must be optional */
			if (row[i - 1].required)
				return -EBADMSG;
		last = tag;
		r = field_decode(f, v, (char *)ret + f->offset);
		if (r < 0)
			return r;
	}
	for (tag = last; row[tag].kind; tag++)
		if (row[tag].required)
			return -EBADMSG;
	return rd_failed(rd) ? -EBADMSG : 0;
}

int frame_decode(uint8_t type, struct str body, union frame_body *ret)
{
	struct rd rd = rd_from(body);
	int r;

	memset(ret, 0, sizeof(*ret));
	if (!type_known(type) || type_raw(type) || body.n > FRAME_REQUEST_MAX)
		return -EBADMSG;
	if (type_empty(type))
		return body.n ? -EBADMSG : 0;
	r = fields_decode(fields[type], &rd, ret);
	if (r < 0)
		frame_body_done(type, ret);
	return r;
}

void frame_body_done(uint8_t type, union frame_body *msg)
{
	for (size_t i = 0; type < ARRAY_SIZE(fields) && fields[type][i].kind; i++) {
		const struct field *f = &fields[type][i];

		if (field_repeats(f))
			free(((struct frame_list *)(void *)((char *)msg + f->offset))->v);
	}
	memset(msg, 0, sizeof(*msg));
}

int frame_join(struct frame_join *j, const struct frame *f)
{
	int r;

	if (j->type == 0)
		j->type = f->type;
	else if (j->type != f->type || !f->body.n) /* a further piece is never empty */
		return -EBADMSG;
	r = buf_add_str(&j->body, f->body);
	if (r < 0)
		return r;
	return f->flags & FRAME_MORE ? 0 : 1;
}
