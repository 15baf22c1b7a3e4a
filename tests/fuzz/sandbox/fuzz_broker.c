/*
 * Requests of a role that was taken over, as the host role's table meets them: kind of peer and
 * phase, type, serial, number of descriptors, payload. The rest of the host role is played, and
 * holds the table to its promises: text is terminated, numbers fit their arrays, each request is
 * answered exactly once or its sender dropped, and nothing happens outside its phase or for a role
 * that may not ask.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include "../fuzz.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/rd.h"
#include "runtime/image.h"
#include "sandbox/box.h"
#include "sandbox/broker.h"
#include "sandbox/builds.h"
#include "sandbox/burst.h"
#include "sandbox/daemon.h"
#include "sandbox/net.h"
#include "sandbox/slots.h"

static struct daemon host;
static struct role_peer peer;
static unsigned int answers, acts;
static int result; /* of what is played */

static int act(bool api)
{
	CHECK(host.phase == DAEMON_SERVING && peer.kind == (api ? ROLE_API : ROLE_EDGE));
	acts++;
	return result;
}

#define TEXT(array) CHECK(ipc_text_ok(array, sizeof(array)))

/* --- channels --- */

int chan_reply(struct chan *c, uint32_t serial, int32_t status, const void *payload, size_t n,
	const int *fds, unsigned int n_fds)
{
	CHECK(serial && n <= IPC_MSG_MAX && n_fds <= IPC_FDS_MAX);
	for (unsigned int i = 0; i < n_fds; i++)
		CHECK(fcntl(fds[i], F_GETFD) >= 0);
	answers++;
	return 0;
}

int chan_reply_err(struct chan *c, uint32_t serial, const struct err *err)
{
	CHECK(serial && err->code < 0 && err->text[0]);
	answers++;
	return 0;
}

int chan_take_fd(struct chan_msg *m, unsigned int i)
{
	return i < m->n_fds ? take_fd(m->fds[i]) : -EBADF;
}

unsigned int chan_queued(const struct chan *c)
{
	return 0;
}

/* --- sandboxes --- */

struct box *box_find(struct boxes *b, const char *id)
{
	CHECK(strnlen(id, IPC_ID_LEN) < IPC_ID_LEN);
	return id[0] == 's' ? (struct box *)&host : NULL;
}

int boxes_each(struct boxes *b, box_fn fn, void *arg)
{
	int r = 0;

	for (int i = 0; i < 3 && r == 0; i++)
		r = fn(NULL, arg);
	return act(true) < 0 ? result : r;
}

void box_describe(const struct box *x, struct ipc_sandbox *ret)
{
	*ret = (struct ipc_sandbox){ .slot = 1 };
}

int box_commit(struct box *x, uint32_t slot, uint32_t share, uint32_t policy_id,
	const struct policy *p, struct err *err)
{
	CHECK(p);
	return act(true);
}

int net_rules(struct daemon *d, const struct ipc_net *net, struct err *err)
{
	return act(true);
}

int box_nets(struct box *x, const struct ipc_nets *nets, struct err *err)
{
	return act(true);
}

int box_ingress(struct box *x, const struct ipc_ingress *q, int fds[IPC_INGRESS_PORTS],
	unsigned int *n_fds, struct err *err)
{
	*n_fds = 0;
	return act(true);
}

int box_freeze(struct box *x, box_done_fn done, void *arg, struct err *err)
{
	int r = act(true);

	if (r == 0)
		done(NULL, arg);
	return r;
}

int box_copy(struct box *x, enum ipc_copy_step step, box_done_fn done, void *arg, struct err *err)
{
	int r;

	CHECK(step <= IPC_COPY_DROP);
	r = act(true);
	if (r == 0)
		done(NULL, arg);
	return r;
}

void boxes_drop_copies(struct boxes *b)
{
}

int box_thaw(struct box *x, box_done_fn done, void *arg, struct err *err)
{
	int r = act(true);

	if (r == 0)
		done(NULL, arg);
	return r;
}

int box_stats(struct box *x, struct ipc_stats *ret, struct err *err)
{
	return act(true);
}

int box_grow(struct box *x, const struct ipc_grow *how, box_done_fn done, void *arg, struct err *err)
{
	act(true);
	if (result == 0)
		done(NULL, arg);
	return result < 0 ? err_sys(err, result, "grow") : 0;
}

void box_destroy(struct box *x, bool keep_disk, box_done_fn done, void *arg)
{
	struct err err;

	act(true);
	if (result < 0)
		err_sys(&err, result, "destroy");
	done(result < 0 ? &err : NULL, arg);
}

void runners_tell(const struct daemon *d, struct ipc_host_info *ret)
{
	snprintf(ret->runtimes, sizeof(ret->runtimes), "container");
}

void runners_tally(const struct daemon *d, struct ipc_machines *ret)
{
	*ret = (struct ipc_machines){ .ready = 1 };
}

