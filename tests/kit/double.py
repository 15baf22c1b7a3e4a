"""An agent that is not ours: a program that listens in its place and says what no agent would.

Its words: the port, and how it answers, or "as asked": with the way that is named in what it is asked.
"""

# frame(): type, flags, zero, length, body. 34 is STDOUT, 36 STARTED with one field: tag, length, pid.
DOUBLE = '''
import os, socket, struct, sys, threading, time
port, how = int(sys.argv[1]), sys.argv[2]
HOWS = "garbage", "length", "close", "hello", "back"
s = socket.create_server(("169.254.77.2", port), backlog=64)
print("listening", flush=True)
def frame(t, body=b""):
    return struct.pack(">BBHI", t, 0, 0, len(body)) + body
def serve(c):
    sent = 0
    try:
        asked, way = c.recv(65536), how
        while way == "as asked":
            way = next((h for h in HOWS if h.encode() in asked), way)
            asked += c.recv(65536) if way == "as asked" else b""
        print("asked", flush=True)
        started = frame(36, struct.pack(">BBHI", 1, 0, 0, 4) + struct.pack(">I", 7))
        if way == "garbage":
            c.sendall(os.urandom(65536))
        elif way == "length":
            c.sendall(struct.pack(">BBHI", 36, 0, 0, 0xffffffff) + b"x" * 65536)
        elif way == "close":
            c.sendall(started[:5])
            return
        elif way == "hello":
            while True:
                c.sendall(started)
        elif way == "back":
            os._exit(0)
        elif way == "dribble":
            for b in frame(36, b"x" * 60000):
                c.sendall(bytes([b]))
                time.sleep(1)
        elif way == "endless":
            c.sendall(started)
            piece = frame(34, b"y" * 65536) * 4
            while True:
                c.sendall(piece)
                sent += len(piece)
                print(sent, flush=True)
        c.recv(1)
    except OSError:
        pass
    finally:
        print("end", sent, flush=True)
        c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
'''
