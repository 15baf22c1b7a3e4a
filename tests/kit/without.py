#!/usr/bin/env python3
"""without.py RULE... -- CMD...: run CMD on a kernel that lacks something, as far as CMD can tell.

A rule is CALL[,ARG=VALUE...]:ERRNO, for example

	bpf:ENOSYS
	socket,0=16,2=12:EPROTONOSUPPORT	no nf_tables over netlink
	setsockopt,1=0,2=19:ENOPROTOOPT		no IP_TRANSPARENT

The system call then fails so, in CMD and all that it starts: a seccomp filter, and with it no way
back. Works on x86-64 and arm64.
"""

import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
LD_W, JEQ, RET = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
CALLS = {  # (x86-64, arm64)
    "bpf": (321, 280), "clone3": (435, 435), "close_range": (436, 436), "fsopen": (430, 430),
    "memfd_create": (319, 279), "mount": (165, 40), "mount_setattr": (442, 442),
    "move_mount": (429, 429), "open_tree": (428, 428), "openat2": (437, 437),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pivot_root": (155, 41),
    "seccomp": (317, 277), "setns": (308, 268), "setsockopt": (54, 208), "socket": (41, 198),
    "unshare": (272, 97),
}


def instruction(code, jt, jf, k):
    return struct.pack("HBBI", code, jt, jf, k)


def program(rules):
    arm = os.uname().machine == "aarch64"
    out = b""
    for rule in rules:
        match, _, error = rule.rpartition(":")
        call, *args = match.split(",")
        tests = [(0, CALLS[call][arm])]
        tests += [(16 + 8 * int(a.split("=")[0]), int(a.split("=")[1])) for a in args]
        for i, (offset, value) in enumerate(tests):
            rest = 2 * (len(tests) - i) - 1  # to the next rule
            out += instruction(LD_W, 0, 0, offset) + instruction(JEQ, 0, rest, value)
        out += instruction(RET, 0, 0, ERRNO | getattr(errno, error))
    return out + instruction(RET, 0, 0, ALLOW)


def main():
    at = sys.argv.index("--")
    libc = ctypes.CDLL(None, use_errno=True)
    code = program(sys.argv[1:at])
    buffer = ctypes.create_string_buffer(code, len(code))
    fprog = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)))
    # Root needs no no_new_privs to set a filter, and programs are to keep their rights.
    if libc.prctl(PR_SET_SECCOMP, FILTER, fprog, 0, 0):
        sys.exit(f"without: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[at + 1], sys.argv[at + 1:])


if __name__ == "__main__":
    main()
