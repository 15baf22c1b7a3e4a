/*
 * What a daemon answers the command line: the first byte chooses the command, then come answers,
 * each a status, a length and that many bytes. People's terminals see the result, and its text may
 * have been chosen inside a sandbox, so nothing but printable bytes and ends of lines may come out.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include "../fuzz.h"
#include "base/fd.h"
#include "base/rd.h"
#include "cmd/cli/cli.h"

#undef curl_easy_setopt
#undef curl_easy_getinfo
static void play_status(long *ret);
static CURLcode play_transfer(void);
static void *give_arg;
#define curl_easy_reset(h)		((void)(h))
#define curl_easy_setopt(h, what, v)	((void)(v))
#define curl_easy_getinfo(h, what, ret) play_status((long *)(ret))
#define curl_easy_perform(h)		(give_arg = &t, play_transfer())
#include "cmd/cli/api.c"

static struct rd rd;
static long status;

static void play_status(long *ret)
{
	*ret = status;
}

static CURLcode play_transfer(void)
{
	static const long statuses[] = { 200, 200, 200, 201, 400, 401, 403, 404, 409, 429, 500, 503 };
	uint8_t what = rd_u8(&rd);
	struct str body = rd_str(&rd, MIN((size_t)rd_be16(&rd), rd_left(&rd)));
	auto_buf struct buf copy = BUF_MAX(1u << 20);

	if (what >= 240)
		return (CURLcode)(what - 239);
	status = statuses[what % ARRAY_SIZE(statuses)];
	buf_add_c(&copy, "X-Request-Id: ");
	buf_add_str(&copy, str_n(body.p, MIN(body.n, (size_t)40)));
	on_header(copy.p, 1, copy.n, give_arg);
	while (body.n) { /* in two pieces */
		size_t n = (body.n + 1) / 2;

		buf_reset(&copy);
		buf_add(&copy, body.p, n);
		if (on_data(copy.p, 1, n, give_arg) != n)
			return CURLE_WRITE_ERROR;
		body = str_skip(body, n);
	}
	return CURLE_OK;
}

static void check_output(int fd)
{
	static char text[1u << 20];
	ssize_t n = pread(fd, text, sizeof(text), 0);

	for (ssize_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];

		CHECK(c == '\n' || (c >= ' ' && c != 0x7f));
		CHECK(c != 0xc2 || i + 1 == n || (unsigned char)text[i + 1] >= 0xa0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int (*const commands[])(struct cli *) = { cmd_ls, cmd_show, cmd_denials, cmd_egress_get,
		cmd_egress_explain, cmd_key_ls, cmd_rootfs_ls, cmd_shapes, cmd_egress_add,
		cmd_egress_rm, cmd_key_create, cmd_key_rm, cmd_rm, cmd_exec, cmd_rootfs_build };
	char *argv[] = { (char *)"box", (char *)"a.test", NULL };
	struct cli c = { .cmd = &cli_commands[0], .argv = argv, .argc = 2,
		.conf = { .url = "http://127.0.0.1:1" } };
	int out, kept[2];
	uint8_t form;

	if (size < 3 || size > 65536)
		return 0;
	rd = rd_from(str_n(data, size));
	form = rd_u8(&rd);
	c.opt.follow = form & 64;
	c.opt.all = form & 128;
	/* Standard output and error are a file meanwhile; they are the fuzzer's own, too. */
	out = memfd_create("out", MFD_CLOEXEC);
	for (int i = 0; i < 2; i++) {
		kept[i] = fcntl(i + 1, F_DUPFD_CLOEXEC, 10);
		dup2(out, i + 1);
	}
	commands[form % 16 % ARRAY_SIZE(commands)](&c);
	fflush(stdout);
	for (int i = 0; i < 2; i++) {
		dup2(kept[i], i + 1);
		close(kept[i]);
	}
	if (form % 16 != 13) /* a command's own output is passed on as it is */
		check_output(out);
	close(out);
	curl_easy_cleanup(c.curl);
	return 0;
}
