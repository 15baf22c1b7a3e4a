/*
 * sandbox/box: without memory for one more sandbox, that one is refused, and all others are found as
 * before. Slots, records and the network are played: this is about the set.
 */
#include "sandbox/box.h"
#include "sandbox/daemon.h"
#include "sandbox/events.h"
#include "sandbox/listen.h"
#include "sandbox/net.h"
#include "../nth.h"

#define BOXES 700

bool record_id_ok(const char *id)
{
	return true;
}

int record_save(int dir, const struct record *r, struct err *err)
{
	return 0;
}

int record_remove(int dir, const char *id)
{
	return 0;
}

int slots_adopt(struct slots *s, uint32_t number, struct err *err)
{
	return 0;
}

void slots_keep(struct slots *s, uint32_t number)
{
}

void slots_drop(struct slots *s, uint32_t number, uint32_t ifindex, bool keep,
	void (*done)(void *arg), void *arg)
{
}

void slots_release(struct slots *s, uint32_t number)
{
}

void slots_give_up(struct slots *s, struct slot *slot)
{
}

struct slotnet_plan slots_plan(const struct slots *s, const struct slot *slot)
{
	return (struct slotnet_plan){ .kind = SLOTNET_VETH };
}

int net_adopt(struct daemon *d, const struct slot *s, uint32_t *policy, struct err *err)
{
	return -ENODEV;
}

int net_commit(struct daemon *d, uint32_t number, uint32_t share, uint32_t id,
	const struct policy *p, struct err *err)
{
	return -ENODEV;
}

int net_members(struct daemon *d, uint32_t number, const struct ipc_nets *nets, struct err *err)
{
	return -ENODEV;
}

int net_ingress(struct daemon *d, uint32_t number, bool on, struct err *err)
{
	return 0;
}

bool net_ingress_get(const struct daemon *d, uint32_t number)
{
	return false;
}

int listener_of_port(const struct daemon *d, uint16_t port, struct err *err)
{
	return err_set(err, -EADDRINUSE, ERR_CONFLICT, "played");
}

void net_members_get(const struct daemon *d, uint32_t number, struct ipc_sandbox *ret)
{
}

void event_exited(struct daemon *d, const char *id, int32_t status, bool oom)
{
}

void daemon_check_stopped(struct daemon *d)
{
}

/* Their processes are gone, so no runtime is asked. */
static int adopt(struct boxes *b, unsigned int i, struct err *err)
{
	struct record rec = { .dead = true, .slot = i + 1 };

	snprintf(rec.id, sizeof(rec.id), "sb-%u", i);
	return box_adopt(b, &rec, err);
}

static int boxes(void *arg)
{
	struct daemon d = { 0 };
	struct boxes *b = NULL;
	struct err err = { 0 };
	unsigned int n = 0;
	char id[IPC_ID_LEN];
	int r = boxes_new(&d, &b, &err);

	while (r == 0 && n < BOXES) {
		r = adopt(b, n, &err);
		r = r == -ESRCH ? 0 : r;
		n += r == 0;
	}
	nth_stop();
	assert_true(r == 0 || err.text[0]);
	assert_int_equal(b ? boxes_count(b) : 0, n);
	for (unsigned int i = 0; i <= n && b; i++) {
		snprintf(id, sizeof(id), "sb-%u", i);
		assert_true((box_find(b, id) != NULL) == (i < n));
	}
	boxes_free(b);
	return r;
}

static void a_sandbox_that_finds_no_memory_fails_alone(void **state)
{
	nth_each("boxes", boxes, NULL, BOXES + 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sandbox_that_finds_no_memory_fails_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
