"""New machines that begin as clones of one that has booted, and that nobody had.

Its own daemons: processes are stopped and killed, and files are spoilt here. How a machine began is told
by how its QEMU maps its memory: shared (it booted) or privately, a template's.
"""

import contextlib
import glob
import os
import signal
import time

import pytest

from kit.api import Api, Box
from kit.daemon import Daemon, wait_until
from test_sandbox import qemu

WARM = {"vm.warm_mib": "1024"}


@pytest.fixture(scope="module")
def daemon():
    daemon = Daemon(WARM)
    daemon.__enter__()
    daemon.api = Api(daemon.url, daemon.key)
    yield daemon
    daemon.__exit__(None, None, None)


def said(daemon, what):
    """How often the daemon's log says that of a template."""
    with open(daemon.log_path, errors="replace") as f:
        return sum(f" vm.template what={what} " in line for line in f)


def figures(daemon):
    """What /metrics says of machines, without the prefix."""
    text = daemon.api.request("GET", "/metrics").body.decode()
    return {name[len("weir_vm_"):]: int(n) for name, n in
            (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("weir_vm_"))}


def wait_said(daemon, what, n):
    assert wait_until(lambda: said(daemon, what) >= n, 120), f"{what}: {said(daemon, what)}, not {n}"


def memory(box):
    """The memory file of a machine, by its inode, and whether it is mapped privately."""
    with open(f"/proc/{qemu(None, box)}/maps") as f:
        words = [line.split() for line in f if "/memfd:weir-memory" in line][0]
    return words[4], words[1].endswith("p")


def booted(box):
    return not memory(box)[1]


