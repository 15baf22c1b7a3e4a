"""A small client for the API: enough to test with, nothing hidden.

	api = Api(url, key)
	box = api.create(egress=["allowed.test"])
	box.sh("echo hi").stdout; box.probe({"tcp": "allowed.test", "port": 443}); box.denied("name")
"""

import http.client
import json
import os
import re
import time
import urllib.parse

HERE = os.path.dirname(os.path.realpath(__file__))
SHAPE = "s-1vcpu-256mb"
PATIENCE_S = 180  # a machine by emulation, on a host that others use
PROBE_PORT = 9041  # of loopback, in machines


def listening(port, host="127.0.0.1"):
    """Words of bash that end when something listens there, and fail after some minutes. No program is started
    again and again: by emulation that takes more of the processor than what is waited for."""
    return (f"(exec 9<> <(:); for ((i = 0; i < 3000; i++)); do : </dev/tcp/{host}/{port} && exit; "
            "read -t 0.05 -u 9; done; exit 1) 2>/dev/null")


class Refused(Exception):
    """A status that was not expected."""

    def __init__(self, response):
        super().__init__(f"{response.status}: {response.body[:400]!r}")
        self.response = response


class Response:
    def __init__(self, reply, body):
        self.status = reply.status
        self.headers = {k.lower(): v for k, v in reply.getheaders()}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def data(self):
        return self.json["data"]

    @property
    def says(self):
        """What a failure says, as one text."""
        j = self.json
        return j.get("message") or json.dumps(j.get("data"))


class Result:
    def __init__(self, data):
        self.stdout = data["result"]["stdout"]
        self.stderr = data["result"]["stderr"]
        self.code = data["result"]["exit_code"]
        self.error = data["result"].get("error")
        self.ms = data.get("exec_ms")

    def __repr__(self):
        return f"<{self.code} {self.stdout[-500:]!r} {self.stderr[-500:]!r} {self.error}>"


class Api:
    def __init__(self, url, key):
        self.url, self.key = url, key
        self.host = urllib.parse.urlsplit(url).netloc

    def request(self, method, path, body=None, raw=None, headers=None, key=True, timeout=PATIENCE_S):
        """One request on a connection of its own. body: JSON; raw: bytes or an iterator. An answer that
        ends in its middle is a broken connection, too."""
        c = http.client.HTTPConnection(self.host, timeout=timeout)
        h = dict(headers or {})
        if key:
            h["X-Api-Key"] = self.key if key is True else key
        if body is not None:
            raw = json.dumps(body).encode()
            h.setdefault("Content-Type", "application/json")
        try:
            c.request(method, path, body=raw, headers=h,
                      encode_chunked=raw is not None and not isinstance(raw, (bytes, str)))
            reply = c.getresponse()
            return Response(reply, reply.read())
        except http.client.HTTPException as e:
            raise ConnectionResetError(repr(e)) from e
        finally:
            c.close()

    def ok(self, method, path, body=None, **kw):
        response = self.request(method, path, body, **kw)
        if not 200 <= response.status < 300:
            raise Refused(response)
        return response.data

    def create(self, wait=True, claim=None, **fields):
        """claim: made through sandbox0's dialect, with this network policy."""
        if claim:
            made = self.ok("POST", "/api/v1/sandboxes", {"template": "default", "config": {
                "network": claim, "resources": {"memory": "256Mi"}}},
                headers={"Authorization": f"Bearer {self.key}"})
            return Box(self, self.get(made["sandbox_id"]))
        fields.setdefault("shape", SHAPE)
        return Box(self, self.ok("POST", "/v1/sandboxes", fields))

    def get(self, sandbox):
        return self.ok("GET", f"/v1/sandboxes/{sandbox}")

    def stream(self, sandbox, cmd, *args):
        """NDJSON frames of a streamed command, as they come; close() the generator to hang up."""
        c = http.client.HTTPConnection(self.host, timeout=PATIENCE_S)
        c.request("POST", f"/v1/sandboxes/{sandbox}/exec?stream=true",
                  body=json.dumps({"cmd": cmd, "args": list(args), "stream": True}),
                  headers={"X-Api-Key": self.key, "Content-Type": "application/json"})
        reply = c.getresponse()
        try:
            if reply.status != 200:
                raise Refused(Response(reply, reply.read()))
            for line in reply:
                if line.strip():
                    yield json.loads(line)
        finally:
            # A response keeps the socket open on its own; hanging up means both.
            reply.close()
            c.close()


