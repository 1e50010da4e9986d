"""Paths and URIs as users write them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_lamini.rows.errors import InputError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_LOCAL = ("file", "local")
_LONGEST_PATH, _LONGEST_NAME = 4096, 255
_SHORT = 100


def is_remote(uri: str) -> bool:
    """Whether a path or URI leads to an object store.

    :param uri: the path or URI
    :raises InputError: if it is not a valid path or URI
    """
    _check_text(uri)
    return bool(SCHEME.match(uri)) and _split(uri).scheme not in _LOCAL


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError:  # its message could contain a password
        raise InputError("The URI cannot be read: check its brackets and its host.") from None


def redacted_uri(uri: str) -> str:
    """A URI for messages, without its query and password."""
    if not SCHEME.match(uri):
        return uri
    try:
        parts = urlsplit(uri)
    except ValueError:  # nobody knows where its password is
        return f"{uri.partition('://')[0]}://..."
    user, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query="", fragment="").geturl()


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
    path = _split(uri).path if SCHEME.match(uri) else uri
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
