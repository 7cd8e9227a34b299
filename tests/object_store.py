"""An object store on this machine that speaks S3, and one that breaks off."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import FileSelector, FileType, S3FileSystem

from kvae.remote import places

BUCKET = "bucket"


class ObjectStore:
    """A bucket to put files into and look at, past kvae."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"127.0.0.1:{port}"
        self.system: Any = S3FileSystem(
            access_key="name",
            secret_key="secret",
            endpoint_override=self.endpoint,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        self.system.create_dir(BUCKET)

    @property
    def variables(self) -> dict[str, str]:
        """What a user would set to reach it."""
        return {
            "AWS_ACCESS_KEY_ID": "name",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL": f"http://{self.endpoint}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def put(self, key: str, content: bytes) -> None:
        with self.system.open_output_stream(f"{BUCKET}/{key}", compression=None) as sink:
            sink.write(content)

    def put_folder(self, key: str, folder: Path) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{key}/{path.relative_to(folder)}", path.read_bytes())

    def get(self, key: str) -> bytes:
        with self.system.open_input_file(f"{BUCKET}/{key}") as source:
            return bytes(source.read())

    def keys(self, prefix: str) -> list[str]:
        """Names of the objects in a folder, from there."""
        selector = FileSelector(f"{BUCKET}/{prefix}", recursive=True, allow_not_found=True)
        infos = self.system.get_file_info(selector)
        start = len(f"{BUCKET}/{prefix}/")
        return sorted(info.path[start:] for info in infos if info.type == FileType.File)


@contextmanager
def named_by_environment(store: ObjectStore, cache: Path) -> Iterator[ObjectStore]:
    """Have the environment name a store, and a folder for copies."""
    places._s3.cache_clear()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in store.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("KVAE_CACHE", str(cache))
        yield store
    places._s3.cache_clear()


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Start moto's server, and give its bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=nothing, stderr=nothing) as process:
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5):
                        break
                except OSError:
                    # Refused, reset or late: not yet there.
                    assert process.poll() is None
                    assert time.monotonic() < end
                    time.sleep(0.05)
            yield ObjectStore(port)
        finally:
            process.kill()


@contextmanager
def breaking_store(content: bytes, sent: int) -> Iterator[str]:
    """Serve one object whose connection breaks after some bytes; the endpoint.

    Where less is sent than there is, the length that the header states is that of all.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.send_response(200)
            self._describe(len(content))

        def do_GET(self) -> None:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            part = content[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self._describe(len(part))
            self.wfile.write(part[: max(0, sent - int(first))])
            self.close_connection = True

        def _describe(self, length: int) -> None:
            self.send_header("Content-Length", str(length))
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Tue, 24 Nov 2026 18:00:00 GMT")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