def templates(daemon):
    """QEMUs of this daemon without an address on their command line: templates that are being made."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cgroup"):
        try:
            with open(path) as f:
                ours = f"/{daemon.name}/vm-" in f.read()
            with open(path.replace("cgroup", "cmdline"), "rb") as f:
                line = f.read()
        except OSError:
            continue
        if ours and line.startswith(b"qemu-system") and b"weir.ip4=" not in line:
            found.append(int(path.split("/")[2]))
    return found


def spares(daemon):
    return glob.glob(os.path.join(daemon.state_dir, "vm/layers/.spare-*"))


@pytest.fixture(scope="module")
def first(daemon):
    """The one that had to boot; its template is there."""
    box = daemon.api.create(runtime="vm", envs={"WHOSE": "first"}, egress=["allowed.test"])
    wait_said(daemon, "ready", 1)
    yield box
    box.destroy()


@pytest.fixture(scope="module")
def clones(daemon, first):
    made = [daemon.api.create(runtime="vm") for _ in range(2)]
    yield made
    for box in made:
        box.destroy()


def test_the_first_boots_and_the_next_are_clones(daemon, first, clones):
    assert booted(first) and not any(booted(box) for box in clones)
    assert len({memory(box)[0] for box in clones}) == 1 and memory(first)[0] != memory(clones[0])[0]
    # What the template was booted with has nothing of anybody; the control is what was booted for one.
    assert f"weir.ip4={first.ip} " in first.exec("cat", "/proc/cmdline").stdout
    for box in clones:
        line = box.exec("cat", "/proc/cmdline").stdout
        assert "weir.overlays=" in line and "weir.ip4" not in line and "weir.overlay=" not in line
    assert templates(daemon) == []  # it holds still: there is no process
    told = figures(daemon)
    assert {k: told[f'starts_total{{kind="{k}"}}'] for k in ("boot", "warm", "ready", "resume", "fork")} == {
        "boot": 1, "warm": 2, "ready": 0, "resume": 0, "fork": 0}
    assert told['templates_made_total{kind="warm"}'] == told['templates{kind="warm"}'] == 1
    assert told['templates_bytes{kind="warm"}'] == first.view["mem_mib"] << 20
    assert told['templates{kind="fork"}'] == told["ready"] == told["ready_bytes"] == 0


def test_L3_each_is_another(first, clones):
    told = []
    for box in clones:
        t0 = time.time()
        now = float(box.exec("date", "+%s.%N").stdout)
        took = time.time() - t0
        assert t0 - 0.5 - 2 * took < now < t0 + 0.5 + took
        told.append(box.sh("hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; "
                           "head -c 16 /dev/urandom | base64; cat /proc/sys/kernel/random/uuid; "
                           "python3 -c 'import os; print(os.urandom(16).hex())'").stdout.splitlines())
        assert len(told[-1]) == 6 and told[-1][0] == box.name
        addresses = box.sh("cat /proc/net/fib_trie").stdout
        assert f"|-- {box.ip}\n" in addresses
        assert not any(f"|-- {b.ip}\n" in addresses for b in (first, *clones) if b is not box)
        assert box.sh("echo ${WHOSE-nobody}").stdout == "nobody\n"
    for column in zip(*told):
        assert len(set(column)) == len(clones), column
    assert first.sh("echo ${WHOSE-nobody}").stdout == "first\n"


def test_what_one_writes_is_not_in_the_next(daemon, clones):
    box = clones[0]
    box.sh("echo mine | tee /root/mine /dev/shm/mine /tmp/mine; sync")
    look = "cat /root/mine /dev/shm/mine /tmp/mine 2>/dev/null; true"
    assert box.sh(look).stdout == "mine\n" * 3
    after = daemon.api.create(runtime="vm")
    assert memory(after)[0] == memory(box)[0] and after.sh(look).stdout == ""
    assert clones[1].sh(look).stdout == "" and box.sh(look).stdout == "mine\n" * 3
    after.destroy()


def test_one_is_paused_and_goes_on(clones):
    box = clones[1]
    box.sh("echo kept >/dev/shm/kept")
    was = figures(box)
    box.pause()
    box.resume()
    assert figures(box) == {**was, 'starts_total{kind="resume"}': was['starts_total{kind="resume"}'] + 1}
    assert box.sh("cat /dev/shm/kept; hostname").stdout == f"kept\n{box.name}\n"


def test_a_claim_of_sandbox0s_template_is_one_too(daemon, first):
    """Template vm: claimed, used, paused and deleted as sandbox0's clients do it. It is a machine, and a clone,
    with the policy of its claim in force for its first command; the control is the same claim of `default`."""
    def ask(method, path, body=None, raw=None, status=200):
        r = daemon.api.request(method, "/api/v1" + path, body, raw=raw, key=False,
                               headers={"Authorization": f"Bearer {daemon.api.key}"})
        assert r.status == status, (method, path, r.status, r.body)
        return r.body if r.headers["content-type"] != "application/json" else \
            r.json["data"] if status < 400 else r.json["error"]

    def claim(template):
        one = ask("POST", "/sandboxes", {"template": template, "config": {
            "resources": {"memory": "256Mi"}, "env_vars": {"WHOSE": "mine"},
            "network": {"mode": "block-all", "egress": {"allowedDomains": ["allowed.test"]}}}}, status=201)
        assert (one["template"], one["status"]) == (template, "running")
        return "/sandboxes/" + one["sandbox_id"]

    def cmd(sb, script):
        r = ask("POST", sb + "/contexts", {"type": "cmd", "wait_until_done": True,
                                           "cmd": {"command": ["sh", "-c", script]}}, status=201)
        return r["output_raw"]

    def curl(name):
        return f"/bin/curl -sk -o /dev/null -w '%{{http_code}}' --max-time 10 https://{name}"

    mine, plain = claim("vm"), claim("default")
    try:
        box = Box(daemon.api, daemon.api.get(mine.split("/")[-1]))
        assert not booted(box) and box.view["runtime"] == "vm"
        assert ask("GET", mine)["template_id"] == "vm" and ask("GET", plain)["template_id"] == "default"
        assert [s["id"] for s in ask("GET", "/sandboxes?template_id=vm")["sandboxes"]][0] == box.id
        assert ask("GET", "/templates/vm")["template_id"] == "vm"
        kernels = {sb: cmd(sb, "cat /proc/sys/kernel/random/boot_id") for sb in (mine, plain)}
        with open("/proc/sys/kernel/random/boot_id") as f:
            assert kernels[plain] == f.read() != kernels[mine]
        assert cmd(mine, "echo $WHOSE; cat /root/mine 2>/dev/null") == "mine\n"
        assert (cmd(mine, curl("allowed.test")), cmd(mine, curl("denied.test"))) == ("200", "000")
        ask("PUT", mine + "/network", {"mode": "allow-all"})
        assert cmd(mine, curl("denied.test")) == "200"
        ask("POST", mine + "/files?path=notes", raw=b"x" * 100000)
        waits = ask("POST", mine + "/contexts", {"cmd": {"command": ["sh", "-c", "read x; echo got $x"]},
                                                 "pty_size": {"rows": 24, "cols": 80}}, status=201)["id"]
        ask("POST", mine + "/pause")
        assert ask("GET", mine)["status"] == "paused"
        with pytest.raises(AssertionError, match="no QEMU"):  # its memory is a file, its process is gone
            memory(box)
        ask("POST", mine + "/resume")
        assert ask("GET", mine)["runtime_generation"] == 2
        ask("POST", f"{mine}/contexts/{waits}/input", {"data": "it\n"})
        assert wait_until(lambda: not ask("GET", f"{mine}/contexts/{waits}")["running"], 30)
        assert ask("GET", mine + "/files?path=notes") == b"x" * 100000
        assert ask("GET", mine + "/network") == {"mode": "allow-all"}
        bad = ask("PUT", mine, {"config": {"resources": {"memory": "512Mi"}}}, status=400)
        assert "virtual machine" in bad["message"]
        assert ask("PUT", plain, {"config": {"resources": {"memory": "512Mi"}}})["resources"] == {"memory": "512Mi"}
    finally:
        ask("DELETE", mine)
        ask("DELETE", plain)
    ask("GET", mine, status=404)


def test_a_template_that_is_spoilt_is_dropped(daemon, first):
    """The create that finds it so boots; then there is another, and the next is a clone of that."""
    was = spares(daemon)
    assert len(was) == 1
    os.unlink(os.path.join(was[0], "disk"))
    box = daemon.api.create(runtime="vm")
    assert booted(box) and said(daemon, "dropped") == 1
    assert box.sh("echo works").stdout == "works\n"
    box.destroy()
    wait_said(daemon, "ready", 2)
    assert not os.path.exists(was[0]) and len(spares(daemon)) == 1
    box = daemon.api.create(runtime="vm")
    assert not booted(box)
    box.destroy()


def test_another_size_boots(daemon, first):
    """And where the limit is reached, the template longest unused goes."""
    box = daemon.api.create(runtime="vm", shape="s-1vcpu-1gb")
    assert booted(box)
    box.destroy()
    wait_said(daemon, "ready", 3)
    assert len(spares(daemon)) == 1
    box = daemon.api.create(runtime="vm", shape="s-1vcpu-1gb")
    assert not booted(box)
    box.destroy()


def signalled(daemon, api, number):
    """A machine that has booted; the template that is made after it gets a signal. On a busy host it may be made
    before that: then another size has its turn."""
    for mib in range(1024, 1034):
        ready = said(daemon, "ready")
        box = api.create(runtime="vm", disk_mib=mib)
        assert booted(box)
        wait_until(lambda: templates(daemon) or said(daemon, "ready") > ready, 60)
        for pid in templates(daemon):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                yield box, mib
        box.destroy()
        box.wait("destroyed")
    raise AssertionError(f"templates were made too soon: {daemon.log_tail()}")


def test_killed_while_one_is_made():
    """Nobody waits for a template; and whoever is killed while it is made, nothing is left of it."""
    with Daemon(WARM) as daemon:
        def of_one(box):
            group = glob.glob(f"/sys/fs/cgroup/**/{daemon.name}/vm-*", recursive=True)
            return len({os.path.basename(g) for g in group}) == 1 and spares(daemon) == []

        api = Api(daemon.url, daemon.key)
        for box, mib in signalled(daemon, api, signal.SIGSTOP):
            second = api.create(runtime="vm", disk_mib=mib)
            alone = booted(second)  # it did not wait for a template that will not be ready
            second.destroy()
            second.wait("destroyed")
            if alone:
                break
        assert len(templates(daemon)) == 1 and spares(daemon)
        daemon.kill9()
        daemon.start()
        assert wait_until(lambda: templates(daemon) == [] and of_one(box), 60)
        box.api = api = Api(daemon.url, daemon.key)
        assert box.sh("echo works").stdout == "works\n"
        box.destroy()
        box.wait("destroyed")

        ready = said(daemon, "ready")  # what the daemon before had begun is not there
        for box, _ in signalled(daemon, api, signal.SIGKILL):
            assert wait_until(lambda: said(daemon, "failed") or said(daemon, "ready") > ready, 60)
            if said(daemon, "failed"):
                break
            ready = said(daemon, "ready")
        assert wait_until(lambda: templates(daemon) == [], 60)
        box.destroy()
