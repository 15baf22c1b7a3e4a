"""Ingress: CPU per request, latency and bulk of the reverse proxy, ours beside HAProxy and nginx.

Each proxy is alone before the same backend (an nginx of its own), one process, kept connections on
both sides; wrk asks over 64 connections. Ours is the proxy of the edge role with its peers played
(tests/unit/edge/ingress/play_proxy), so what is missing of a daemon is the sandbox's link. Counted
is the time the scheduler gave to the proxy's process (schedstat, nanoseconds), nothing of wrk's and
the backend's: so the figure holds on two CPUs that all three share, requests a second less so.

	ingress.py [--seconds S] [--json FILE] [ROW...]	rows: small bulk idle
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("WEIR_BUILD", "build"))
ULID = "01arz3ndektsv4rrffq69g5fav"
BACKEND, PORT = "127.0.0.9", 8099

NGINX_BACKEND = """worker_processes 1; pid {dir}/backend.pid; error_log stderr error; daemon off;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600; sendfile on;
  client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir};
  scgi_temp_path {dir};
  server {{ listen {backend}:{port} backlog=4096; root {dir};
    location = /small {{ return 200 "{body}"; }} }} }}
"""
NGINX_PROXY = """worker_processes 1; pid {dir}/proxy.pid; error_log stderr error; daemon off;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600;
  client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir};
  scgi_temp_path {dir};
  upstream b {{ server {backend}:{port}; keepalive 64; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{listen} backlog=4096; location / {{ proxy_pass http://b;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_buffering off; }} }} }}
"""
HAPROXY = """global
  nbthread 1
  maxconn 9900
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{listen} backlog 4096
  default_backend b
backend b
  http-request set-header Host localhost
  server s {backend}:{port}
"""


def until_open(address, port):
    end = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection((address, port), timeout=1).close()
        except OSError:
            assert time.monotonic() < end, f"{address}:{port} does not answer"
            time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_ns(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        total += int(open(f"/proc/{pid}/task/{task}/schedstat").read().split()[0])
    return total


def rss_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1))


class Lab:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="weir-bench-ingress-")
        os.chmod(self.dir, 0o755)
        self.running = []
        with open(os.path.join(self.dir, "bulk"), "wb") as f:
            f.write(os.urandom(1 << 20) * 64)
        self.nginx(NGINX_BACKEND, "backend", body="x" * 100)
        until_open(BACKEND, PORT)

    def start(self, *argv, **kw):
        p = subprocess.Popen(argv, **kw)
        self.running.append(p)
        return p

    def nginx(self, template, name, **values):
        path = os.path.join(self.dir, name + ".conf")
        with open(path, "w") as f:
            f.write(template.format(dir=self.dir, backend=BACKEND, port=PORT, **values))
        p = self.start("nginx", "-c", path, "-p", self.dir)
        while True:  # the worker is what works
            kids = open(f"/proc/{p.pid}/task/{p.pid}/children").read().split()
            if kids:
                return int(kids[0])
            assert p.poll() is None, "nginx ended"
            time.sleep(0.02)

    def weir(self):
        p = self.start(os.path.join(BUILD, "tests/unit/edge/ingress/play_proxy"),
                       "connections_max=20000", "per_address=0", "per_sandbox=8192",
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        port = int(p.stdout.readline().split()[1])
        p.stdin.write(f"set sb-{ULID} 5 {BACKEND} 1 1 0 -\n")
        assert p.stdout.readline() == "ok\n"
        return p.pid, port

    def haproxy(self):
        port = free_port()
        path = os.path.join(self.dir, "haproxy.cfg")
        with open(path, "w") as f:
            f.write(HAPROXY.format(backend=BACKEND, port=PORT, listen=port))
        p = self.start("haproxy", "-f", path, "-db", stderr=subprocess.DEVNULL)
        until_open("127.0.0.1", port)
        return p.pid, port

    def nginx_proxy(self):
        port = free_port()
        pid = self.nginx(NGINX_PROXY, "proxy", listen=port)
        until_open("127.0.0.1", port)
        return pid, port

    def close(self):
        for p in reversed(self.running):
            p.terminate()
            p.wait()
        shutil.rmtree(self.dir)


def wrk(port, path, seconds, connections):
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H",
                          f"Host: {ULID}-{PORT}.localhost", f"http://127.0.0.1:{port}{path}"],
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "Non-2xx" not in out, out
    unit = {"us": 1e-3, "ms": 1, "s": 1e3}
    latency = {p: float(v) * unit[u] for p, v, u in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)", out)}
    n, seconds = re.search(r"(\d+) requests in ([\d.]+)s", out).groups()
    return int(n), float(seconds), latency


def small(pid, port, seconds):
    wrk(port, "/small", 1, 64)
    before = cpu_ns(pid)
    n, took, latency = wrk(port, "/small", seconds, 64)
    return {"us_per_request": (cpu_ns(pid) - before) / n / 1e3, "requests_s": n / took,
            "p50_ms": latency["50"], "p99_ms": latency["99"]}


def bulk(pid, port, seconds):
    before = cpu_ns(pid)
    n, took, _ = wrk(port, "/bulk", seconds, 4)
    return {"gib_s": n / 16 / took, "cpu_s_per_gib": (cpu_ns(pid) - before) / 1e9 / max(n / 16, 1e-9)}


def idle(pid, port, seconds):
    """Connections that have asked once and wait: memory of each, and what asking costs beside them."""
    before = rss_kib(pid)
    ask = f"GET /small HTTP/1.1\r\nHost: {ULID}-{PORT}.localhost\r\n\r\n".encode()
    held = []
    for _ in range(8000):
        s = socket.create_connection(("127.0.0.1", port))
        s.sendall(ask)
        assert s.recv(4096)
        held.append(s)
    kib = (rss_kib(pid) - before) / len(held)
    values = small(pid, port, seconds)
    for s in held:
        s.close()
    return {"kib_per_connection": kib, **values}


ROWS = {"small": small, "bulk": bulk, "idle": idle}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", default=list(ROWS))
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--json")
    args = parser.parse_args()
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lab, result = Lab(), {}
    try:
        proxies = {"weir": lab.weir(), "haproxy": lab.haproxy(), "nginx": lab.nginx_proxy()}
        for row in args.rows:
            for name, (pid, port) in proxies.items():
                values = ROWS[row](pid, port, args.seconds)
                result.setdefault(row, {})[name] = values
                print(f"{row:6} {name:8} " + "  ".join(f"{k} {v:.3g}" for k, v in values.items()),
                      flush=True)
    finally:
        lab.close()
    if args.json:
        with open(args.json, "w") as f:
            json.dump(result, f, indent=1)


if __name__ == "__main__":
    sys.exit(main())
