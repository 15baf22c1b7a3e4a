/*
 * A stand-in for the agent: process 1 of a sandbox that runs what it is told. One connection on
 * descriptor 3, one shell command (up to the sender's half-close), its output back, then "\n<status>".
 * Started with arguments it is a probe instead: `agent NAME [ARG]` (probes.c).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int probe(int argc, char **argv);

static void reap(int sig)
{
	int saved = errno;

	(void)sig;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	errno = saved;
}

/* In a child of its own, so that pid 1 goes on accepting. */
static void serve(int conn)
{
	char command[65536], tail[32];
	size_t n = 0;
	ssize_t k;
	int status = -1;
	pid_t pid;

	signal(SIGCHLD, SIG_DFL);
	while (n < sizeof(command) - 1 && (k = read(conn, command + n, sizeof(command) - 1 - n)) > 0)
		n += (size_t)k;
	command[n] = '\0';
	pid = fork();
	if (pid == 0) {
		dup2(conn, 1);
		dup2(conn, 2);
		close(conn);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	snprintf(tail, sizeof(tail), "\n%d", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	if (write(conn, tail, strlen(tail)) < 0)
		_exit(1);
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return probe(argc - 1, argv + 1);
	signal(SIGCHLD, reap);
	for (;;) {
		int conn = accept(3, NULL, NULL);

		if (conn < 0) {
			if (errno == EINTR)
				continue;
			return 1;
		}
		if (fork() == 0) {
			close(3);
			serve(conn);
		}
		close(conn);
	}
}
