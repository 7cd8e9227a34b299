"""Places on remote file systems, through Arrow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from kvae.errors import KvaeError
from kvae.remote.uris import Uri

__all__ = ["Place", "RemoteFile", "open_place", "told"]

# Seconds, and how often something is tried: what does not answer is given up after a minute.
_CONNECT_SECONDS = 10.0
_REQUEST_SECONDS = 30.0
_ATTEMPTS = 3
_SECOND = 1_000_000_000
ANONYMOUS = "anonymous"
_S3_OPTIONS = (
    "region",
    "scheme",
    "endpoint_override",
    "session_token",
    "allow_bucket_creation",
    "allow_bucket_deletion",
)
# How Arrow words what goes wrong, and what there is to do about it.
_REASONS: tuple[tuple[str, str], ...] = (
    (r"NO_SUCH_BUCKET|bucket does not exist|NoSuchBucket", "there is no such bucket"),
    (
        r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|InvalidAccessKeyId"
        r"|SignatureDoesNotMatch|PERMISSION_DENIED|UNAUTHENTICATED|HTTP status 40[13]"
        r"|Could not create.*credentials|EXPIRED_TOKEN|ExpiredToken|INVALID_CLIENT_TOKEN",
        "access is denied: give credentials as environment variables (of S3 AWS_ACCESS_KEY_ID and"
        " AWS_SECRET_ACCESS_KEY), or write anonymous@ before the name of a public bucket",
    ),
    (
        r"libjvm|libhdfs",
        "Hadoop's client is not found: set JAVA_HOME and HADOOP_HOME, and CLASSPATH as"
        " `hadoop classpath --glob` gives it",
    ),
    (r"SLOW_DOWN|THROTTLING|SlowDown", "the store is overloaded: try again later"),
)
_UNREACHABLE = re.compile(
    r"NETWORK_CONNECTION|curlCode|CURL error|UNAVAILABLE|timed? ?out|TIMEOUT|Connection re", re.I
)
_CURL = re.compile(
    r"curlCode: \d+, ([^;\n(]+)|CURL error ?\[\d+\]=([^;\n(]+?)(?= error_info|[;(]|$)"
)


@dataclass(frozen=True)
class Place:
    """A file or folder of a file system.

    Attributes
    ----------
    uri
        Its name.
    system
        A `pyarrow.fs.FileSystem`.
    path
        What the file system calls it.
    """

    uri: Uri
    system: Any
    path: str

    def __str__(self) -> str:
        return str(self.uri)

    def at(self, path: str) -> Place:
        """Get another place of the same file system, which it calls so."""
        below = path.removeprefix(self.path).strip("/")
        return Place(self.uri.with_path(f"{self.uri.path}/{below}"), self.system, path)

    def child(self, name: str) -> Place:
        """Get a file of this folder."""
        return self.at(f"{self.path.rstrip('/')}/{name}")

    def info(self) -> Any:
        """Look it up: what is not there has the type ``NotFound``."""
        with told(self.uri):
            return self.system.get_file_info(self.path)

    def file(self, *, found: bool = False) -> RemoteFile | None:
        """Get it as a file, None where there is none."""
        info = self.info()
        return RemoteFile.of(self, info, found=found) if info.is_file else None

    def missing(self) -> KvaeError:
        """Say that there is nothing, and how much of the way there was."""
        from pyarrow.fs import FileType

        bucket = self.path.partition("/")[0]
        if self.uri.scheme in ("s3", "gs", "gcs", "abfs", "abfss"):
            with told(self.uri):
                if self.system.get_file_info(bucket).type == FileType.NotFound:
                    return KvaeError(f"{self}: there is no bucket {bucket}: check the name")
        return KvaeError(f"{self}: there is no such file: check the name")

    def read_bytes(self) -> bytes:
        """Read a small file."""
        with told(self.uri), self.system.open_input_stream(self.path, compression=None) as source:
            return bytes(source.read())

    def listed(self, *, recursive: bool) -> list[RemoteFile]:
        """List the files of a folder, in the order of the bytes of their paths."""
        from pyarrow.fs import FileSelector

        with told(self.uri):
            infos = self.system.get_file_info(FileSelector(self.path, recursive=recursive))
        files = [
            RemoteFile.of(self.at(info.path), info, found=True) for info in infos if info.is_file
        ]
        return sorted(files, key=lambda file: file.place.path.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True)
class RemoteFile:
    """A file that was there when it was looked up.

    Attributes
    ----------
    place
        Where.
    size
        Bytes.
    modified
        Nanoseconds of the epoch, of a whole second; 0 where it is not known.
    found
        Whether it was found in a folder rather than named.
    """

    place: Place
    size: int
    modified: int
    found: bool = False

    @classmethod
    def of(cls, place: Place, info: Any, *, found: bool = False) -> RemoteFile:
        """Keep what a file system says."""
        return cls(place, int(info.size or 0), _seconds(info), found)

    def __str__(self) -> str:
        return str(self.place)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open it for reading anywhere in it."""
        with told(self.place.uri):
            source = self.place.system.open_input_file(self.place.path)
        with source:
            if source.size() != self.size:
                raise self.changed()
            yield source

    def read_at(self, source: Any, offset: int, size: int) -> bytes:
        """Read some of it, all of which is there.

        Raises
        ------
        KvaeError
            Where it ends early.
        """
        with told(self.place.uri):
            block = source.read_at(size, offset)
        if len(block) != size:
            raise KvaeError(
                f"{self}: ended after {offset + len(block):,} of {self.size:,} bytes: start again"
            )
        return bytes(block)

    def tag(self, source: Any) -> str:
        """Name the version of its content that was opened."""
        metadata = source.metadata() or {}
        return bytes(metadata.get(b"ETag") or metadata.get("ETag") or b"").decode("latin-1")

    def confirm(self, tag: str) -> None:
        """Make sure that it is still what it was when it was opened.

        Raises
        ------
        KvaeError
            If it was replaced meanwhile, or is gone.
        """
        now = self.place.info()
        if not now.is_file or (int(now.size or 0), _seconds(now)) != (self.size, self.modified):
            raise self.changed()
        if tag:
            with told(self.place.uri), self.place.system.open_input_file(self.place.path) as again:
                if self.tag(again) != tag:
                    raise self.changed()

    def changed(self) -> KvaeError:
        """Say that it is another one."""
        return KvaeError(f"{self}: has changed while it was read: start again")


