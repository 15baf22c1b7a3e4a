/* runtime/vm/machine: what QEMU is told, and that a line which does not fit is refused whole; and of the jail,
 * what a hand may still call. */
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "runtime/vm/accel.h"
#include "runtime/vm/jail.h"
#include "runtime/vm/machine.h"
#include "../unit.h"

static const struct slotnet_plan net = { .kind = SLOTNET_TAP, .link = "w7", .mtu = 1400 };

static struct machine some(const char *cmdline, struct slotnet_plan *plan)
{
	*plan = net;
	plan->ip4 = ip_v4(0x0a3c0007);
	plan->overlay = ip_v4(0x0a2a0007);
	plan->overlays = prefix_of(ip_v4(0x0a2a0000), 16);
	return (struct machine){ .mem_mib = 256, .vcpus = 2, .tsc_khz = 2596126, .cmdline = cmdline,
		.accel = ACCEL_TCG, .net = plan };
}

/* The argument after this option; NULL: it is not there. */
static const char *after(const struct machine_line *l, const char *option)
{
	for (unsigned int i = 0; i + 1 < l->n; i++)
		if (!strcmp(l->argv[i], option))
			return l->argv[i + 1];
	return NULL;
}

static void tells_all(void **state)
{
	struct slotnet_plan plan;
	struct machine m = some("quiet pci=off", &plan);
	struct machine_line l;

	assert_int_equal(machine_line(&m, &l), 0);
	assert_null(l.argv[l.n]);
	assert_string_equal(after(&l, "-m"), "256");
	assert_string_equal(after(&l, "-smp"), "2");
	assert_string_equal(after(&l, "-netdev"), "tap,id=net,fd=3");
	assert_string_equal(after(&l, "-object"),
		"memory-backend-file,id=ram,size=256M,mem-path=/proc/self/fd/8,share=on");
	m.clone = true;
	assert_int_equal(machine_line(&m, &l), 0);
	assert_string_equal(after(&l, "-object"),
		"memory-backend-file,id=ram,size=256M,mem-path=/proc/self/fd/8,share=off");
	assert_string_equal(after(&l, "-sandbox"),
		"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	assert_string_equal(after(&l, "-append"),
		"quiet pci=off console=ttyS0 loglevel=1 tsc=reliable tsc_early_khz=2596126 "
		"weir.ip4=10.60.0.7 "
		"weir.overlay=10.42.0.7 weir.overlays=10.42.0.0/16 weir.mtu=1400");
}

static void tells_nobodys_of_no_address(void **state)
{
	struct slotnet_plan plan;
	struct machine m = some("quiet", &plan);
	struct machine_line l;

	plan.ip4 = plan.overlay = (struct ip){ .family = 0 };
	assert_int_equal(machine_line(&m, &l), 0);
	assert_string_equal(after(&l, "-append"), "quiet console=ttyS0 loglevel=1 tsc=reliable "
						  "tsc_early_khz=2596126 weir.overlays=10.42.0.0/16 weir.mtu=1400");
}

static void tells_of_ipv6_where_there_is_some(void **state)
{
	struct slotnet_plan plan;
	struct machine m = some("quiet", &plan);
	struct machine_line l;

	assert_int_equal(ip_from(STR("fd77::7"), &plan.ip6), 0);
	assert_int_equal(machine_line(&m, &l), 0);
	assert_non_null(strstr(after(&l, "-append"), " weir.ip6=fd77::7 weir.overlay="));
}

static void is_told_what_to_run_by(void **state)
{
	struct slotnet_plan plan;
	struct machine m = some("quiet", &plan);
	struct machine_line l;

	assert_int_equal(machine_line(&m, &l), 0);
	assert_string_equal(after(&l, "-accel"), "tcg,thread=multi,tb-size=64");
	assert_string_equal(after(&l, "-cpu"), "max,erms=off");
	m.accel = "kvm:host,-arch-capabilities";
	assert_int_equal(machine_line(&m, &l), 0);
	assert_string_equal(after(&l, "-accel"), "kvm");
	assert_string_equal(after(&l, "-cpu"), "host,-arch-capabilities");
	assert_null(strstr(after(&l, "-append"), "tsc_early_khz"));
	assert_true(accel_fits("tcg", "kvm:host") && accel_fits("kvm:host", "kvm:host"));
	assert_false(accel_fits("kvm:host", "tcg") || accel_fits("kvm:host", "kvm:Nehalem"));
}

/* What is booted to see whether it boots has nothing of anybody's. */
static void may_be_a_kernel_alone(void **state)
{
	const struct machine m = { .mem_mib = 128, .vcpus = 1, .cmdline = "quiet", .accel = "kvm:host" };
	struct machine_line l;

	assert_int_equal(machine_line(&m, &l), 0);
	assert_string_equal(after(&l, "-append"), "quiet console=ttyS0 loglevel=1");
	assert_string_equal(after(&l, "-serial"), "chardev:console");
	assert_null(after(&l, "-netdev"));
	assert_null(after(&l, "-blockdev"));
	assert_null(after(&l, "-mon"));
	assert_null(after(&l, "-device"));
}

static void refuses_what_does_not_fit(void **state)
{
	struct slotnet_plan plan;
	char text[sizeof(((struct machine_line *)0)->text)] = "";
	struct machine m = some(text, &plan);
	struct machine_line l;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(machine_line(&m, &l), -E2BIG);
	text[1000] = '\0'; /* the control */
	assert_int_equal(machine_line(&m, &l), 0);
}

enum act { WORK, SOCKET, PROCESS, PROGRAM };

/* What ends a child that does this: a signal, or 0. */
static int ended_by(enum act act, bool mute)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		char *const argv[] = { (char *)"true", NULL };
		int fds[2];

		if (mute && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || jail_mute() < 0))
			_exit(1);
		if (act == SOCKET)
			_exit(socket(AF_INET, SOCK_STREAM, 0) < 0);
		if (act == PROCESS && fork() == 0)
			_exit(0);
		if (act == PROGRAM)
			execv("/bin/true", argv);
		_exit(act == WORK && (pipe(fds) < 0 || write(fds[1], "x", 1) != 1 || read(fds[0], &status, 1) != 1));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void a_hand_is_mute(void **state)
{
	static const enum act acts[] = { SOCKET, PROCESS, PROGRAM };

	for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
		assert_int_equal(ended_by(acts[i], true), SIGSYS);
		assert_int_equal(ended_by(acts[i], false), 0);
	}
	assert_int_equal(ended_by(WORK, true), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(tells_all),
		cmocka_unit_test(tells_nobodys_of_no_address),
		cmocka_unit_test(tells_of_ipv6_where_there_is_some),
		cmocka_unit_test(is_told_what_to_run_by), cmocka_unit_test(may_be_a_kernel_alone),
		cmocka_unit_test(refuses_what_does_not_fit), cmocka_unit_test(a_hand_is_mute) };

	return cmocka_run_group_tests_name("runtime/machine", tests, NULL, NULL);
}
