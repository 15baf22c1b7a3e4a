/*
 * Names in the file system: api/tree.c against the real agent, and parts and owners of files.
 */
#include "../unit.h"
#include <sys/stat.h>
#include "api/tree.h"
#include "base/buf.h"
#include "role.h"

struct heard {
	struct buf text;
	unsigned int ends;
	uint64_t n, size;
	struct err err;
};
#define HEARD ((struct heard){ .text = BUF_MAX(1 << 20) })

static void heard_done(struct heard *h)
{
	buf_done(&h->text);
}
#define auto_heard _cleanup_(heard_done)

/* A line each: kind, mode, bytes, owner, path. */
static void on_entry(struct tree *x, const struct tree_entry *e, void *arg)
{
	struct heard *h = arg;

	buf_fmt(&h->text, "%c %o %llu " STR_FMT " " STR_FMT STR_FMT STR_FMT "\n", "?fdlo"[e->kind],
		e->mode, e->kind == FRAME_DIR ? 0 : (unsigned long long)e->bytes, STR_ARG(e->owner),
		STR_ARG(e->path), e->target.n ? 4 : 0, " -> ", STR_ARG(e->target));
	assert_true(e->modified_ns > 0 && e->created_ns > 0);
}

static void on_end(struct tree *x, uint64_t n, const struct err *err, void *arg)
{
	struct heard *h = arg;

	h->ends++;
	h->n = n;
	if (err)
		h->err = *err;
	tree_free(x);
}

static const struct tree_ops ops = { on_entry, on_end };

static struct heard ask(struct tree_spec spec)
{
	struct heard h = HEARD;
	struct tree *x;

	assert_int_equal(tree_start(&loop, &lo, &spec, &ops, &h, &x, NULL), 0);
	run_until(h.ends);
	return h;
}

static void assert_says(struct tree_spec spec, const char *want)
{
	auto_heard struct heard h = ask(spec);

	if (h.err.code || !str_eq(buf_str(&h.text), str_c(want)))
		fail_msg("%s got '" STR_FMT "' want '%s'", h.err.text, STR_ARG(buf_str(&h.text)), want);
}

static void assert_does(struct tree_spec spec, uint64_t n)
{
	auto_heard struct heard h = ask(spec);

	if (h.err.code || h.n != n)
		fail_msg("%s; %llu instead of %llu", h.err.text, (unsigned long long)h.n,
			(unsigned long long)n);
}

static void assert_fails(struct tree_spec spec, int code)
{
	auto_heard struct heard h = ask(spec);

	assert_int_equal(h.err.code, code);
	assert_true(h.err.text[0]);
}

static void put_end(struct agent_put *x, uint64_t bytes, const struct err *err, void *arg)
{
	struct heard *h = arg;

	h->ends++;
	if (err)
		h->err = *err;
	agent_put_free(x);
}

static struct err put(const char *path, const char *text, struct agent_put_mark mark)
{
	static const struct agent_put_ops put_ops = { .on_end = put_end };
	auto_heard struct heard h = HEARD;
	struct agent_put *x;

	assert_int_equal(agent_put_as(&loop, &lo, str_c(path), &mark, &put_ops, &h, &x, NULL), 0);
	assert_true(agent_put_write(x, str_c(text)) >= 0);
	assert_int_equal(agent_put_finish(x), 0);
	run_until(h.ends);
	return h.err;
}

static void get_open(struct agent_get *x, uint64_t size, void *arg)
{
	struct heard *h = arg;

	h->n = size;
	h->size = agent_get_size(x);
}

static void get_data(struct agent_get *x, struct str data, void *arg)
{
	buf_add_str(&((struct heard *)arg)->text, data);
}

static void get_end(struct agent_get *x, const struct err *err, void *arg)
{
	struct heard *h = arg;

	h->ends++;
	if (err)
		h->err = *err;
	agent_get_free(x);
}