int runners_drop_layer(struct daemon *d, const char *id, struct err *err)
{
	CHECK(record_id_ok(id)); /* it becomes a path */
	return act(true);
}

int burst_add(struct burst *b, const struct ipc_spawn *req, uint32_t life, uint32_t serial,
	struct err *err)
{
	TEXT(req->id);
	TEXT(req->hostname);
	TEXT(req->image);
	TEXT(req->runtime);
	if (act(true) == 0)
		answers++; /* later */
	return result;
}

void slots_reserve(struct slots *s, const uint32_t *numbers, unsigned int n)
{
	uint32_t sum = 0;

	for (unsigned int i = 0; i < n; i++)
		sum += numbers[i];
	CHECK(n < 5000 || sum);
	act(true);
}

unsigned int slots_used(const struct slots *s)
{
	return 1;
}

/* --- the rest of the daemon --- */

struct chan *roles_api(struct roles *r, uint32_t life)
{
	return peer.chan;
}

int roles_pair(struct roles *r, uint32_t worker)
{
	return act(true);
}

uint32_t net_host_addresses(const struct daemon *d, struct ip *ret, uint32_t max)
{
	return 0;
}

int builds_ask(struct builds *b, const struct ipc_build *q, int auth, uint32_t life, uint32_t serial,
	struct err *err)
{
	CHECK(strnlen(q->name, IPC_NAME_LEN) < IPC_NAME_LEN && strnlen(q->id, IPC_ID_LEN) < IPC_ID_LEN);
	CHECK(strnlen(q->from, sizeof(q->from)) < sizeof(q->from));
	fd_close(auth);
	if (act(true) == 0)
		answers++; /* later */
	return result;
}

int builds_drop(struct builds *b, const char *name, uint32_t life, uint32_t serial, struct err *err)
{
	CHECK(strnlen(name, IPC_NAME_LEN) < IPC_NAME_LEN);
	if (act(true) == 0)
		answers++; /* later */
	return result;
}

bool builds_has(const struct builds *b, const char *id)
{
	CHECK(strnlen(id, IPC_ID_LEN) < IPC_ID_LEN);
	return id[0] == 'b';
}

int builds_commit(struct builds *b, const struct ipc_commit *q, const struct policy *p,
	struct err *err)
{
	CHECK(p && q->id[0] == 'b');
	return act(true);
}

int image_list(const char *dir, struct image *ret, size_t max, struct err *err)
{
	ret[0] = (struct image){ .rootfs = -EBADF };
	return act(true) < 0 ? result : 1;
}

void image_done(struct image *im) {}

int resolv_socket(const struct resolver *r, bool tcp)
{
	CHECK(r >= host.resolv.r && r < host.resolv.r + host.resolv.n && r->in_host);
	return act(false) < 0 ? result : open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* --- a request --- */

static int blob(struct str content)
{
	int fd = memfd_create("blob", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK(fd >= 0 && fd_write_all(fd, content.p, content.n) == 0);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(8) char payload[IPC_MSG_MAX];
	struct rd rd = rd_from(str_n(data, size));
	uint8_t form = rd_u8(&rd), n_fds = rd_u8(&rd) % 3;
	struct chan_msg m = { .type = rd_be16(&rd), .serial = rd_u8(&rd) % 4 };
	uint16_t n = rd_be16(&rd);
	int fds[2], before, after, r;

	if (rd_failed(&rd) || n > sizeof(payload))
		return 0;
	log_open("fuzz", LOG_ERROR + 1); /* nothing */
	host = (struct daemon){ .phase = form & 1 ? DAEMON_SERVING : DAEMON_STOPPING,
		.resolv = { .n = 1, .r = { { .ip = ip_v4(0x7f000035), .port = 53, .in_host = true } } } };
	peer = (struct role_peer){ .kind = form & 2 ? ROLE_API : ROLE_EDGE, .chan = (void *)&host };
	result = form & 4 ? -EBUSY : 0;
	memset(payload, 0, n); /* what the input does not reach */
	m.payload = str_n(payload, n);
	before = dup(0);
	close(before);
	for (unsigned int i = 0; i < n_fds; i++)
		fds[i] = blob(rd_str(&rd, MIN((size_t)rd_be16(&rd), rd_left(&rd))));
	memcpy(payload, rd.p, MIN(rd_left(&rd), (size_t)n));
	m.fds = fds;
	m.n_fds = n_fds;
	answers = acts = 0;
	r = broker_msg(&host, &peer, &m);
	CHECK(r == 0 || r == -EPROTO);
	CHECK(answers == !!m.serial && (m.serial || r < 0));
	CHECK(acts <= 8);
	for (unsigned int i = 0; i < n_fds; i++)
		fd_close(fds[i]);
	after = dup(0);
	CHECK(before == after);
	close(after);
	return 0;
}
