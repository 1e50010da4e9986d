"""Paths and URIs as users write them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from airflow_provider_lamini.rows.errors import InputError

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_ONE_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/(?!/)")
_LOCAL = ("file", "local")
_WEB = ("http", "https")
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_SIGNATURE = re.compile(
    r"\?(?=[^/]*(?:token|sig|signature|secret|password|credential)=).*", re.DOTALL | re.IGNORECASE
)
_AUTHORITY = re.compile(r"(?:[^@]*@)?(?:[^\[\]\s?#@]*|\[[0-9A-Fa-f:.]+\](?::\d+)?)")
"""A bucket or a host, perhaps after the id of a connection."""
_LONGEST_PATH, _LONGEST_NAME = 4096, 255
_SHORT = 100


class UriParts(NamedTuple):
    """The parts of a URI. A path is the name of an object, not a web address: ``#``, ``?`` and ``%`` belong to it.

    :param scheme: such as ``s3``, in lower case
    :param authority: what stands before the path, such as the bucket, perhaps with the id of a connection
    :param path: the path without its first slash, as the user wrote it
    """

    scheme: str
    authority: str
    path: str


def split_uri(uri: str) -> UriParts:
    """Split a URI without interpreting its path.

    :param uri: a URI, which matches `SCHEME`
    """
    scheme, _, rest = uri.partition("://")
    authority, _, path = rest.partition("/")
    return UriParts(scheme.lower(), authority, path)


def is_remote(uri: str) -> bool:
    """Whether a path or URI leads to an object store.

    :param uri: the path or URI
    :raises InputError: if it is not a valid path or URI
    """
    _check_text(uri)
    if not SCHEME.match(uri):
        return False
    parts = split_uri(uri)
    if parts.scheme in _LOCAL:
        return False
    if not _AUTHORITY.fullmatch(parts.authority):
        # The message does not repeat the URI, which could contain a password.
        raise InputError("The URI cannot be read: check the bucket or host between '://' and the next '/'.")
    return True


def has_one_slash(text: str) -> bool:
    """Whether a text begins with a scheme and one slash, as some tools write URIs: ``dbfs:/folder``."""
    return _ONE_SLASH.match(text) is not None


def redacted_uri(uri: str) -> str:
    """A URI for messages: without a password, the query of a web address, and what looks like a signature or a token."""
    if not SCHEME.match(uri):
        return uri
    web = split_uri(uri).scheme in _WEB
    return (_QUERY if web else _SIGNATURE).sub("", without_password(uri))


def without_password(uri: str) -> str:
    """A URI with its whole path, so that it still leads to the same object, but without a password."""
    if not SCHEME.match(uri):
        return uri
    scheme, _, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}{at}{host}{slash}{path}"


def short_uri(uri: str) -> str:
    """A path or URI, valid or not, for messages: without its password, on one line and shortened.

    :param uri: the path or URI
    """
    text = redacted_uri(uri)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 2 * _SHORT else f"{text[:_SHORT]}...{text[-_SHORT:]}"


def _check_text(uri: str) -> None:
    if "\0" in uri or "\n" in uri:
        raise InputError("A path or URI must not contain line breaks or NUL characters.")
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise InputError(
            "A path or URI contains half of a surrogate pair, which is not valid Unicode. "
            "Rename files whose names are not UTF-8."
        ) from None


def local_path(uri: str) -> str:
    """The absolute path of a local file.

    :param uri: its path, which may be relative to the working directory or start with ``~``, or its ``file://`` URI
    :raises InputError: if it is not a valid path
    """
    _check_text(uri)
    if has_one_slash(uri):
        scheme = uri.partition(":")[0]
        raise InputError(
            f"A path begins with {scheme}:/ and one slash, so it is neither a URI nor a local path. Write {scheme}:// with the "
            "bucket or host behind it, or the local path where the files are mounted."
        )
    path = f"/{split_uri(uri).path}" if SCHEME.match(uri) else uri
    try:
        found = _absolute(Path(path).expanduser())
    except RuntimeError:
        raise InputError(f"{short_uri(path)}: that user has no home folder. Pass an absolute path.") from None
    text = str(found)
    longest = max((len(os.fsencode(part)) for part in found.parts), default=0)
    if longest > _LONGEST_NAME or len(os.fsencode(text)) >= _LONGEST_PATH:
        raise InputError(f"The path {short_uri(text)} is too long for a file system.")
    return text


def _absolute(path: Path) -> Path:
    # Not resolve(): if a symbolic link changes between two tries, it must still be a link.
    return Path(os.path.normpath(Path.cwd() / path))
