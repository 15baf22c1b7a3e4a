/*
 * Kernel maps: see the header.
 *
 * A ring map is read as the kernel documents it: one page with the consumer's position, which we
 * write; one with the producer's, then the data twice in a row, so that a record is never broken
 * by the end. A record is a header of 8 bytes (length, with a busy and a discarded bit; page
 * offset) and its bytes, rounded up to 8. The map's descriptor polls readable.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include "api/denials.h"
#include "api/kmaps.h"
#include "base/clock.h"
#include "base/fd.h"
#include "bpf/map.h"

/* --- counters --- */

#define CPUS_MAX 4096u

struct counters {
	int fd, dns_fd;
	unsigned int cpus; /* possible ones: values per entry */
	struct weir_counters per_cpu[];
};

/* "0-3" or "0,2-7": the last number is the highest CPU. */
static unsigned int possible_cpus(void)
{
	auto_buf struct buf text = BUF_MAX(4096);
	struct str s;
	uint64_t last = 0;

	if (file_read(AT_FDCWD, "/sys/devices/system/cpu/possible", &text) < 0)
		return 0;
	s = buf_str(&text);
	while (s.n && (s.p[s.n - 1] < '0' || s.p[s.n - 1] > '9'))
		s.n--;
	for (size_t i = s.n; i > 0; i--)
		if (s.p[i - 1] < '0' || s.p[i - 1] > '9') {
			s = str_skip(s, i);
			break;
		}
	return str_u64(s, CPUS_MAX - 1, &last) == 0 ? (unsigned int)last + 1 : 0;
}

int counters_open(int map_fd, int dns_fd, struct counters **ret, struct err *err)
{
	unsigned int cpus = possible_cpus();
	struct counters *c;

	*ret = NULL;
	if (map_fd < 0) {
		fd_close(dns_fd);
		return 0;
	}
	c = cpus ? calloc(1, sizeof(*c) + cpus * sizeof(c->per_cpu[0])) : NULL;
	if (!c) {
		fd_close(map_fd);
		fd_close(dns_fd);
		return err_set(err, -EIO, ERR_INTERNAL, "cannot tell the number of CPUs");
	}
	c->fd = map_fd;
	c->dns_fd = dns_fd;
	c->cpus = cpus;
	*ret = c;
	return 0;
}

int counters_read(const struct counters *c, uint32_t slot, struct weir_counters *ret)
{
	int r = c ? map_get(c->fd, &slot, (void *)c->per_cpu) : -ENODATA;
	struct weir_dns_counters dns;

	if (r < 0)
		return r;
	*ret = (struct weir_counters){ 0 };
	for (unsigned int cpu = 0; cpu < c->cpus; cpu++) {
		const __u64 *from = (const __u64 *)&c->per_cpu[cpu];
		__u64 *to = (__u64 *)ret;

		for (size_t i = 0; i < sizeof(*ret) / sizeof(*to); i++)
			to[i] += from[i];
	}
	if (c->dns_fd >= 0 && map_get(c->dns_fd, &slot, &dns) == 0)
		for (unsigned int i = 0; i < WEIR_R_EDGE_N; i++)
			ret->denied[WEIR_R_EDGE_FIRST + i] += dns.denied[i];
	return 0;
}

/* --- events --- */

struct events {
	struct api *api;
	int fd;
	uv_poll_t poll;
	size_t page;
	unsigned long *consumer;
	const unsigned long *producer;
	const char *data;
};

static void one_event(struct events *e, const void *p, size_t n, uint64_t wall_less_mono)
{
	struct weir_event ev;

	if (n < sizeof(ev))
		return;
	memcpy(&ev, p, sizeof(ev));
	denials_kernel(e->api, &ev, (ev.ktime + wall_less_mono) / NS_PER_MS);
}

static void on_readable(uv_poll_t *poll, int status, int what)
{
	struct events *e = container_of(poll, struct events, poll);
	uint64_t wall_less_mono = clock_wall_ns() - clock_mono_ns();
	unsigned long at = __atomic_load_n(e->consumer, __ATOMIC_ACQUIRE);
	unsigned long end = __atomic_load_n(e->producer, __ATOMIC_ACQUIRE);

	while (at < end) {
		const char *record = e->data + (at & (WEIR_EVENT_RING - 1));
		uint32_t head = __atomic_load_n((const uint32_t *)record, __ATOMIC_ACQUIRE);
		uint32_t n = head & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

		if (head & BPF_RINGBUF_BUSY_BIT)
			break; /* being written */
		at += (n + BPF_RINGBUF_HDR_SZ + 7) & ~7ul;
		if (!(head & BPF_RINGBUF_DISCARD_BIT))
			one_event(e, record + BPF_RINGBUF_HDR_SZ, n, wall_less_mono);
		__atomic_store_n(e->consumer, at, __ATOMIC_RELEASE);
	}
}

static void unmap(struct events *e)
{
	if (e->consumer)
		munmap(e->consumer, e->page);
	if (e->producer)
		munmap((void *)e->producer, e->page + 2 * (size_t)WEIR_EVENT_RING);
	fd_close(e->fd);
	free(e);
}

static int map_ring(struct events *e)
{
	void *p = mmap(NULL, e->page, PROT_READ | PROT_WRITE, MAP_SHARED, e->fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	e->consumer = p;
	p = mmap(NULL, e->page + 2 * (size_t)WEIR_EVENT_RING, PROT_READ, MAP_SHARED, e->fd,
		(off_t)e->page);
	if (p == MAP_FAILED)
		return -errno;
	e->producer = p;
	e->data = (const char *)p + e->page;
	return 0;
}

int events_open(struct api *a, int ring_fd, struct events **ret, struct err *err)
{
	struct events *e;
	int r;

	*ret = NULL;
	if (ring_fd < 0)
		return 0;
	e = calloc(1, sizeof(*e));
	if (!e) {
		fd_close(ring_fd);
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	e->api = a;
	e->fd = ring_fd;
	e->page = (size_t)sysconf(_SC_PAGESIZE);
	r = map_ring(e);
	if (r == 0)
		r = uv_poll_init(a->loop, &e->poll, e->fd);
	if (r < 0) {
		unmap(e);
		return err_sys(err, r, "read the ring of kernel events");
	}
	uv_poll_start(&e->poll, UV_READABLE, on_readable);
	*ret = e;
	return 0;
}