def _seconds(info: Any) -> int:
    """When a file was changed; listings know it better than headers, which know seconds."""
    return int(info.mtime_ns or 0) // _SECOND * _SECOND


def open_place(uri: Uri) -> Place:
    """Connect to the file system of a URI.

    Raises
    ------
    KvaeError
        Where Arrow was built without it, for options that it does not know, and where it
        needs something that is missing.
    """
    with told(uri):
        if uri.scheme == "s3":
            path = f"{uri.host}/{uri.path}".rstrip("/")
            return Place(uri, _s3(uri.host, uri.user, uri.query), path)
        return Place(uri, *_of_arrow(uri))


@contextmanager
def told(uri: Uri) -> Iterator[None]:
    """Say in a line what a file system complains of.

    Raises
    ------
    KvaeError
        In the place of what Arrow raises.
    """
    try:
        yield
    except ImportError as error:
        raise KvaeError(
            f"{uri}: this pyarrow was built without {uri.scheme}://: install one with it,"
            " as pip install pyarrow does"
        ) from error
    except FileNotFoundError as error:
        raise KvaeError(f"{uri}: there is no such file: check the name") from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise KvaeError(f"{uri}: {_reason(str(error), uri)}") from error


def _reason(text: str, uri: Uri) -> str:
    for pattern, reason in _REASONS:
        if re.search(pattern, text):
            return reason
    if _UNREACHABLE.search(text):
        found = _CURL.search(text)
        detail = next((part.strip() for part in (found.groups() if found else ()) if part), "")
        endpoint = endpoint_of(uri)
        of = f" of {endpoint}" if endpoint else ""
        return (
            f"the store{of} does not answer ({(detail or 'no connection').lower()}): check the"
            " network, the region and the endpoint"
        )
    # Arrow's own sentence, as far as it is one and tells no secret.
    lines = text.strip().splitlines()
    line = re.sub(r" ?\(Request ID:[^)]*\)", "", lines[0] if lines else "cannot be read")
    line = re.sub(r"[A-Za-z0-9+.-]+://\S*", lambda found: str(uri), line)
    return line[:300]


def endpoint_of(uri: Uri) -> str:
    """Where a URI's store is asked, if not at its usual place."""
    return dict(uri.query).get("endpoint_override") or _endpoint_of_environment()


def _endpoint_of_environment() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


@lru_cache(maxsize=64)
def _s3(bucket: str, user: str, query: tuple[tuple[str, str], ...]) -> Any:
    """Connect to S3, or to what speaks like it, without waiting for ever."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    options = dict(query)
    for name in options:
        if name not in _S3_OPTIONS:
            raise ValueError(
                f"has an option {name} that S3 does not have: it takes {', '.join(_S3_OPTIONS)}"
            )
    endpoint = options.pop("endpoint_override", None) or _endpoint_of_environment() or None
    scheme = options.pop("scheme", None)
    if endpoint is not None and (found := re.match(r"(https?):/+(.*)", endpoint)):
        scheme, endpoint = scheme or found[1], found[2].rstrip("/")
    credentials: dict[str, Any] = {}
    token = options.pop("session_token", None)
    if user == ANONYMOUS:
        credentials["anonymous"] = True
    elif user:
        name, _, secret = user.partition(":")
        credentials = {"access_key": unquote(name), "secret_key": unquote(secret)}
        if token:
            credentials["session_token"] = token
    region = options.pop("region", None) or _region(bucket, endpoint)
    return S3FileSystem(
        **credentials,
        region=region,
        scheme=scheme or "https",
        endpoint_override=endpoint,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        **{name: value.lower() in ("1", "true") for name, value in options.items()},
    )


def _region(bucket: str, endpoint: str | None) -> str:
    """Find the region of a bucket; only Amazon's have one that matters."""
    from pyarrow.fs import resolve_s3_region

    known = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint is not None:
        return known or "us-east-1"
    try:
        return str(resolve_s3_region(bucket))
    except OSError:
        if known is None:
            raise
        return known


def _of_arrow(uri: Uri) -> tuple[Any, str]:
    """Connect to any other file system as Arrow does."""
    from pyarrow.fs import FileSystem

    query = dict(uri.query)
    if uri.scheme in ("gs", "gcs"):
        # A quarter of an hour otherwise.
        query.setdefault("retry_limit_seconds", f"{_REQUEST_SECONDS:.0f}")
    full = Uri(uri.scheme, uri.user, uri.host, uri.path, tuple(query.items())).full
    system, path = FileSystem.from_uri(full)
    return system, path
