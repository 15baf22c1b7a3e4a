"""Private networks: made for a test and taken away after it.

	nets = Nets(api); backend = nets.new(); backend.attach(box); backend.ip(box)
"""

import random
import time

from kit.api import Refused, listening


class Network:
    def __init__(self, api, view):
        self.api, self.view = api, view
        self.id, self.name = view["id"], view["name"]

    def get(self):
        return self.api.ok("GET", f"/v1/networks/{self.id}")

    def ip(self, box):
        """The overlay address of a member; None of others."""
        return {m["sandbox_id"]: m.get("ip") for m in self.get()["members"]}.get(box.id)

    def attach(self, box):
        return box.api.ok("POST", f"{box.path}/networks", {"id": self.id})

    def detach(self, box):
        return box.api.ok("DELETE", f"{box.path}/networks/{self.id}")


class Nets:
    def __init__(self, api):
        self.api, self.made = api, []

    def new(self, name=None, api=None):
        api = api or self.api
        name = name or f"net{random.randrange(1 << 32):x}"
        self.made.append(Network(api, api.ok("POST", "/v1/networks", {"name": name})))
        return self.made[-1]

    def close(self, seconds=120):
        """Sandboxes that are being destroyed are members until they are gone."""
        end = time.monotonic() + seconds
        for net in self.made:
            while True:
                try:
                    net.api.ok("DELETE", f"/v1/networks/{net.id}")
                except Refused as e:
                    if e.response.status == 409 and time.monotonic() < end:
                        time.sleep(0.05)
                        continue
                    assert e.response.status == 404, e
                break


def serve(box, *ports):
    """A server on every address and each of these ports; returns when they listen."""
    r = box.sh("".join(f"setsid python3 -m http.server --bind 0.0.0.0 {p} >/root/seen.{p} 2>&1 </dev/null &\n"
                       for p in ports) + " && ".join(listening(p) for p in ports))
    assert r.code == 0, r
    return box
