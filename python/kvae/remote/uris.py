"""URIs of files, told from paths; nothing is looked up."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode

from kvae.errors import KvaeError
from kvae.system import NativePath

__all__ = [
    "RemotePath",
    "Uri",
    "as_path",
    "as_uri",
    "has_uris",
    "local_path",
    "name_of",
    "names_uris",
    "shown",
]

SCHEMES = ("s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss", "file")

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# What a URI has become that went through `pathlib.Path`.
_NORMALISED = re.compile(rf"(?:{'|'.join(SCHEMES)}):/(?!/)")
# What of a query says nothing that is to be kept from others.
_HARMLESS = ("region", "scheme", "endpoint_override")
_HOSTS_WITH_PORTS = ("hdfs", "viewfs")


@dataclass(frozen=True)
class Uri:
    """A URI in its parts.

    Attributes
    ----------
    scheme
        In small letters.
    user
        Name and secret, as they stand before the ``@``.
    host
        Bucket, container or name node.
    path
        What follows, decoded, without slashes at its ends.
    query
        Options of the file system.
    """

    scheme: str
    user: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, text: str) -> Uri:
        """Take a URI apart.

        Raises
        ------
        KvaeError
            For a scheme that is not known, and for a URI without a bucket.
        """
        scheme, _, rest = text.partition(":")
        scheme = scheme.lower()
        rest = rest[2:] if rest.startswith("//") else rest[1:]
        rest, _, query = rest.partition("?")
        if scheme not in SCHEMES:
            raise KvaeError(
                f"{scheme}://{rest.rpartition('@')[2]}: kvae reads files from"
                f" {', '.join(f'{one}://' for one in SCHEMES)}: download it, and give the file"
            )
        if scheme == "file":
            return cls(scheme, "", "", "/" + unquote(rest).strip("/"), ())
        authority, _, path = rest.partition("/")
        user, _, host = authority.rpartition("@")
        if ":" in host and scheme not in _HOSTS_WITH_PORTS:
            # Whatever follows may be a part of a secret.
            raise KvaeError(
                f"{scheme}://: a name and a secret before the bucket have to be percent-encoded"
                " (/ as %2F, + as %2B), or better, given as environment variables"
            )
        if not host:
            raise KvaeError(f"{scheme}:///{path}: names no bucket: write {scheme}://bucket/name")
        pairs = tuple(parse_qsl(query, keep_blank_values=True))
        return cls(scheme, user, host, unquote(path).strip("/"), pairs)

    def __str__(self) -> str:
        """Write it without credentials and options: for messages, and as a source's name."""
        if self.scheme == "file":
            return self.path
        return f"{self.scheme}://{self.host}" + (f"/{self.path}" if self.path else "")

    def with_path(self, path: str) -> Uri:
        """Get the same place but for its path."""
        return Uri(self.scheme, self.user, self.host, path.strip("/"), self.query)

    @property
    def shown(self) -> str:
        """It with those of its options that are no secrets."""
        harmless = [(key, value) for key, value in self.query if key in _HARMLESS]
        return str(self) + (f"?{urlencode(harmless, safe=':/')}" if harmless else "")

    @property
    def full(self) -> str:
        """It with all that it was given with, secrets too: for programs."""
        host = f"{self.user}@{self.host}" if self.user else self.host
        query = f"?{urlencode(self.query)}" if self.query else ""
        return f"{self.scheme}://{host}/{quote(self.path)}{query}"

    @property
    def name(self) -> str:
        """What follows the last slash."""
        return self.path.rpartition("/")[2]


class RemotePath(NativePath):
    """A remote file where a path is expected: for its name, and for messages.

    No file of this machine has it, so `exists` is false. What opens it takes `uri`.
    """

    uri: Uri

    @classmethod
    def of(cls, uri: Uri) -> RemotePath:
        """Make it of a URI."""
        path = cls(str(uri))
        path.uri = uri
        return path

    def __str__(self) -> str:
        uri = self.__dict__.get("uri")
        return super().__str__() if uri is None else str(uri)

    def __truediv__(self, name: str | os.PathLike[str]) -> RemotePath:
        return RemotePath.of(self.uri.with_path(f"{self.uri.path}/{os.fspath(name)}"))


def as_uri(path: object) -> Uri | None:
    """Read a URI; None for a path, and for what is neither.

    Raises
    ------
    KvaeError
        For a URI of a kind that is not read.
    """
    if isinstance(path, RemotePath) and "uri" in path.__dict__:
        return path.uri
    if not isinstance(path, str | os.PathLike):
        return None
    text = os.fspath(path)
    if not isinstance(text, str) or not (_URI.match(text) or _NORMALISED.match(text)):
        return None
    return Uri.of(text)


def as_path(path: str | os.PathLike[str]) -> Path:
    """Make a path of a path or a URI, which keeps its name in messages."""
    uri = as_uri(path)
    if uri is None:
        return Path(path)
    return Path(uri.path) if uri.scheme == "file" else RemotePath.of(uri)


def local_path(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Turn ``file://`` into the path that it stands for, and leave all else."""
    uri = as_uri(path)
    return uri.path if uri is not None and uri.scheme == "file" else path


def has_uris(paths: Iterable[object]) -> bool:
    """Whether one of some paths is a URI of a remote file."""
    return any((uri := as_uri(path)) is not None and uri.scheme != "file" for path in paths)


def names_uris(paths: Iterable[str | os.PathLike[str]]) -> bool:
    """Whether some inputs are URIs, or lists of what may be some.

    Lists that can be read only once are not looked into.
    """
    for path in paths:
        text = os.fspath(path)
        name = text.removeprefix("@") if isinstance(text, str) else ""
        if as_uri(name) is not None:
            return True
        if name != text and os.path.isfile(name):
            try:
                if b"://" in Path(name).read_bytes():
                    return True
            except OSError:
                # Whoever reads it says what is wrong.
                continue
    return False


def name_of(path: str | os.PathLike[str]) -> str:
    """Give the last part of a path or URI."""
    uri = as_uri(path)
    return Path(path).name if uri is None else uri.name


def shown(argument: str) -> str:
    """Write an argument of a command without the secrets of a URI in it."""
    at = "@" if argument.startswith("@") else ""
    rest = argument.removeprefix("@")
    if not (_URI.match(rest) or _NORMALISED.match(rest)):
        return argument
    try:
        return at + Uri.of(rest).shown
    except KvaeError:
        return at + rest.partition(":")[0] + "://..."
