"""A certificate that is replaced while it is in use: nobody's connection ends over it."""

import hashlib
import signal
import ssl
import subprocess

from kit.daemon import wait_until
from kit.ingress import Door, serve

SIZE = 64 << 20


def pair(at, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-keyout",
                    at / f"{name}.key", "-out", at / f"{name}.crt"], check=True, capture_output=True)


def put(at, name):
    """As a renewal does it: one file after the other, each replaced as a whole."""
    for kind in ("crt", "key"):
        new = at / f"next.{kind}"
        new.write_bytes((at / f"{name}.{kind}").read_bytes())
        new.rename(at / f"used.{kind}")


def shown(door):
    w = door.connect(tls=True)
    try:
        return ssl.DER_cert_to_PEM_cert(w.sock.getpeercert(binary_form=True))
    finally:
        w.close()


def test_another_certificate_while_one_downloads(other_daemon, tmp_path):
    for name in ("first", "second"):
        pair(tmp_path, name)
    put(tmp_path, "first")
    first, second = ((tmp_path / f"{n}.crt").read_text() for n in ("first", "second"))
    daemon = other_daemon({"ingress.cert": tmp_path / "used.crt", "ingress.key": tmp_path / "used.key"})
    box = serve(daemon.api.create(ingress_enabled=True), 8000)
    door = Door({"run_dir": daemon.run_dir})
    assert shown(door) == first
    w = door.connect(tls=True).send(door.ask(box, 8000, f"/bulk/{SIZE}"))
    assert w.head().status == 200
    digest = hashlib.sha256(w.exactly(1 << 20))

    put(tmp_path, "second")
    daemon.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: shown(door) == second, 120), "new connections are shown the old one"
    digest.update(w.exactly(1 << 20))
    put(tmp_path, "first")  # and without being told, a little later
    assert wait_until(lambda: shown(door) == first, 120), "new connections are shown the old one"
    digest.update(w.exactly(SIZE - (2 << 20)))
    assert digest.digest() == hashlib.sha256(bytes(range(256)) * (SIZE // 256)).digest()
    assert w.send(door.ask(box, 8000)).answer().status == 200  # and goes on after it

    # A worker that is started anew shows the new one too.
    daemon.kill9(edge := daemon.role("edge"))
    assert wait_until(lambda: daemon.role("edge") not in (edge, None), 120)

    def again():
        try:
            return shown(door) == first
        except OSError:
            return False
    assert wait_until(again, 120)
