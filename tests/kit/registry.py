"""A registry of images for a test: Debian's docker-registry, open or behind a password, and images to
put into it, also such as no honest tool would make.

	with serve(at, password="secret") as where:		# on loopback
	with serve(at, lab=lab, name="allowed.test") as where:	# on the lab's Internet
		push(at, where, "team/shell:1", [shell(), tar([file("etc/kept", b"x")])])
"""

import contextlib
import crypt
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time

MISSING = [p for p in ("skopeo", "umoci", "docker-registry") if not shutil.which(p)]
USER = "reader"


def run(*argv, **kw):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=180, **kw)


def free_port(prefix):
    done = run(*prefix, "/usr/bin/python3", "-c", "import socket; s = socket.socket(); s.bind(('', 0)); "
               "print(s.getsockname()[1])")
    return int(done.stdout)


def set_password(at, password):
    """Of the registry that has one; it looks at the file's time."""
    with open(f"{at}/htpasswd.new", "w") as f:
        f.write(f"{USER}:" + crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)) + "\n")
    os.replace(f"{at}/htpasswd.new", f"{at}/htpasswd")


@contextlib.contextmanager
def serve(at, password=None, lab=None, name="127.0.0.1"):
    """"host:port" of a registry whose files lie in `at`."""
    prefix = ["nsenter", f"--net=/proc/{lab.about['internet_pid']}/ns/net"] if lab else []
    port, auth = free_port(prefix), ""
    tag = "private" if password else "open"
    if password:
        set_password(at, password)
        auth = f"auth: {{htpasswd: {{realm: r, path: {at}/htpasswd}}}}\n"
    with open(f"{at}/{tag}.yml", "w") as f:
        f.write(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {at}/{tag}}}}}\n"
                f"http: {{addr: '{'0.0.0.0' if lab else '127.0.0.1'}:{port}'}}\n{auth}")
    log_path = f"{at}/{tag}.log"
    with open(log_path, "w") as log:
        p = subprocess.Popen([*prefix, "docker-registry", "serve", f"{at}/{tag}.yml"], stdout=log,
                             stderr=log)
    try:
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), socket.create_connection((name, port), 1):
                break
            assert p.poll() is None and time.monotonic() < end, open(log_path).read()
            time.sleep(0.05)
        yield f"{name}:{port}"
    finally:
        p.terminate()
        p.wait(60)


@contextlib.contextmanager
def silent(lab, name):
    """"host:port" of one that takes connections and says nothing, and what makes it hang up."""
    prefix = ["nsenter", f"--net=/proc/{lab.about['internet_pid']}/ns/net"]
    port = free_port(prefix)
    p = subprocess.Popen([*prefix, "/usr/bin/python3", "-c", "import socket, sys\n"
                          f"s = socket.create_server(('', {port}))\nprint(1, flush=True)\nsys.stdin.read()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert p.stdout.readline()
        yield f"{name}:{port}", p.stdin.close
    finally:
        p.stdin.close()
        p.wait(60)


def requests(at, tag="open"):
    """Paths that were asked of it, from its own log."""
    with open(f"{at}/{tag}.log") as f:
        return [line.split('"')[1].split()[1] for line in f if line.count('"') >= 2 and "HTTP/1.1" in line]


# --- images ------------------------------------------------------------------------------------

def member(name, kind=tarfile.REGTYPE, data=b"", mode=0o755, **fields):
    """An entry of a layer."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = kind, mode, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(members, gzip=True):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if gzip else "w", format=tarfile.PAX_FORMAT) as t:
        for info, data in members:
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def shell():
    """A layer with busybox and the directories that every system has."""
    with open("/bin/busybox", "rb") as f:
        busybox = f.read()
    return tar([member(d, tarfile.DIRTYPE) for d in ("bin", "etc", "root", "tmp", "proc", "sys", "dev",
                                                     "run")] +
               [member("bin/busybox", data=busybox)] +
               [member(f"bin/{n}", tarfile.SYMTYPE, linkname="busybox")
                for n in ("sh", "cat", "ls", "tail", "stat", "id")])


def layout(at, layers, manifest_more=None, config_more=None):
    """An OCI layout of these layers (bytes, gzipped tars); nothing of it is checked."""
    blobs = f"{at}/blobs/sha256"
    os.makedirs(blobs)

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{blobs}/{digest}", "wb") as f:
            f.write(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def plain(data):
        import gzip
        try:
            return hashlib.sha256(gzip.decompress(data)).hexdigest()
        except OSError:
            return hashlib.sha256(data).hexdigest()

    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {
        "type": "layers", "diff_ids": ["sha256:" + plain(x) for x in layers]}, **(config_more or {})})
    kind = "application/vnd.oci.image."
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
        "config": {"mediaType": kind + "config.v1+json", **blob(config.encode())},
        "layers": [{"mediaType": kind + "layer.v1.tar+gzip", **blob(x)} for x in layers],
        **(manifest_more or {})})
    with open(f"{at}/oci-layout", "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')
    with open(f"{at}/index.json", "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [{"mediaType": kind + "manifest.v1+json", "annotations": {
            "org.opencontainers.image.ref.name": "1"}, **blob(manifest.encode())}]}, f)


def push(at, where, name, layers, password=None, **more):
    made = f"{at}/layout-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    layout(made, layers, **more)
    creds = ["--dest-creds", f"{USER}:{password}"] if password else []
    run("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", *creds, f"oci:{made}:1",
        f"docker://{where}/{name}")
    shutil.rmtree(made)
