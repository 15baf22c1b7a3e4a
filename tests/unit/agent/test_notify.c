/*
 * Changes in the file system as they happen: api/notify.c against the real agent. A test changes
 * something and waits for the line that tells of it; what must not be told is looked for behind the
 * line of a later change, since the kernel keeps the order.
 */
#include "../unit.h"
#include <sys/stat.h>
#include "api/notify.h"
#include "base/buf.h"
#include "role.h"

#define KEEP (1u << 20)

struct heard {
	struct buf text;
	unsigned int opens, ends;
	bool brief; /* what was written is not kept */
	struct err err;
	struct notify *x;
};
#define HEARD ((struct heard){ .text = BUF_MAX(KEEP) })

static void heard_done(struct heard *h)
{
	if (!h->ends)
		notify_free(h->x);
	buf_done(&h->text);
}
#define auto_heard _cleanup_(heard_done)

static void on_open(struct notify *x, void *arg)
{
	((struct heard *)arg)->opens++;
}

static void on_change(struct notify *x, enum frame_change what, struct str path, void *arg)
{
	static const char *const words[] = { "?", "created", "written", "removed", "renamed", "attributes",
		"invalidated" };

	struct heard *h = arg;

	if (what == FRAME_WRITTEN && h->brief)
		return;
	buf_fmt(&h->text, "%s " STR_FMT "\n", words[what], STR_ARG(path));
}

static void on_end(struct notify *x, const struct err *err, void *arg)
{
	struct heard *h = arg;

	h->ends++;
	if (err)
		h->err = *err;
	notify_free(x);
}

static const struct notify_ops ops = { on_open, on_change, on_end };

static void begin(struct heard *h, const char *path, bool all)
{
	*h = HEARD;
	assert_int_equal(notify_start(&loop, &lo, str_c(path), all, &ops, h, &h->x, NULL), 0);
	run_until(h->opens || h->ends);
}

static bool says(const struct heard *h, const char *line)
{
	auto_buf struct buf whole = BUF_MAX(8192);

	buf_fmt(&whole, "%s\n", line);
	return memmem(h->text.p ? h->text.p : "", h->text.n, whole.p, whole.n) != NULL;
}

#define assert_comes(h, line) run_until(says(h, line))

static void sh(const char *command)
{
	assert_int_equal(system(command), 0);
}

static void names_of_a_directory(void **state)
{
	auto_heard struct heard h;

	begin(&h, "/root/made/for/it/", false);
	assert_int_equal(h.opens, 1);
	sh("cd /root/made/for/it && echo x >a && chmod 600 a && mv a b && rm b && mkdir d && echo >d/x &&"
	   " echo >last");
	assert_comes(&h, "written /root/made/for/it/last");
	assert_true(str_eq(buf_str(&h.text), STR(
		"created /root/made/for/it/a\nwritten /root/made/for/it/a\n"
		"attributes /root/made/for/it/a\nrenamed /root/made/for/it/a\n"
		"created /root/made/for/it/b\nremoved /root/made/for/it/b\n"
		"created /root/made/for/it/d\ncreated /root/made/for/it/last\n"
		"written /root/made/for/it/last\n")));
}

static void all_below(void **state)
{
	auto_heard struct heard h;

	sh("mkdir -p /root/all/old/deep");
	begin(&h, "/root/all", true);
	sh("echo >/root/all/old/deep/f");
	assert_comes(&h, "written /root/all/old/deep/f");
	sh("mkdir -p /root/all/new/er && echo >/root/all/new/er/f");
	assert_comes(&h, "created /root/all/new/er/f"); /* found, or heard of */
	sh("echo >>/root/all/new/er/f");
	assert_comes(&h, "written /root/all/new/er/f");
	/* One that came from elsewhere with what it holds. */
	sh("mkdir /root/else && echo >/root/else/f && mv /root/else /root/all/here");
	assert_comes(&h, "created /root/all/here/f");
	/* One that went is not told of any more, under whatever name. */
	sh("mv /root/all/old /root/gone");
	assert_comes(&h, "renamed /root/all/old");
	sh("echo >/root/gone/deep/secret && echo >/root/all/end");
	assert_comes(&h, "written /root/all/end");
	assert_null(memmem(h.text.p, h.text.n, "secret", 6));
	/* And what was moved inside is told under its new name. */
	sh("mv /root/all/new /root/all/renewed && echo >/root/all/renewed/er/g");
	assert_comes(&h, "created /root/all/renewed");
	assert_comes(&h, "created /root/all/renewed/er/g");
}

static void put_end(struct agent_put *x, uint64_t bytes, const struct err *err, void *arg)
{
	++*(unsigned int *)arg;
	agent_put_free(x);
}