static struct heard get(const char *path, uint64_t offset, uint64_t length)
{
	static const struct agent_get_ops get_ops = { get_open, get_data, get_end };
	struct heard h = HEARD;
	struct agent_get *x;

	assert_int_equal(agent_get_part(&loop, &lo, str_c(path), offset, length, &get_ops, &h, &x, NULL),
		0);
	run_until(h.ends);
	return h;
}

#define AT(op_, path_) .op = FRAME_TREE_##op_, .path = STR("/root/t" path_)

static void making_and_looking(void **state)
{
	assert_does((struct tree_spec){ AT(MKDIR, "/a/b"), .mode = 0750,
			    .flags = FRAME_TREE_ALL | FRAME_TREE_MODE }, 1);
	assert_fails((struct tree_spec){ AT(MKDIR, "/x/y"), .mode = 0750 }, -ENOENT);
	put("/root/t/a/z.txt", "hello", (struct agent_put_mark){ 0 });
	put("/root/t/a/b/c.c", "", (struct agent_put_mark){ 0600, STR("1000"), STR("5") });
	assert_int_equal(symlink("z.txt", "/root/t/a/link"), 0);
	assert_says((struct tree_spec){ AT(STAT, "/a/z.txt") }, "f 644 5 0 /root/t/a/z.txt\n");
	assert_says((struct tree_spec){ AT(STAT, "/a/b/c.c") }, "f 600 0 1000 /root/t/a/b/c.c\n");
	assert_says((struct tree_spec){ AT(STAT, "/a/link") },
		"l 777 5 0 /root/t/a/link -> z.txt\n");
	assert_fails((struct tree_spec){ AT(STAT, "/none") }, -ENOENT);
	assert_says((struct tree_spec){ AT(LIST, "/a"), .depth = 1 },
		"d 750 0 0 /root/t/a/b\nl 777 5 0 /root/t/a/link -> z.txt\n"
		"f 644 5 0 /root/t/a/z.txt\n");
	assert_says((struct tree_spec){ AT(LIST, "//"), .depth = 3 },
		"d 755 0 0 /root/t/a\nd 750 0 0 /root/t/a/b\nf 600 0 1000 /root/t/a/b/c.c\n"
		"l 777 5 0 /root/t/a/link -> z.txt\nf 644 5 0 /root/t/a/z.txt\n");
	assert_fails((struct tree_spec){ AT(LIST, "/a/z.txt") }, -ENOTDIR);
	assert_says((struct tree_spec){ AT(FIND, ""), .pattern = STR("*.[ct]*") },
		"f 600 0 1000 /root/t/a/b/c.c\nf 644 5 0 /root/t/a/z.txt\n");
	assert_int_equal(symlink("a", "/root/t/dir"), 0);
	assert_fails((struct tree_spec){ AT(LIST, "/dir"), .flags = FRAME_TREE_DIR }, -ENOTDIR);
	assert_says((struct tree_spec){ AT(LIST, "/dir/b"), .depth = 1 },
		"f 600 0 1000 /root/t/dir/b/c.c\n");
}

static void changing_and_moving(void **state)
{
	assert_does((struct tree_spec){ AT(CHANGE, "/a/z.txt"), .mode = 0, .owner = STR("77"),
			    .flags = FRAME_TREE_MODE }, 1);
	assert_says((struct tree_spec){ AT(STAT, "/a/z.txt") }, "f 0 5 77 /root/t/a/z.txt\n");
	assert_fails((struct tree_spec){ AT(CHANGE, "/a/z.txt"), .owner = STR("nobody-here") },
		-EINVAL);
	assert_fails((struct tree_spec){ AT(MOVE, "/a/z.txt"), .target = STR("/root/t/n/m/z"),
			     .flags = FRAME_TREE_KEEP }, -ENOENT);
	assert_does((struct tree_spec){ AT(MOVE, "/a/z.txt"), .target = STR("/root/t/n/m/z"),
			    .flags = FRAME_TREE_KEEP | FRAME_TREE_ALL }, 1);
	assert_fails((struct tree_spec){ AT(MOVE, "/a/b/c.c"), .target = STR("/root/t/n/m/z"),
			     .flags = FRAME_TREE_KEEP | FRAME_TREE_ALL }, -EEXIST);
	assert_does((struct tree_spec){ AT(MOVE, "/a/b/c.c"), .target = STR("/root/t/n/m/z") }, 1);
	assert_says((struct tree_spec){ AT(STAT, "/n/m/z") }, "f 600 0 1000 /root/t/n/m/z\n");
	assert_fails((struct tree_spec){ AT(MOVE, "/none"), .target = STR("/root/t/y") }, -ENOENT);
}