class Box:
    """A sandbox."""

    def __init__(self, api, view):
        self.api, self.view = api, view
        self.id, self.name, self.ip = view["id"], view.get("name"), view.get("ip")
        self.path = f"/v1/sandboxes/{self.id}"
        self._probe = False

    def refresh(self):
        self.view = self.api.ok("GET", self.path)
        return self.view

    @property
    def status(self):
        return self.refresh()["status"]

    def wait(self, *statuses, seconds=PATIENCE_S):
        end = time.monotonic() + seconds
        while self.status not in statuses:
            assert time.monotonic() < end, f"{self.view['status']}, not {statuses}"
            time.sleep(0.02)
        return self

    def exec(self, cmd, *args, **more):
        return Result(self.api.ok("POST", f"{self.path}/exec",
                                  {"cmd": cmd, "args": list(args), **more}))

    def sh(self, script, *args, **more):
        return self.exec("bash", "-c", script, *args, **more)

    def put(self, path, content):
        return self.api.ok("PUT", f"{self.path}/files?" + urllib.parse.urlencode({"path": path}),
                           raw=content, headers={"Content-Type": "application/octet-stream"})

    def get(self, path):
        r = self.api.request("GET", f"{self.path}/files?" + urllib.parse.urlencode({"path": path}))
        if r.status != 200:
            raise Refused(r)
        return r.body

    def set_egress(self, rules):
        return self.api.ok("PUT", f"{self.path}/egress", {"egress": rules})

    def pause(self):
        self.api.ok("POST", f"{self.path}/pause")
        return self.wait("paused")

    def resume(self):
        self.api.ok("POST", f"{self.path}/resume")
        return self.wait("running")

    def destroy(self):
        return self.api.ok("DELETE", self.path)

    # --- the network, seen from inside ---

    def probe(self, *probes):
        """Run probes (probe.py) at once; a list of results, or the one. In a machine one process makes all
        of them, since Python takes a second to begin there."""
        stays = self.view.get("runtime") == "vm"
        if not self._probe:
            with open(os.path.join(HERE, "probe.py"), "rb") as f:
                self.put("/root/probe.py", f.read())
            if stays:
                r = self.sh(f"setsid python3 /root/probe.py --stay {PROBE_PORT} >/dev/null 2>/root/probe.log "
                            f"</dev/null & {listening(PROBE_PORT)} || {{ cat /root/probe.log >&2; exit 1; }}")
                assert r.code == 0, r
            self._probe = True
        if stays:
            r = self.sh(f"exec 3<>/dev/tcp/127.0.0.1/{PROBE_PORT} && printf '%s\\n' \"$0\" >&3 && "
                        "read -r said <&3 && printf '%s\\n' \"$said\"", json.dumps(probes))
        else:
            r = self.exec("python3", "/root/probe.py", json.dumps(probes))
        assert r.code == 0, r
        results = json.loads(r.stdout)
        return results if len(probes) > 1 else results[0]

    def tcp(self, host, port, **more):
        return self.probe({"tcp": host, "port": port, **more})["verdict"]

    def udp(self, host, port=9999, **more):
        return self.probe({"udp": host, "port": port, **more})["verdict"]

    def resolve(self, name, **more):
        return self.probe({"name": name, **more})

    def dns(self, name, kind="A", server=None, **more):
        return self.probe({"dns": name, "type": kind, "server": server, **more})

    def passed(self):
        """What has passed its link by its policy, both ways, as the kernel counts it now."""
        seen = self.api.ok("GET", f"{self.path}/counters")
        return seen["out_bytes"] + seen["in_bytes"]

    # --- why ---

    def denials(self):
        data = self.api.ok("GET", f"{self.path}/denials")
        return data["data"] if isinstance(data, dict) and "data" in data else \
            data["denials"] if isinstance(data, dict) else data

    def denied(self, reason, seconds=60, **match):
        """Wait until a denial with this reason (and members) is in the log; returns it."""
        end = time.monotonic() + seconds
        while True:
            for d in self.denials():
                if d.get("reason") == reason and all(
                        str(d.get(k)) == str(v) or (k == "text" and v in d.get("text", ""))
                        for k, v in match.items()):
                    return d
            assert time.monotonic() < end, \
                f"no denial {reason} {match} among {json.dumps(self.denials())[:3000]}"
            time.sleep(0.02)

    # --- from the host's side, for attacks that need more rights than a sandbox has ---

    def host_pid(self):
        """The sandbox's first process, as the host numbers it: none of those that come and go. Its
        network namespace has the sandbox's address for its own."""
        if self.view.get("runtime") == "vm":
            import pytest
            pytest.skip("the host has no way into a machine's namespaces")
        seen = set()
        for pid in os.listdir("/proc"):
            if not pid.isdigit():
                continue
            try:
                namespace = os.readlink(f"/proc/{pid}/ns/net")
                if namespace in seen:
                    continue
                with open(f"/proc/{pid}/status") as f:
                    if not re.search(r"^NSpid:.*\t1$", f.read(), re.M):
                        continue
                seen.add(namespace)
                with open(f"/proc/{pid}/net/fib_trie") as f:
                    lines = f.read().splitlines()
            except OSError:
                continue
            if any(line.strip() == f"|-- {self.ip}" and "host LOCAL" in after
                   for line, after in zip(lines, lines[1:])):
                return int(pid)
        raise LookupError(f"no process of {self.id} on this host")
