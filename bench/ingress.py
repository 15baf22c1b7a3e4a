"""Ingress: the reverse proxy before one backend, beside HAProxy and nginx before the same.

Each proxy is one process, with kept connections on both sides; wrk asks over 64 connections, and for
bulk over 4. Ours is the proxy of the edge role with its peers played (tests/unit/edge/ingress/
play_proxy), so what is missing of a daemon is the sandbox's link. The three take turns, and a figure
is the median of the rounds. Processor time is what the scheduler gave to the proxy's process
(schedstat, nanoseconds), nothing of wrk's and the backend's: so it holds on two processors that all
three share, requests a second less so.

Messages go through upgraded connections (tunnel.c), 64 of them, each with one message under way.
TLS is the same certificate for all three, P-256, without resumption. Idle connections have asked once
and wait.
"""

import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

from measure import Skip, kit

ULID = "01arz3ndektsv4rrffq69g5fav"
BACKEND, PORT, TUNNEL = "127.0.0.9", 8099, 8098
SECONDS, ROUNDS = 1, 3
CONNECTIONS, STREAMS, IDLE, BULK_MIB = 64, 4, 8000, 8

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
  server {{ listen 127.0.0.1:{listen} backlog=4096; listen 127.0.0.1:{tls} ssl backlog=4096;
    ssl_certificate {dir}/pem; ssl_certificate_key {dir}/pem; ssl_session_tickets off;
    ssl_protocols TLSv1.2 TLSv1.3;
    location /tunnel {{ proxy_pass http://{backend}:{tunnel}; proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} location / {{ proxy_pass http://b;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_buffering off; }} }} }}
"""
HAPROXY = """global
  nbthread 1
  maxconn 9900
  tune.ssl.cachesize 0
  ssl-default-bind-options no-tls-tickets
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{listen} backlog 4096
  bind 127.0.0.1:{tls} ssl crt {dir}/pem alpn http/1.1 backlog 4096
  use_backend t if {{ path /tunnel }}
  default_backend b
backend b
  http-request set-header Host localhost
  server s {backend}:{port}
backend t
  timeout tunnel 600s
  server s {backend}:{tunnel}
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


class Proxy:
    """One proxy: the process that works, its ports, and the names it is asked by."""

    def __init__(self, pid, port, tls):
        self.pid, self.port, self.tls = pid, port, tls
        self.host, self.tunnel_host = f"{ULID}-{PORT}.localhost", f"{ULID}-{TUNNEL}.localhost"


class Lab:
    """Backend and proxies, all ended at the end."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="weir-bench-ingress-")
        os.chmod(self.dir, 0o755)
        self.running = []

    def __enter__(self):
        try:
            with open(os.path.join(self.dir, "bulk"), "wb") as f:
                f.write(os.urandom(1 << 20) * BULK_MIB)
            self.certificate()
            self.nginx(NGINX_BACKEND, "backend", body="x" * 100)
            self.tool = os.path.join(kit.build_dir(), "bench", "weir-bench-tunnel")
            self.start(self.tool, "serve", BACKEND, str(TUNNEL))
            until_open(BACKEND, PORT)
            until_open(BACKEND, TUNNEL)
            self.proxies = {"ours": self.ours(), "HAProxy": self.haproxy(), "nginx": self.nginx_proxy()}
        except BaseException:
            self.__exit__()
            raise
        return self

    def certificate(self):
        key, cert, both = (os.path.join(self.dir, n) for n in ("key", "cert", "pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=bench", "-keyout", key,
                        "-out", cert], check=True, capture_output=True)
        with open(both, "w") as f:
            f.write(open(cert).read() + open(key).read())

    def start(self, *argv, **kw):
        p = subprocess.Popen(argv, **kw)
        self.running.append(p)
        return p

    def config(self, name, template, **values):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(template.format(dir=self.dir, backend=BACKEND, port=PORT, tunnel=TUNNEL, **values))
        return path

    def nginx(self, template, name, **values):
        p = self.start("nginx", "-c", self.config(f"{name}.conf", template, **values), "-p", self.dir,
                       stderr=subprocess.DEVNULL)
        while True:  # the worker is what works
            kids = open(f"/proc/{p.pid}/task/{p.pid}/children").read().split()
            if kids:
                return int(kids[0])
            assert p.poll() is None, "nginx ended"
            time.sleep(0.02)

    def ours(self):
        p = self.start(os.path.join(kit.build_dir(), "tests/unit/edge/ingress/play_proxy"),
                       "connections_max=20000", "per_address=0", "per_sandbox=8192",
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        port = int(p.stdout.readline().split()[1])
        for command in (f"set sb-{ULID} 5 {BACKEND} 1 1 0 -", f"cert {self.dir}/cert {self.dir}/key"):
            p.stdin.write(command + "\n")
            assert p.stdout.readline() == "ok\n"
        return Proxy(p.pid, port, port)

    def haproxy(self):
        port, tls = free_port(), free_port()
        p = self.start("haproxy", "-f", self.config("haproxy.cfg", HAPROXY, listen=port, tls=tls), "-db",
                       stderr=subprocess.DEVNULL)
        until_open("127.0.0.1", tls)
        return Proxy(p.pid, port, tls)

    def nginx_proxy(self):
        port, tls = free_port(), free_port()
        pid = self.nginx(NGINX_PROXY, "proxy", listen=port, tls=tls)
        until_open("127.0.0.1", tls)
        return Proxy(pid, port, tls)

    def __exit__(self, *_):
        for p in reversed(self.running):
            p.terminate()
            p.wait()
        shutil.rmtree(self.dir)


class Load:
    """What one second of asking cost the proxy and gave the asker."""

    def __init__(self, pid, ask):
        before = cpu_ns(pid)
        self.n, self.seconds, self.ms = ask()
        assert self.n, "nothing was answered"
        self.cpu_s = (cpu_ns(pid) - before) / 1e9

    us_each = property(lambda self: self.cpu_s / self.n * 1e6)
    per_s = property(lambda self: self.n / self.seconds)
    gib = property(lambda self: self.n * BULK_MIB / 1024)  # if it was for files
    gib_s = property(lambda self: self.gib / self.seconds)
    cpu_per_gib = property(lambda self: self.cpu_s / self.gib)


def wrk(port, path, connections, host, scheme="http", address="127.0.0.1", lines=()):
    words = [w for line in lines for w in ("-H", line)]
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-H",
                          f"Host: {host}", *words, f"{scheme}://{address}:{port}{path}"],
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "Non-2xx" not in out, out
    unit = {"us": 1e-3, "ms": 1, "s": 1e3}
    ms = {p: float(v) * unit[u] for p, v, u in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)", out)}
    n, seconds = re.search(r"(\d+) requests in ([\d.]+)s", out).groups()
    return int(n), float(seconds), ms


def tunnel(tool, p):
    out = subprocess.run([tool, "ask", str(p.port), p.tunnel_host, str(CONNECTIONS), str(SECONDS)],
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    n, seconds = out.split()
    return int(n), float(seconds), {}


class Crowd:
    """Connections that have asked once and wait; what each takes of the proxy's process."""

    def __init__(self, p):
        before, self.held = rss_kib(p.pid), []
        ask = f"GET /small HTTP/1.1\r\nHost: {p.host}\r\n\r\n".encode()
        for _ in range(IDLE):
            s = socket.create_connection(("127.0.0.1", p.port))
            s.sendall(ask)
            assert s.recv(4096)
            self.held.append(s)
        self.kib_each = (rss_kib(p.pid) - before) / IDLE

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in self.held:
            s.close()


def in_turns(proxies, ask):
    """{name: its loads}, a round of all after the other."""
    loads = {name: [] for name in proxies}
    for _ in range(ROUNDS):
        for name, p in proxies.items():
            loads[name].append(Load(p.pid, lambda p=p: ask(p)))
    return loads


def median(loads, what):
    return statistics.median(what(load) for load in loads)


def add(b, loads, what, figure, unit, more=(), **how):
    ours, *others = ((name, median(ls, figure)) for name, ls in loads.items())
    b.add("ingress", what, ours[1], peers=[*more, *others], unit=unit, **how)


def run(b):
    for program in ("haproxy", "nginx", "wrk"):
        if not shutil.which(program):
            raise Skip(f"no {program}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with Lab() as lab:  # first: memory that was used once is not given back
            idle(b, lab)
        with Lab() as lab:
            plain(b, lab)
            encrypted(b, lab)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def plain(b, lab):
    us = "µs CPU"
    loads = in_turns(lab.proxies, lambda p: wrk(p.port, "/small", CONNECTIONS, p.host))
    add(b, loads, "ingress: a small request", lambda r: r.us_each, us, of=1.0, short="ingress")
    add(b, loads, "ingress: requests", lambda r: r.per_s, "1/s", better="more")
    add(b, loads, "ingress: 64 at once, median", lambda r: r.ms["50"], "ms")
    add(b, loads, "ingress: 64 at once, 99 %", lambda r: r.ms["99"], "ms")

    loads = in_turns(lab.proxies, lambda p: wrk(p.port, "/bulk", STREAMS, p.host))
    direct = [wrk(PORT, "/bulk", STREAMS, "direct", address=BACKEND) for _ in range(ROUNDS)]
    direct = statistics.median(n * BULK_MIB / 1024 / seconds for n, seconds, _ in direct)
    add(b, loads, "ingress: bulk", lambda r: r.gib_s, "GiB/s", more=[("direct", direct)], better="more",
        of=0.8)
    add(b, loads, "ingress: bulk, a GiB", lambda r: r.cpu_per_gib, "s CPU", of=1.0)

    loads = in_turns(lab.proxies, lambda p: tunnel(lab.tool, p))
    add(b, loads, "ingress: a WebSocket message", lambda r: r.us_each, us, of=1.0)
    add(b, loads, "ingress: WebSocket messages", lambda r: r.per_s, "1/s", better="more")


def encrypted(b, lab):
    us = "µs CPU"
    loads = in_turns(lab.proxies, lambda p: wrk(p.tls, "/small", CONNECTIONS, p.host, "https"))
    add(b, loads, "ingress: a small request, TLS", lambda r: r.us_each, us, of=1.0)
    loads = in_turns(lab.proxies, lambda p: wrk(p.tls, "/bulk", STREAMS, p.host, "https"))
    add(b, loads, "ingress: bulk, TLS, a GiB", lambda r: r.cpu_per_gib, "s CPU", of=1.0)
    loads = in_turns(lab.proxies, lambda p: wrk(p.tls, "/small", CONNECTIONS, p.host, "https",
                                                lines=["Connection: close"]))
    add(b, loads, "ingress: a new TLS connection", lambda r: r.us_each, us, of=1.0)


def idle(b, lab):
    kib, loads = {}, {}
    for name, p in lab.proxies.items():
        with Crowd(p) as crowd:
            kib[name] = crowd.kib_each
            loads[name] = [Load(p.pid, lambda: wrk(p.port, "/small", CONNECTIONS, p.host))
                           for _ in range(ROUNDS)]
    add(b, loads, f"ingress: a request beside {IDLE:,} idle", lambda r: r.us_each, "µs CPU", of=1.0)
    ours, *others = kib.items()
    b.add("ingress", "ingress: an idle connection", ours[1], peers=others, unit="KiB")
