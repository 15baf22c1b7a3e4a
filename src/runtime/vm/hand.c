/* Hands: see the header. What runs in the forked process allocates nothing. */
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "runtime/fork.h"
#include "runtime/sys.h"
#include "runtime/vm/hand.h"
#include "runtime/vm/jail.h"
#include "runtime/vm/live.h"
#include "runtime/vm/memory.h"
#include "runtime/vm/qmp.h"
#include "runtime/vm/rehearse.h"

#define PIPE_SIZE   (1 << 20)
#define QMP(name)   "{\"execute\":\"" name "\"}"
#define QMP_FD(name) "{\"execute\":\"" name "\",\"arguments\":{\"uri\":\"fd:state\"}}"
#define QMP_GETFD   "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"state\"}}"
#define QMP_EVENTS                                                                                    \
	"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":[{\"capability\":"   \
	"\"events\",\"state\":true}]}}"
#define QMP_FAST /* not at the 128 MiB/s that are meant for a network */                              \
	"{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":1099511627776}}"

#define QMP_SHARED(on) /* is memory that the file has left out of the stream? */                      \
	"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":[{\"capability\":"   \
	"\"x-ignore-shared\",\"state\":" on "}]}}"

/* Of a set that is QEMU's for this one command. A migration would have to carry a clone's memory with it. */
#define QMP_DEVICES_FD "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":99}}"
#define QMP_DEVICES                                                                                   \
	"{\"execute\":\"xen-save-devices-state\",\"arguments\":{\"filename\":\"/dev/fdset/99\","       \
	"\"live\":false}}"
#define QMP_DEVICES_END "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":99}}"

#define WORD_LIMIT_S 30 /* that a copy waits for its second half */

#define QMP_RESIZE                                                                                    \
	"{\"execute\":\"block_resize\",\"arguments\":{\"node-name\":\"disk\",\"size\":%" PRIu64 "}}"

struct hand {
	const struct hand_work *w;
	struct qmp qmp;
	EVP_MD_CTX *md; /* made by the parent */
	int chan, pidfd; /* the parent's, between begin and end */
	struct live live;
	struct news {
		struct err err;
		uint64_t bytes;
		uint8_t body[SNAPSHOT_DIGEST];
		uint32_t qemu;
	} news;
	_Alignas(8) char chunk[MEMORY_CHUNK];
};

/* --- in the hand --- */

static int finish_digest(struct hand *h, struct err *err)
{
	return EVP_DigestFinal_ex(h->md, h->news.body, NULL) == 1
		       ? 0
		       : err_set(err, -EIO, ERR_INTERNAL, "cannot make a digest");
}

/* From the pipe into the file, to its end. */
static int take_stream(struct hand *h, int pipe, struct err *err)
{
	for (;;) {
		uint64_t now = clock_mono_ns();
		struct pollfd p = { .fd = pipe, .events = POLLIN };
		ssize_t n;
		int r;

		if (now >= h->qmp.end || poll(&p, 1, (int)((h->qmp.end - now) / NS_PER_MS) + 1) == 0)
			return err_set(err, -ETIMEDOUT, ERR_TIMEOUT, "the machine was not written in %d s",
				HAND_LIMIT_S);
		n = read(pipe, h->chunk, sizeof(h->chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, -errno, "read from QEMU");
		if (n == 0)
			return 0;
		h->news.bytes += (uint64_t)n;
		if (h->news.bytes > h->w->limit)
			return err_set(err, -EFBIG, ERR_INTERNAL, "QEMU wrote more than the machine has");
		EVP_DigestUpdate(h->md, h->chunk, (size_t)n);
		r = fd_write_all(h->w->file, h->chunk, (size_t)n);
		if (r < 0)
			return err_sys(err, r, "write the machine's memory");
	}
}

static int leave_memory_out(struct hand *h, bool out, struct err *err)
{
	return qmp_do(&h->qmp, out ? QMP_SHARED("true") : QMP_SHARED("false"), -EBADF, err);
}

/* `cont` first: what an interrupted pause left stopped begins anew. */
static int stream(struct hand *h, bool without_memory, struct err *err)
{
	struct qmp *q = &h->qmp;
	int pipe[2], r = 0;

	if (pipe2(pipe, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "make a pipe");
	fcntl(pipe[1], F_SETPIPE_SZ, PIPE_SIZE); /* a smaller one does too */
	r = qmp_do(q, QMP_EVENTS, -EBADF, err);
	r = r < 0 ? r : qmp_do(q, QMP_FAST, -EBADF, err);
	r = r < 0 ? r : leave_memory_out(h, without_memory, err);
	r = r < 0 ? r : qmp_do(q, QMP("cont"), -EBADF, err);
	r = r < 0 ? r : qmp_do(q, QMP("stop"), -EBADF, err);
	r = r < 0 ? r : qmp_do(q, QMP_GETFD, pipe[1], err);
	fd_close(pipe[1]);
	q->migration = 0;
	r = r < 0 ? r : qmp_do(q, QMP_FD("migrate"), -EBADF, err);
	r = r < 0 ? r : take_stream(h, pipe[0], err);
	fd_close(pipe[0]);
	h->news.qemu = q->version;
	return r < 0 ? r : qmp_migrated(q, err);
}

static int save(struct hand *h, struct err *err)
{
	int r = stream(h, h->w->memory >= 0, err);

	if (r == 0 && h->w->memory >= 0)
		r = memory_write(h->w->memory, h->w->file, SNAPSHOT_MEMORY, h->md, h->chunk, err);
	return r < 0 ? r : finish_digest(h, err);
}

static int hold(struct hand *h, struct err *err)
{
	int r = stream(h, true, err);

	return r < 0 ? r : finish_digest(h, err);
}

static int check(struct hand *h, struct err *err)
{
	const struct snapshot_head *head = h->w->head;
	uint64_t left = head->bytes;
	ssize_t n = 1;
	int r = 0;

	while (left && n > 0) {
		n = read(h->w->file, h->chunk, MIN(left, sizeof(h->chunk)));
		if (n > 0) {
			EVP_DigestUpdate(h->md, h->chunk, (size_t)n);
			left -= (uint64_t)n;
			r = h->w->state >= 0 ? fd_write_all(h->w->state, h->chunk, (size_t)n) : 0;
			if (r < 0)
				return err_sys(err, r, "copy the machine's state");
		}
	}
	if (n < 0)
		return err_sys(err, -errno, "read the snapshot");
	if (head->memory)
		r = memory_read(h->w->file, SNAPSHOT_MEMORY, head->memory, h->w->memory, h->md, h->chunk, err);
	r = r < 0 ? r : finish_digest(h, err);
	if (r == 0 && (left || memcmp(h->news.body, head->body, SNAPSHOT_DIGEST) != 0))
		r = err_set(err, -EBADMSG, ERR_CONFLICT,
			"the snapshot is refused: its memory is not what was written (digest)");
	return r;
}

static int load(struct hand *h, struct err *err)
{
	struct qmp *q = &h->qmp;
	uint32_t was = h->w->head->qemu, is = q->version;
	int r;

	if (was != is)
		return err_set(err, -EBADMSG, ERR_CONFLICT,
			"the snapshot is refused: it was written by QEMU %u.%u.%u, and this is %u.%u.%u",
			was >> 16, was >> 8 & 0xff, was & 0xff, is >> 16, is >> 8 & 0xff, is & 0xff);
	r = qmp_do(q, QMP_EVENTS, -EBADF, err);
	r = r < 0 ? r : leave_memory_out(h, h->w->head->memory != 0 && !h->w->bare, err);
	r = r < 0 ? r : qmp_do(q, QMP_GETFD, h->w->file, err);
	q->migration = 0;
	r = r < 0 ? r : qmp_do(q, QMP_FD("migrate-incoming"), -EBADF, err);
	return r < 0 ? r : qmp_migrated(q, err);
}

static int resize(struct hand *h, struct err *err)
{
	snprintf(h->chunk, sizeof(h->chunk), QMP_RESIZE, h->w->limit);
	return qmp_do(&h->qmp, h->chunk, -EBADF, err);
}

/* What was said by then has been read: what its channel holds later is an answer to the next command. */
static int load_and_rehearse(struct hand *h, struct err *err)
{
	int r = load(h, err);

	r = r < 0 ? r : qmp_do(&h->qmp, QMP("cont"), -EBADF, err);
	r = r < 0 ? r : rehearse(h->w->rehearsal, h->qmp.end, h->chunk, sizeof(h->chunk), err);
	return r < 0 ? r : qmp_do(&h->qmp, QMP("stop"), -EBADF, err);
}

/* --- copies of what runs --- */

/*
 * What xen-save-devices-state writes is a migration without memory, and it lacks what comes first and last in
 * one: the machine's name, with the switches that both sides must agree in (none is on), and an empty
 * description.
 */
#define STREAM_HEAD 8 /* magic and version */
#define MACHINE_TYPE "microvm"
static const char stream_name[] = "\x07\0\0\0\x07" MACHINE_TYPE, stream_last[] = "\x06\0\0\0\0";

static int put_devices(struct hand *h, struct err *err)
{
	const int from = h->w->copy->devices, to = h->w->state;
	ssize_t n = pread(from, h->chunk, sizeof(h->chunk), 0);
	int r = n < 0 ? -errno : n <= STREAM_HEAD || n == sizeof(h->chunk) ? -EBADMSG : 0;

	r = r < 0 ? r : fd_write_all(to, h->chunk, STREAM_HEAD);
	r = r < 0 ? r : fd_write_all(to, stream_name, sizeof(stream_name) - 1);
	r = r < 0 ? r : fd_write_all(to, h->chunk + STREAM_HEAD, (size_t)n - STREAM_HEAD);
	r = r < 0 ? r : fd_write_all(to, stream_last, sizeof(stream_last) - 1);
	return r < 0 ? err_sys(err, r, "write the machine's devices") : 0;
}

/* While it stands still. */
static int take_rest(struct hand *h, struct err *err)
{
	const struct hand_copy *c = h->w->copy;
	struct stat st;
	int r = qmp_do(&h->qmp, QMP_DEVICES_FD, c->devices_qemu, err);

	FAULT("host.copy.stopped");
	r = r < 0 ? r : qmp_do(&h->qmp, QMP_DEVICES, -EBADF, err);
	r = r < 0 ? r : live_pass(&h->live, false, h->chunk, err);
	if (r == 0) {
		r = fstat(c->disk, &st) < 0 ? -errno : fd_copy_sparse(c->disk, c->disk_copy, st.st_size);
		if (r < 0)
			err_sys(err, r, "copy the machine's disk");
	}
	FAULT("host.copy.copied");
	return r;
}

static int wait_word(int chan, struct err *err)
{
	struct pollfd p = { .fd = chan, .events = POLLIN };
	char word;

	if (poll(&p, 1, WORD_LIMIT_S * 1000) <= 0 || recv(chan, &word, sizeof(word), 0) != sizeof(word))
		return err_set(err, -ETIMEDOUT, ERR_TIMEOUT, "nobody wants the copy any more");
	return 0;
}

static int copy(struct hand *h, int chan, struct err *err)
{
	const struct hand_copy *c = h->w->copy;
	int r, r2;

	h->live = (struct live){ .file = h->w->memory, .mem = c->mem, .pagemap = c->pagemap, .copy = c->memory,
		.bytes = c->bytes };
	r = live_open(&h->live, c->maps, h->chunk, err);
	r = r < 0 ? r : live_pass(&h->live, true, h->chunk, err);
	if (r < 0)
		return r;
	fdatasync(c->disk); /* QEMU does when it stops, and the machine stands still then */
	r = fork_send(chan, &h->news, sizeof(h->news), -EBADF);
	r = r < 0 ? err_sys(err, r, "tell the host role") : wait_word(chan, err);
	if (r < 0)
		return r;
	h->qmp.end = clock_mono_ns() + HAND_LIMIT_S * NS_PER_SEC;
	r = qmp_do(&h->qmp, QMP("stop"), -EBADF, err);
	r = r < 0 ? r : take_rest(h, err);
	r2 = qmp_do(&h->qmp, QMP("cont"), -EBADF, r < 0 ? NULL : err);
	r = r < 0 ? r : r2;
	if (r == 0)
		qmp_do(&h->qmp, QMP_DEVICES_END, -EBADF, NULL);
	h->news.qemu = h->qmp.version;
	return r < 0 ? r : put_devices(h, err);
}

/* After this nothing of the host's is in reach. */
static int become_nobody(struct hand *h, int chan, struct err *err)
{
	const struct hand_copy *c = h->w->copy;
	int keep[13 + REHEARSE_TALKS] = { chan, h->w->file, h->w->memory, h->w->state, h->qmp.fd }, r = 0;
	size_t n = 5;

	if (c) {
		const int more[] = { c->memory, c->mem, c->pagemap, c->maps, c->disk, c->disk_copy, c->devices,
			c->devices_qemu };

		memcpy(keep + n, more, sizeof(more));
		n += ARRAY_SIZE(more);
	}
	if (h->w->rehearsal) {
		memcpy(keep + n, h->w->rehearsal->talk, sizeof(h->w->rehearsal->talk));
		n += REHEARSE_TALKS;
	}
	if (h->w->group && (r = cgroup_enter(h->w->cgroups, h->w->group, err)) < 0)
		return r;
	if (fchdir(h->w->dir) < 0 || chroot("empty") < 0 || chdir("/") < 0)
		return err_sys(err, -errno, "enter an empty root");
	r = fork_keep(keep, n);
	r = r < 0 ? r : jail_drop(h->w->uid);
	r = r < 0 ? r : jail_mute();
	return r < 0 ? err_sys(err, r, "give up privileges") : 0;
}

static int hand_main(struct hand *h, int chan, struct err *err)
{
	const struct hand_work *w = h->w;
	int r = 0;

	fork_signals();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "weir-vm-hand");
	h->qmp.fd = -EBADF;
	h->qmp.end = clock_mono_ns() + HAND_LIMIT_S * NS_PER_SEC;
	if (w->step != HAND_CHECK)
		r = h->qmp.fd = w->qmp >= 0 ? w->qmp : qmp_connect(w->qmp_dir, w->qmp_name, err);
	r = r < 0 ? r : become_nobody(h, chan, err);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* the change of ids took it away */
	if (r == 0 && w->step != HAND_CHECK)
		r = qmp_hello(&h->qmp, err);
	if (r < 0)
		return r;
	switch (w->step) {
	case HAND_SAVE:
		return save(h, err);
	case HAND_HOLD:
		return hold(h, err);
	case HAND_CHECK:
		return check(h, err);
	case HAND_LOAD:
		return load(h, err);
	case HAND_BEGIN:
		r = load(h, err);
		return r < 0 ? r : qmp_do(&h->qmp, QMP("cont"), -EBADF, err);
	case HAND_REHEARSE:
		return load_and_rehearse(h, err);
	case HAND_ASK: /* it has answered already: with its greeting, and that it takes commands */
		return 0;
	case HAND_RESIZE:
		return resize(h, err);
	case HAND_COPY:
		return copy(h, chan, err);
	case HAND_GO:
		return qmp_do(&h->qmp, QMP("cont"), -EBADF, err);
	}
	return -EINVAL;
}

/* --- in the host role --- */

static int hear(int chan, struct news *ret, struct err *err)
{
	struct pollfd p = { .fd = chan, .events = POLLIN };
	int fd, r;

	do
		r = poll(&p, 1, (HAND_LIMIT_S + 5) * 1000);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return err_set(err, -ETIMEDOUT, ERR_TIMEOUT, "no answer in %d s", HAND_LIMIT_S);
	r = fork_recv(chan, ret, sizeof(*ret), &fd);
	fd_close(fd);
	if (r <= 0)
		return err_set(err, -EIO, ERR_INTERNAL, "it was killed (out of memory?)");
	ret->err.text[sizeof(ret->err.text) - 1] = '\0';
	ret->err.field[sizeof(ret->err.field) - 1] = '\0';
	if (ret->err.code < 0 && err)
		*err = ret->err;
	return MIN(ret->err.code, 0);
}

static int begin(struct hand *h, struct err *err)
{
	int chan;
	pid_t pid = fork_begin(-1, &h->pidfd, &chan, "a hand", err);

	if (pid == 0) {
		hand_main(h, chan, &h->news.err);
		fork_send(chan, &h->news, sizeof(h->news), -EBADF);
		_exit(0);
	}
	if (pid < 0)
		return pid;
	h->chan = chan;
	return 0;
}

static void end(struct hand *h)
{
	if (h->pidfd >= 0) {
		pidfd_send_signal(h->pidfd, SIGKILL, NULL, 0);
		fork_reap(h->pidfd);
	}
	h->pidfd = fd_close(h->pidfd);
	h->chan = fd_close(h->chan);
}

static int run(struct hand *h, struct err *err)
{
	struct news news;
	int r = begin(h, err);

	r = r < 0 ? r : hear(h->chan, &news, err);
	end(h);
	if (r == 0 && (h->w->step == HAND_SAVE || h->w->step == HAND_HOLD)) {
		h->w->head->bytes = news.bytes;
		h->w->head->qemu = news.qemu;
		memcpy(h->w->head->body, news.body, SNAPSHOT_DIGEST);
	}
	return r;
}

static void hand_set(struct hand *h, const struct hand_work *w)
{
	h->w = w;
	h->qmp = (struct qmp){ .fd = -EBADF };
	h->news = (struct news){ .bytes = 0 };
}

int hand_begin(struct hand *h, const struct hand_work *w, struct err *err)
{
	struct news news;
	int r;

	hand_set(h, w);
	r = begin(h, err);
	r = r < 0 ? r : hear(h->chan, &news, err);
	if (r < 0)
		end(h);
	return r;
}

int hand_end(struct hand *h, struct err *err)
{
	struct news news;
	int r = send(h->chan, "r", 1, MSG_NOSIGNAL) < 0 ? err_sys(err, -errno, "tell a hand") : 0;

	r = r < 0 ? r : hear(h->chan, &news, err);
	end(h);
	if (r == 0)
		h->w->head->qemu = news.qemu;
	return r;
}

void hand_free(struct hand *h)
{
	if (h) {
		end(h);
		EVP_MD_CTX_free(h->md);
	}
	free(h);
}

struct hand *hand_new(void)
{
	struct hand *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->chan = h->pidfd = -EBADF;
	h->md = EVP_MD_CTX_new();
	if (h->md && EVP_DigestInit_ex(h->md, EVP_sha256(), NULL) == 1)
		return h;
	hand_free(h);
	return NULL;
}

int hand_do(struct hand *h, const struct hand_work *w, struct err *err)
{
	hand_set(h, w);
	return run(h, err);
}

int hand_run(const struct hand_work *w, struct err *err)
{
	struct hand *h = hand_new();
	int r = h ? hand_do(h, w, err) : err_sys(err, -ENOMEM, "a hand");

	hand_free(h);
	return r;
}
