"""Many requests from few clients: what tests of scale and endurance drive a daemon with.

	client = Client(url, key)		one kept connection; raises Refused on anything but success
	with Crowd(url, key, 8) as crowd:	eight of them, each in a thread of its own
		boxes = crowd.each(range(100), lambda client, i: client("POST", …)["id"])
		crowd.took				seconds of each call of the last each()

The first exception of a call ends each() and is raised; the calls after it are not begun.
"""

import concurrent.futures
import http.client
import json
import threading
import time
import urllib.parse

from .api import Refused, Response


class Client:
    def __init__(self, url, key, timeout=120):
        self.key = key
        self.c = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=timeout)

    def __call__(self, method, path, body=None):
        raw = None if body is None else json.dumps(body)
        headers = {"X-Api-Key": self.key}
        if raw is not None:
            headers["Content-Type"] = "application/json"
        try:
            self.c.request(method, path, raw, headers)
        except (http.client.CannotSendRequest, ConnectionError):
            self.c.close()  # an idle connection may be closed at any time: asked once more
            self.c.request(method, path, raw, headers)
        reply = self.c.getresponse()
        response = Response(reply, reply.read())
        if not 200 <= response.status < 300:
            raise Refused(response)
        return response.data

    def close(self):
        self.c.close()


class Crowd:
    def __init__(self, url, key, size):
        self.url, self.key, self.size = url, key, size
        self.took = []
        self._own = threading.local()
        self._clients = []
        self._pool = concurrent.futures.ThreadPoolExecutor(size)

    def _call(self, fn, arg):
        if not hasattr(self._own, "client"):
            self._own.client = Client(self.url, self.key)
            self._clients.append(self._own.client)
        start = time.perf_counter()
        value = fn(self._own.client, arg)
        self.took.append(time.perf_counter() - start)
        return value

    def each(self, args, fn):
        """fn(client, arg) for each of args, at most `size` at once; the values in their order."""
        self.took = []
        futures = [self._pool.submit(self._call, fn, arg) for arg in args]
        done, rest = concurrent.futures.wait(futures, return_when="FIRST_EXCEPTION")
        for future in rest:
            future.cancel()
        for future in done:
            future.result()
        return [future.result() for future in futures]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pool.shutdown(cancel_futures=True)
        for client in self._clients:
            client.close()


def at(samples, share):
    """The quantile of samples: at(took, 0.5), at(took, 0.99)."""
    s = sorted(samples)
    return s[min(len(s) - 1, int(len(s) * share))]
