/*
 * weir-agent: process 1 of a sandbox; see agent/agent.h.
 *
 *	weir-agent		descriptor 3 is the listening socket (containers)
 *	weir-agent --listen	make it, on 169.254.77.2
 *	/init			boot a virtual machine, then the same (agent/machine.h)
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "agent/agent.h"
#include "agent/machine.h"
#include "bpf/maps.h"

#define HANDED_FD 3

static int listen_here(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(WEIR_AGENT_PORT),
		.sin_addr.s_addr = htonl(WEIR_LINK_SANDBOX) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* A connection from inside comes by loopback, and finds nobody. */
	if (machine_is_ours() && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5) < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, SOMAXCONN) < 0)
		return -errno;
	return fd;
}

/* Children's pipes must not land on 0, 1 and 2. */
static void standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static int say(const char *what, int error)
{
	dprintf(STDERR_FILENO, "weir-agent: %s: %s\n", what, strerror(-error));
	return 1;
}

/* A machine that cannot become a sandbox says why on its console, and ends. */
static void machine_begin(void)
{
	struct err err;

	if (machine_boot(&err) == 0)
		return;
	dprintf(STDERR_FILENO, "weir-init: %s\n", err.text);
	reboot(RB_AUTOBOOT);
	_exit(1);
}

int main(int argc, char **argv)
{
	bool machine = getpid() == 1 && strcmp(argv[0], "/init") == 0;
	bool listens = machine || (argc == 2 && strcmp(argv[1], "--listen") == 0);
	int fd = HANDED_FD, r;

	if (machine)
		machine_begin();
	else if (argc > 1 && !listens) {
		dprintf(STDERR_FILENO, "usage: weir-agent [--listen]\n");
		return 2;
	}
	umask(022);
	fault_open("/run", "agent"); /* in the sandbox: whoever tests looks in through /proc */
	if (!listens && fcntl(HANDED_FD, F_GETFD) < 0)
		return say("descriptor 3, the listening socket", -errno);
	standard_fds();
	r = loop_open();
	if (r < 0)
		return say("event loop", r);
	if (listens)
		fd = listen_here();
	r = fd < 0 ? fd : conn_listen(fd);
	if (r < 0)
		return say("listen", r);
	r = self_open();
	if (r < 0) /* no loopback: everything else works */
		say("self-signal endpoint", r);
	r = dns_open();
	if (r < 0)
		say("127.0.0.1:15353", r);
	if (machine)
		machine_ready();
	loop_run();
}