static void replacing(void **state)
{
	auto_heard struct heard all = HEARD;

	put("/root/t/r", "one two one\n", (struct agent_put_mark){ 0640, STR("9"), STR("9") });
	assert_does((struct tree_spec){ AT(REPLACE, "/r"), .old = STR("one"), .new = STR("three") }, 2);
	assert_says((struct tree_spec){ AT(STAT, "/r") }, "f 640 16 9 /root/t/r\n");
	assert_does((struct tree_spec){ AT(REPLACE, "/r"), .old = STR("nothing") }, 0);
	assert_does((struct tree_spec){ AT(REPLACE, "/r"), .old = STR("three ") }, 1);
	all = get("/root/t/r", 0, 0);
	assert_true(str_eq(buf_str(&all.text), STR("two three\n")));
	assert_fails((struct tree_spec){ AT(REPLACE, "/none"), .old = STR("x") }, -ENOENT);
	assert_fails((struct tree_spec){ AT(REPLACE, "/n"), .old = STR("x") }, -EISDIR);
}

static void parts(void **state)
{
	auto_heard struct heard all = get("/root/t/r", 0, 0), mid = get("/root/t/r", 4, 5),
				end = get("/root/t/r", 8, 100), none = get("/root/t/r", 10, 0),
				past = get("/root/t/r", 11, 0);

	assert_int_equal(all.size, 10);
	assert_int_equal(mid.n, 5);
	assert_int_equal(mid.size, 10);
	assert_true(str_eq(buf_str(&mid.text), STR("three")));
	assert_true(str_eq(buf_str(&end.text), STR("e\n")));
	assert_int_equal(none.n + (uint64_t)none.err.code, 0);
	assert_int_equal(past.err.kind, ERR_INVALID);
}

static void removing(void **state)
{
	struct stat st;

	assert_fails((struct tree_spec){ AT(REMOVE, "/n"), .flags = FRAME_TREE_FILES }, -EISDIR);
	assert_fails((struct tree_spec){ AT(REMOVE, "/n") }, -ENOTEMPTY);
	assert_does((struct tree_spec){ AT(REMOVE, "/none"), .flags = FRAME_TREE_FILES }, 0);
	assert_int_equal(symlink("/root/t/r", "/root/t/n/out"), 0);
	assert_does((struct tree_spec){ AT(REMOVE, "/n"), .flags = FRAME_TREE_ALL }, 4);
	assert_fails((struct tree_spec){ AT(STAT, "/n") }, -ENOENT);
	assert_int_equal(stat("/root/t/r", &st), 0); /* what a link named is there */
	assert_fails((struct tree_spec){ .op = FRAME_TREE_REMOVE, .path = STR("/"),
			     .flags = FRAME_TREE_ALL }, -EBUSY);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(making_and_looking),
		cmocka_unit_test(changing_and_moving),
		cmocka_unit_test(replacing),
		cmocka_unit_test(parts),
		cmocka_unit_test(removing),
	};

	if (role_begin(argc, argv))
		return 2;
	return cmocka_run_group_tests(tests, start_agent, stop_agent);
}
