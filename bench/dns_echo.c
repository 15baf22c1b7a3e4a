/*
 * The floor under any DNS server: a socket that turns queries into answers without looking at them.
 *
 *	dns_echo one|batch		UDP port 53 of every address
 *
 * "one" receives and sends datagram by datagram, as simple servers do; "batch" takes up to 32 with
 * one call each way, as weir-edge does. Both wait in epoll when there is nothing. The answer is the
 * query with the QR bit set: what a server's work costs beyond this is its own.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define BATCH 32

static char bytes[BATCH][512];
static struct sockaddr_in peers[BATCH];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

static int turn(int fd, unsigned int most)
{
	int n;

	for (unsigned int i = 0; i < most; i++) {
		parts[i] = (struct iovec){ bytes[i], sizeof(bytes[i]) };
		messages[i].msg_hdr = (struct msghdr){ .msg_name = &peers[i],
			.msg_namelen = sizeof(peers[i]), .msg_iov = &parts[i], .msg_iovlen = 1 };
	}
	n = recvmmsg(fd, messages, most, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++) {
		bytes[i][2] |= (char)0x80;
		parts[i].iov_len = messages[i].msg_len;
	}
	if (n > 0)
		sendmmsg(fd, messages, (unsigned int)n, MSG_DONTWAIT);
	return n;
}

int main(int argc, char **argv)
{
	unsigned int most = argc > 1 && strcmp(argv[1], "batch") == 0 ? BATCH : 1;
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(53) };
	struct epoll_event ready = { .events = EPOLLIN };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), loop = epoll_create1(0);

	if (bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0 ||
		epoll_ctl(loop, EPOLL_CTL_ADD, fd, &ready) < 0) {
		perror("dns_echo");
		return 1;
	}
	while (epoll_wait(loop, &ready, 1, -1) >= 0)
		while (turn(fd, most) == (int)most)
			;
	return 1;
}
