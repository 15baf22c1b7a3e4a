"""Which runtime a create gets, in every dialect, and what is said where it cannot have it.

Each dialect's client is played with its own words; the host says which runtimes there are.
"""

import json

import pytest

from test_role import role, settings  # noqa: F401

WHY = "there is no QEMU: install the package qemu-system-x86"
KVM = "runtimes container,vm vm kvm:host (a guest booted with -cpu host in 300 ms)"
TCG = "runtimes container,vm container tcg (/dev/kvm: No such file or directory)"


def createos(role, runtime):
    return role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", **(
        {"node_selector": {"runtime": runtime}} if runtime else {})})


def native(role, runtime):
    return role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", **({"runtime": runtime} if runtime else {})})


def opensandbox(role, runtime, where="extensions"):
    key = "runtime" if where == "extensions" else "weir/runtime"
    return role.ask("POST", "/v1/sandboxes", {
        "image": {"uri": "devbox:1"}, "entrypoint": ["sleep", "9"], "timeout": 600,
        "resourceLimits": {"cpu": "1", "memory": "256Mi"}, **({where: {key: runtime}} if runtime else {})},
        key=None, headers={"OPEN-SANDBOX-API-KEY": role.key})


def opensandbox_label(role, runtime):
    return opensandbox(role, runtime, "metadata")


def sandbox0(role, runtime):
    return role.ask("POST", "/api/v1/sandboxes", {"template": runtime or "default", "config": {}}, key=None,
                    headers={"Authorization": f"Bearer {role.key}"})


DIALECTS = [createos, native, opensandbox, opensandbox_label, sandbox0]


@pytest.fixture(params=DIALECTS, ids=[d.__name__ for d in DIALECTS])
def create(request, role):  # noqa: F811
    return lambda runtime=None: request.param(role, runtime)


def message(answer):
    """What each dialect's clients read as the reason."""
    j = answer.json
    if isinstance(j.get("error"), dict):
        return j["error"]["message"]
    return j["message"] if "message" in j else json.dumps(j["data"])


def made(role):  # noqa: F811
    return [v["runtime"] for v in role.get("/v1/sandboxes").data["data"]]


def test_a_runtime_that_is_not_there_is_refused_with_the_package(role, create):  # noqa: F811
    a = create("vm")
    sandbox0s = "error" in a.json
    assert a.status == (400 if sandbox0s else 501), a.body
    assert "runtime vm is not available here: " + WHY in message(a), a.body
    assert made(role) == []
    assert 200 <= create().status < 300 and made(role) == ["container"]  # the control


def test_an_unknown_runtime_is_refused(role, create):  # noqa: F811
    a = create("tank")
    assert a.status == (404 if "error" in a.json else 400), a.body
    assert ("there are: default, vm" if "error" in a.json else "Allowed: [auto, container, vm]") in message(a)
    assert made(role) == []


@pytest.mark.parametrize("host, unasked", [(KVM, "vm"), (TCG, "container")], ids=["kvm", "tcg"])
def test_auto_is_what_the_host_prefers(role, host, unasked):  # noqa: F811
    role.host(host)
    role.restart()
    want = []
    for create in DIALECTS:
        for asked, runtime in ((None, unasked), ("vm", "vm"), ("container", "container")):
            if create is sandbox0 and asked == "container":
                continue
            assert 200 <= (a := create(role, asked)).status < 300, a.body
            want.append(runtime)
    assert sorted(made(role)) == sorted(want)
    kinds = [x["template_id"] for x in role.ask("GET", "/api/v1/sandboxes", key=None, headers={
        "Authorization": f"Bearer {role.key}"}).json["data"]["sandboxes"]]
    assert kinds.count("vm") == (0 if unasked == "vm" else want.count("vm")), kinds
    about = role.get("/v1/version").data
    assert about["runtime_default"] == unasked and about["vm"] == host.split(" ", 3)[3]


@pytest.mark.parametrize("settings", [["runtime.default=vm"]])
def test_the_operators_choice_counts(role, settings):  # noqa: F811
    role.host(TCG)
    role.restart()
    assert native(role, None).data["runtime"] == native(role, "auto").data["runtime"] == "vm"


def test_no_room_is_503_and_leaves_nothing(role, create):  # noqa: F811
    role.host(TCG)
    role.restart()
    role.host("fail SPAWN 12")
    a = create("vm")
    assert a.status == 503 and "no capacity" in message(a), a.body
    assert made(role) == []
    assert 200 <= create("vm").status < 300  # the control
