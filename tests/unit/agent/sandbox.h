/*
 * A small sandbox for tests, made of namespaces: the link's two addresses on loopback, empty
 * /etc, /run and /root. Tests run in it; the agent, the real program, is process 1 of a process
 * namespace below it. So nothing in the agent is there for tests only.
 */
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bpf/maps.h"

#define SKIPPED 77

static inline void sandbox_address(int s, const char *label, uint32_t ip)
{
	struct ifreq ifr = { 0 };
	struct sockaddr_in *sa = (struct sockaddr_in *)(void *)&ifr.ifr_addr;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", label);
	sa->sin_family = AF_INET;
	sa->sin_addr.s_addr = htonl(ip);
	if (ioctl(s, SIOCSIFADDR, &ifr) < 0)
		perror("SIOCSIFADDR"), exit(1);
	sa->sin_addr.s_addr = 0xffffffff;
	ioctl(s, SIOCSIFNETMASK, &ifr);
}

/* Enter the namespaces, or leave with the exit status of a skipped test. */
static inline void sandbox_enter(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	int s;

	if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC) < 0) {
		printf("skipped: no right to make namespaces (%s)\n", strerror(errno));
		exit(SKIPPED);
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", "/etc", "tmpfs", 0, "size=1m") < 0 ||
		mount("none", "/run", "tmpfs", 0, "size=1m") < 0 ||
		mount("none", "/root", "tmpfs", 0, "size=64m,mode=700") < 0)
		perror("mount"), exit(1);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	ioctl(s, SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags |= IFF_UP;
	if (ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		perror("lo"), exit(1);
	sandbox_address(s, "lo:1", WEIR_LINK_GATEWAY);
	sandbox_address(s, "lo:2", WEIR_LINK_SANDBOX);
	close(s);
}

/* A listening socket where an agent would be. */
static inline int sandbox_listener(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(WEIR_AGENT_PORT),
		.sin_addr.s_addr = htonl(WEIR_LINK_SANDBOX) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 1024) < 0)
		perror("listen"), exit(1);
	return fd;
}

/* The agent as process 1 of its own process namespace, with a /proc that shows it, its socket
 * handed in as descriptor 3.
 * program: opened before sandbox_enter(), which may hide it. */
static inline pid_t sandbox_agent(int program, int listener)
{
	/* A fork whose child alone is in the new process namespace. */
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, 0);

	if (pid == 0) {
		char *argv[] = { (char *)"weir-agent", NULL }, *env[] = { NULL };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		program = fcntl(program, F_DUPFD_CLOEXEC, 10);
		if (program < 0 || dup2(listener, 3) < 0 || fcntl(3, F_SETFD, 0) < 0 ||
			unshare(CLONE_NEWNS) < 0 || mount("none", "/proc", "proc", 0, NULL) < 0)
			_exit(1);
		syscall(SYS_execveat, program, "", argv, env, AT_EMPTY_PATH);
		perror("weir-agent");
		_exit(1);
	}
	return pid;
}

static inline int sandbox_dial_from(uint32_t from)
{
	struct sockaddr_in src = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(from) };
	struct sockaddr_in dst = { .sin_family = AF_INET, .sin_port = htons(WEIR_AGENT_PORT),
		.sin_addr.s_addr = htonl(WEIR_LINK_SANDBOX) };
	struct timeval limit = { .tv_sec = 20 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (bind(fd, (struct sockaddr *)&src, sizeof(src)) < 0 ||
		connect(fd, (struct sockaddr *)&dst, sizeof(dst)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}
