/*
 * Roles, each in a forked child that has one end of a socket pair as descriptor 3, the way the
 * host role starts them. The child's exit status says which check failed.
 */
#include "../unit.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <pthread.h>
#include "base/fd.h"
#include "event/chan_wire.h"
#include "event/role.h"

static void tell(int fd, uint16_t type, const void *payload, size_t n, int pass)
{
	struct chan_head h = { .type = type, .kind = CHAN_SEND, .size = (uint32_t)n };

	assert_int_equal(chan_wire_send(fd, 0, &h, payload, &pass, pass >= 0), 0);
}

static void tell_fd(int fd, const char *name, int pass)
{
	struct ipc_boot_fd m = { 0 };

	snprintf(m.name, sizeof(m.name), "%s", name);
	tell(fd, IPC_BOOT_FD, &m, sizeof(m), pass);
}

/* Run child() with descriptor 3 connected to us; returns its exit status. */
static int in_child(void (*host)(int fd), int (*child)(void))
{
	int pair[2], status;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		if (pair[1] != ROLE_CHAN_FD) {
			dup2(pair[1], ROLE_CHAN_FD);
			close(pair[1]);
		}
		_exit(child());
	}
	close(pair[1]);
	host(pair[0]);
	close(pair[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void host_good(int fd)
{
	struct ipc_boot_done done = { .version = IPC_VERSION, .worker = 7, .boot_id = 42 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	tell_fd(fd, "listen.api.0", null);
	tell_fd(fd, "config", null);
	tell(fd, IPC_BOOT_DONE, &done, sizeof(done), -1);
	close(null);
}

static int child_good(void)
{
	struct role *r = NULL;
	struct err err;
	struct stat st;
	int fd;

	if (role_boot(&r, &err) < 0)
		return 1;
	if (role_info(r)->worker != 7 || role_info(r)->boot_id != 42)
		return 2;
	fd = role_fd(r, "config");
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode))
		return 3;
	if (role_fd(r, "config") != -ENOENT || role_fd(r, "no such") != -ENOENT)
		return 4;
	if (fcntl(ROLE_CHAN_FD, F_GETFD) != FD_CLOEXEC)
		return 5;
	role_boot_done(r);
	return fstat(fd, &st) < 0 ? 6 : 0; /* what was taken stays open */
}

static void boots(void **state)
{
	assert_int_equal(in_child(host_good, child_good), 0);
}

static int child_refuses(void)
{
	struct role *r = NULL;
	struct err err = { 0 };

	return role_boot(&r, &err) < 0 && !r && err.text[0] ? 0 : 1;
}

static void host_silent(int fd)
{
}

static void host_old(int fd)
{
	struct ipc_boot_done done = { .version = IPC_VERSION + 1 };

	tell(fd, IPC_BOOT_DONE, &done, sizeof(done), -1);
}

static void host_odd(int fd)
{
	tell(fd, IPC_HOST_INFO, "", 0, -1);
}

static void host_nameless(int fd)
{
	struct ipc_boot_fd m;

	memset(&m, 'x', sizeof(m));
	tell(fd, IPC_BOOT_FD, &m, sizeof(m), fd);
}

static void host_without_fd(int fd)
{
	tell_fd(fd, "config", -1);
}

static int child_no_channel(void)
{
	close(ROLE_CHAN_FD);
	return child_refuses();
}

static void refuses_to_boot(void **state)
{
	assert_int_equal(in_child(host_silent, child_refuses), 0);
	assert_int_equal(in_child(host_old, child_refuses), 0);
	assert_int_equal(in_child(host_odd, child_refuses), 0);
	assert_int_equal(in_child(host_nameless, child_refuses), 0);
	assert_int_equal(in_child(host_without_fd, child_refuses), 0);
	assert_int_equal(in_child(host_silent, child_no_channel), 0);
}

static void *thread(void *arg)
{
	*(int *)arg = 1;
	return NULL;
}

/* Refused calls say EPERM, and standard error has one line for each call number. */
static int child_confined(void)
{
	static const char *const extra[] = { "mkdirat", NULL };
	char said[512];
	struct err err;
	pthread_t t;
	int ran = 0, out[2];
	ssize_t n;

	if (pipe(out) < 0 || dup2(out[1], STDERR_FILENO) < 0)
		return 1;
	if (role_confine(extra, &err) < 0)
		return 2;
	for (int i = 0; i < 3; i++)
		if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || errno != EPERM)
			return 3;
	if (unlinkat(AT_FDCWD, "/nowhere", 0) == 0 || errno != EPERM)
		return 4;
	if (mkdirat(AT_FDCWD, "/no/where", 0700) == 0 || errno != ENOENT) /* asked for: allowed */
		return 5;
	if (fork() >= 0)
		return 6;
	if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
		return 7;
	if (pthread_create(&t, NULL, thread, &ran) || pthread_join(t, NULL) || !ran)
		return 8;
	n = read(out[0], said, sizeof(said) - 1);
	if (n <= 0)
		return 9;
	said[n] = '\0';
	n = 0;
	for (char *at = said; (at = strchr(at, '\n')); at++)
		n++;
	return n == 4 ? 0 : 10; /* socket, unlinkat, fork's clone, mmap */
}

static int child_misspelt(void)
{
	static const char *const extra[] = { "mkdirrat", NULL };
	struct err err = { 0 };

	return role_confine(extra, &err) == -EINVAL && strstr(err.text, "mkdirrat") ? 0 : 1;
}

static void confines(void **state)
{
	assert_int_equal(in_child(host_silent, child_confined), 0);
	assert_int_equal(in_child(host_silent, child_misspelt), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(boots),
		cmocka_unit_test(refuses_to_boot),
		cmocka_unit_test(confines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
