"""Ingress in a few requests, with a service that a minimal Debian can run: perl is in all of them."""

import pytest

from kit.ingress import Door

SERVICE = r'''
use IO::Socket::INET;
$SIG{CHLD} = "IGNORE";
my $l = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 64, ReuseAddr => 1)
    or die;
while (my $c = $l->accept) {
    next if fork;
    while (defined(my $first = <$c>)) {
        my ($head, $line) = ("");
        $head .= $line while defined($line = <$c>) && $line ne "\r\n";
        if ($head =~ /^upgrade:/mi) {
            syswrite $c, "HTTP/1.1 101 On\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
            while (sysread $c, my $data, 65536) { syswrite $c, uc $data; }
            exit;
        }
        my ($n) = $first =~ m{/(\d+) };
        my $body = $n ? "x" x $n : $first;
        print $c "HTTP/1.1 200 OK\r\nContent-Length: ", length $body, "\r\n\r\n", $body;
        $c->flush;
    }
    exit;
}
'''


@pytest.fixture
def door(about):
    return Door(about)


def serve(box, port, address):
    box.put("/root/service.pl", SERVICE.encode())
    r = box.sh(f"setsid perl /root/service.pl {address} {port} >/root/log 2>&1 </dev/null & timeout 60 "
               f"bash -c 'until : </dev/tcp/127.0.0.1/{port}; do sleep 0.1; done' 2>/dev/null")
    assert r.code == 0, box.sh("cat /root/log").stdout


def test_a_service_is_visited_while_its_owner_wants_it(make_box, door):
    box = make_box(ingress_enabled=True, ingress_hold=True)
    serve(box, 8000, "0.0.0.0")
    serve(box, 8001, "127.0.0.1")
    for port in (8000, 8001):  # straight, and through the agent
        assert door.get(box, port, "/here").body.startswith(b"GET /here HTTP/1.1")
        assert door.get(box, port, "/1048576").body == b"x" * (1 << 20)
        w = door.connect().send(door.ask(box, port, "/", "Connection: Upgrade", "Upgrade: echo"))
        assert w.head().status == 101 and w.send("hello").exactly(5) == b"HELLO"
        w.close()
    assert door.get(box, 8000, "/tls", tls=True).status == 200
    assert door.get(box, 8002).status == 502 and door.get(box, 1028).status == 403
    box.pause()
    assert door.get(box, 8000).status == 200 and box.status == "running"
    kept = door.connect().send(door.ask(box, 8000))
    assert kept.answer().status == 200
    box.api.ok("PATCH", box.path, {"ingress_enabled": False})
    assert door.get(box, 8000).status == 404 and kept.send(door.ask(box, 8000)).answer().status == 404
    box.api.ok("PATCH", box.path, {"ingress_enabled": True})
    assert door.get(box, 8000).status == 200
    box.destroy()
    assert door.get(box, 8000).status == 404


def test_nobody_else_comes_in(make_box, door):
    """The way in is the proxy's alone: neighbours do not reach what visitors reach."""
    box, neighbour = make_box(ingress_enabled=True), make_box(egress=[])
    serve(box, 8000, "0.0.0.0")
    assert door.get(box, 8000).status == 200  # the control
    r = neighbour.sh(f"timeout 5 bash -c 'exec 3<>/dev/tcp/{box.ip}/8000' 2>&1; echo $?")
    assert r.stdout.split()[-1] != "0", r