static void put(const char *path)
{
	static const struct agent_put_ops put_ops = { .on_end = put_end };
	unsigned int ends = 0;
	struct agent_put *x;

	assert_int_equal(agent_put_start(&loop, &lo, str_c(path), 0644, &put_ops, &ends, &x, NULL), 0);
	agent_put_write(x, STR("x"));
	agent_put_finish(x);
	run_until(ends);
}

static void uploads(void **state)
{
	auto_heard struct heard h;

	begin(&h, "/root/up", false);
	put("/root/up/f");
	put("/root/up/f");
	sh("echo >'/root/up/#1'"); /* as files of no name are called, but with this name */
	assert_comes(&h, "written /root/up/#1");
	assert_true(str_eq(buf_str(&h.text), STR("created /root/up/f\nwritten /root/up/f\n"
		"created /root/up/#1\nwritten /root/up/#1\n")));
}

static void its_end(void **state)
{
	auto_heard struct heard removed, moved, file;

	begin(&removed, "/root/r", true);
	sh("rmdir /root/r");
	run_until(removed.ends);
	assert_int_equal(removed.err.code, 0);
	assert_true(says(&removed, "removed /root/r"));
	begin(&moved, "/root/m", true);
	sh("mv /root/m /root/n");
	run_until(moved.ends);
	assert_true(says(&moved, "renamed /root/m"));
	sh("echo >/root/file");
	begin(&file, "/root/file", true);
	sh("echo >>/root/file && rm /root/file");
	run_until(file.ends);
	assert_true(says(&file, "written /root/file"));
	assert_true(says(&file, "removed /root/file"));
}

static void what_cannot_be(void **state)
{
	auto_heard struct heard h;

	sh("echo >/root/plain");
	begin(&h, "/root/plain/below", true);
	assert_int_equal(h.opens, 0);
	assert_int_equal(h.err.code, -ENOTDIR);
}

/* One more than there may be, and room again when one has left. */
static void their_number(void **state)
{
	struct heard h[17];
	auto_heard struct heard again;

	for (int i = 0; i < 17; i++)
		begin(&h[i], "/root/many", false);
	for (int i = 0; i < 16; i++)
		assert_int_equal(h[i].opens, 1);
	assert_int_equal(h[16].err.code, -EBUSY);
	for (int i = 0; i < 17; i++)
		heard_done(&h[i]);
	do { /* the agent hears of it in its own time */
		begin(&again, "/root/many", false);
		if (!again.opens)
			heard_done(&again);
	} while (!again.opens);
}

/* A reader that stops: the kernel's queue runs over, which is told, and what comes then is told again. */
static void a_slow_reader(void **state)
{
	auto_heard struct heard h;
	char path[2600] = "/root/slow";
	int fd[2];

	for (size_t n = strlen(path); n + 201 + 3 < sizeof(path); n += 201) /* few fit into a socket */
		snprintf(path + n, sizeof(path) - n, "/%0200d", 0), mkdir("/root/slow", 0755),
			mkdir(path, 0755);
	begin(&h, "/root/slow", true);
	h.brief = true;
	notify_pause(h.x, true);
	for (int i = 0; i < 2; i++) {
		size_t n = strlen(path);

		snprintf(path + n, sizeof(path) - n, "/%d", i);
		fd[i] = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd[i] >= 0);
		path[n] = '\0';
	}
	for (int i = 0; i < 60000; i++) /* one after the other, or the kernel counts them as one */
		assert_int_equal(write(fd[i % 2], "x", 1), 1);
	close(fd[0]);
	close(fd[1]);
	sh("mkdir /root/slow/late");
	notify_pause(h.x, false);
	assert_comes(&h, "invalidated /root/slow");
	h.brief = false;
	dog_ticks = 0;
	uv_timer_start(&dog, on_dog, 5, 5);
	while (!says(&h, "written /root/slow/late/f")) { /* once it is looked at again */
		sh("echo >>/root/slow/late/f");
		uv_run(&loop, UV_RUN_ONCE);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_of_a_directory, start_agent, stop_agent),
		cmocka_unit_test_setup_teardown(all_below, start_agent, stop_agent),
		cmocka_unit_test_setup_teardown(uploads, start_agent, stop_agent),
		cmocka_unit_test_setup_teardown(its_end, start_agent, stop_agent),
		cmocka_unit_test_setup_teardown(what_cannot_be, start_agent, stop_agent),
		cmocka_unit_test_setup_teardown(their_number, start_agent, stop_agent),
		cmocka_unit_test_setup_teardown(a_slow_reader, start_agent, stop_agent),
	};

	if (role_begin(argc, argv))
		return 2;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
