/* runtime/vm/tally: how a machine began, and what is told of those that wait and of templates. */
#include "runtime/vm/vm.h"
#include "../unit.h"

static void knows_how_one_began(void **state)
{
	const struct runtime_parked boot = { .from = "" }, warm = { .warm = 1 },
		ready = { .warm = 1, .starter = { .stands = true } }, fork = { .from = "sb-x" },
		asleep = { .from = "sb-x", .seat = { .asleep = true } };
	struct runtime rt = { .accel = "" };
	struct ipc_machines m;

	warms_open(&rt.warms, 0);
	templates_open(&rt.templates, 0);
	assert_int_equal(vm_start_of(&boot), IPC_START_BOOT);
	assert_int_equal(vm_start_of(&warm), IPC_START_WARM);
	assert_int_equal(vm_start_of(&ready), IPC_START_READY);
	assert_int_equal(vm_start_of(&fork), IPC_START_FORK);
	vm_began(&rt, vm_start_of(&fork));
	vm_began(&rt, vm_start_of(&asleep)); /* its resume will be */
	vm_began(&rt, IPC_START_FORK);
	vm_began(&rt, IPC_START_RESUME);
	vm_tally(&rt, &m);
	for (unsigned int i = 0; i < IPC_STARTS; i++)
		assert_int_equal(m.starts[i], i == IPC_START_FORK ? 2 : i == IPC_START_RESUME);
}

static void counts_those_that_stand_ready(void **state)
{
	struct runtime_parked booting = { .seat = { .mem_mib = 1000 } },
		unwanted = { .next = &booting, .seat = { .mem_mib = 100 }, .unwanted = true,
			.starter = { .stands = true, .ready = true } },
		soon = { .next = &unwanted, .seat = { .mem_mib = 256 }, .starter = { .stands = true } },
		one = { .next = &soon, .seat = { .mem_mib = 512 },
			.starter = { .stands = true, .ready = true } };
	struct runtime rt = { .parked = &one };
	struct ipc_machines m;

	warms_open(&rt.warms, 0);
	templates_open(&rt.templates, 0);
	vm_tally(&rt, &m);
	assert_int_equal(m.ready, 1);
	assert_int_equal(m.ready_mib, 512 + 256 + 2 * OVERHEAD_MIB);
}

static void counts_templates_of_forks(void **state)
{
	struct snapshot_head a = { .memory = 256u << 20, .own = { 1 } }, b = { .memory = 128u << 20, .own = { 2 } };
	struct runtime rt = { .accel = "" };
	const struct ipc_templates *t;
	struct ipc_machines m;
	struct template *got;

	warms_open(&rt.warms, 0);
	templates_open(&rt.templates, 300);
	assert_int_equal(template_get(&rt.templates, &a, &got, NULL), 0);
	assert_int_equal(template_get(&rt.templates, &a, &got, NULL), 0); /* it is there */
	vm_tally(&rt, &m);
	t = &m.templates[IPC_TEMPLATE_FORK];
	assert_int_equal(t->made, 1);
	assert_int_equal(t->kept, 1);
	assert_int_equal(t->mib, 256);
	assert_int_equal(template_get(&rt.templates, &b, &got, NULL), 0); /* in place of the other */
	vm_tally(&rt, &m);
	assert_int_equal(t->made, 2);
	assert_int_equal(t->kept, 1);
	assert_int_equal(t->mib, 128);
	assert_int_equal(m.templates[IPC_TEMPLATE_WARM].made, 0);
	templates_drop(&rt.templates);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_how_one_began),
		cmocka_unit_test(counts_those_that_stand_ready),
		cmocka_unit_test(counts_templates_of_forks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
