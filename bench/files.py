"""Files in and out of a sandbox through the API, against `cp` into and out of an overlay mount.

1 KiB is a round trip on a kept connection, against one `cp` process; 64 MiB and 1 GiB are throughput.
Uploads are sendfile() from a file in the page cache, downloads are received and dropped; `cp` reads
the same file into an overlay over devbox:1 on the same disk, and out of it into tmpfs. Files are
removed after each round, so that no round pays for writing back another's pages.
"""

import os
import subprocess

from measure import Client, Failed, Samples, kit, sampled, spawn, timed

MIB = 1 << 20
SIZES = ((64, 5), (1024, 2))


class Overlay:
    def __init__(self, b):
        from measure import image_rootfs
        self.dir = os.path.join(b.dir, "overlay")
        parts = {n: os.path.join(self.dir, n) for n in ("upper", "work", "merged")}
        for path in parts.values():
            os.makedirs(path)
        self.at = parts["merged"]
        subprocess.run(["mount", "-t", "overlay", "weir-bench", "-o",
                        f"lowerdir={image_rootfs()},upperdir={parts['upper']},"
                        f"workdir={parts['work']}", self.at], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.at], check=True)


def upload(client, box, path, size):
    client.s.sendall(client.request("PUT", f"/v1/sandboxes/{box}/files?path=/root/f", size=size))
    with open(path, "rb") as f:
        client.s.sendfile(f, 0, size)
    status, body = client.answer()
    if status >= 300:
        raise Failed(f"upload: {status} {body[:200]!r}")


def download(client, box, size, sink):
    client.s.sendall(client.request("GET", f"/v1/sandboxes/{box}/files?path=/root/f"))
    status, length, got = client.answer_head()
    if status >= 300 or length != size:
        raise Failed(f"download: {status}, {length} bytes")
    left = length - len(got)
    while left:
        n = client.s.recv_into(sink, min(left, len(sink)))
        if n == 0:
            raise Failed("download: the connection broke")
        left -= n


def run(b):
    source = os.path.join(b.dir, "source")
    with open(source, "wb") as f:
        block = os.urandom(MIB)
        for _ in range(SIZES[-1][0]):
            f.write(block)
    small = os.path.join(b.dir, "small")
    with open(small, "wb") as f:
        f.write(block[:1024])
    shm = f"/dev/shm/weir-bench-{os.getpid()}"
    sink = bytearray(MIB)
    try:
        with Overlay(b) as overlay, kit.Daemon({"pool.slots": "2"}) as d:
            client = Client(d)
            box = client.create()
            target = os.path.join(overlay.at, "root", "f")
            rounds = b.rounds * 3
            b.add("files", "upload of 1 KiB",
                  sampled(rounds, lambda: upload(client, box, small, 1024)),
                  [("cp", sampled(rounds, lambda: spawn(["cp", small, target])))],
                  short="upload of 1 KiB")
            b.add("files", "download of 1 KiB",
                  sampled(rounds, lambda: download(client, box, 1024, sink)),
                  [("cp", sampled(rounds, lambda: spawn(["cp", target, shm])))])
            for mib, times in SIZES:
                size = mib * MIB
                part = source if mib == SIZES[-1][0] else os.path.join(b.dir, "part")
                if part != source:
                    with open(source, "rb") as f, open(part, "wb") as out:
                        out.write(f.read(size))
                up, down, cp_in, cp_out = [], [], [], []
                for _ in range(times):
                    up.append(timed(lambda: upload(client, box, part, size)))
                    down.append(timed(lambda: download(client, box, size, sink)))
                    client.post(f"/v1/sandboxes/{box}/exec", {"cmd": "rm", "args": ["/root/f"]})
                    cp_in.append(timed(lambda: spawn(["cp", part, target])))
                    cp_out.append(timed(lambda: spawn(["cp", target, shm])))
                    os.unlink(target)
                    os.unlink(shm)
                text = f"{mib} MiB" if mib < 1024 else f"{mib // 1024} GiB"
                for what, ours, theirs in (("upload", up, cp_in), ("download", down, cp_out)):
                    b.add("files", f"{what} of {text}", rate(mib, ours), [("cp", rate(mib, theirs))],
                          unit="MiB/s", better="more",
                          short=f"{what} of 1 GiB" if mib == 1024 else None)
            client.close()
    finally:
        if os.path.exists(shm):
            os.unlink(shm)


def rate(mib, ms):
    return mib * 1000 / Samples(ms).p50
