/*
 * One datagram of a channel, for chan.c and role.c only: a header of 16 bytes, then
 * the payload, descriptors beside it. Both ends are the same build on the same
 * machine, so the header is a plain struct; what arrives is checked nevertheless.
 */
#pragma once
#include "wire/ipc.h"

enum chan_kind { CHAN_SEND = 1, CHAN_CALL, CHAN_REPLY };

struct chan_head {
	uint16_t type, kind; /* enum ipc_type, enum chan_kind */
	uint32_t serial;     /* 0 for a send */
	int32_t status;	     /* replies: 0 or a negative errno; otherwise 0 */
	uint32_t size;	     /* of the payload: the datagram's length says the same */
};
_Static_assert(sizeof(struct chan_head) == 16, "payloads stay aligned for any message struct");

struct chan_packet {
	struct chan_head head;
	_Alignas(8) char payload[IPC_MSG_MAX];
	int fds[IPC_FDS_MAX];
	unsigned int n_fds;
};

/* Receive one datagram. 1: *p is filled and its descriptors (close-on-exec) are the caller's;
 * 0: the peer closed; -EAGAIN; -EPROTO: malformed, its descriptors are closed; or another errno. */
int chan_wire_recv(int fd, int flags, struct chan_packet *p);
/* Send one datagram whole. 0 or a negative errno; never raises SIGPIPE. */
int chan_wire_send(int fd, int flags, const struct chan_head *head, const void *payload,
	const int *fds, unsigned int n_fds);
