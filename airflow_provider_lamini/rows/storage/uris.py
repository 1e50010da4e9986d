"""Paths and URIs as users write them: what can be one, whose it is, and how messages repeat it."""

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
_SHOWN = 100


def is_remote(uri: str) -> bool:
    """Whether a URI or path leads to an object store.

    :param uri: the URI or path
    :raises InputError: for what can be none
    """
    _check_text(uri)
    return bool(SCHEME.match(uri)) and _split(uri).scheme not in _LOCAL


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError:  # its text may repeat a password
        raise InputError("The URI cannot be read: check its brackets and its host.") from None


def shown(uri: str) -> str:
    """A URI for messages: without query and without a password."""
    if not SCHEME.match(uri):
        return uri
    try:
        parts = urlsplit(uri)
    except ValueError:  # where the password is in it cannot be told
        return f"{uri.partition('://')[0]}://..."
    user, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query="", fragment="").geturl()


def brief(uri: str) -> str:
    """A path or URI that may be none, for messages about that: as `shown`, on one line and not too long.

    :param uri: what was given as such
    """
    text = shown(uri)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]}...{text[-_SHOWN:]}"


def _check_text(uri: str) -> None:
    if "\0" in uri or "\n" in uri:
        raise InputError("A path or URI must not hold line breaks or NUL characters.")
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise InputError(
            "A path or URI holds half of a surrogate pair, which is not valid Unicode. "
            "Rename files whose names are not UTF-8."
        ) from None


def local_path(uri: str) -> str:
    """The absolute path of a file on this machine, by its path or its ``file://`` URI.

    :param uri: the path or URI; a path may be relative to the working directory, or begin with ``~``
    :raises InputError: for what can be no path
    """
    _check_text(uri)
    path = _split(uri).path if SCHEME.match(uri) else uri
    try:
        found = _absolute(Path(path).expanduser())
    except RuntimeError:
        raise InputError(
            f"{brief(path)}: there is no home folder of that user. Write the path out."
        ) from None
    text = str(found)
    longest = max((len(os.fsencode(part)) for part in found.parts), default=0)
    if longest > _LONGEST_NAME or len(os.fsencode(text)) >= _LONGEST_PATH:
        raise InputError(f"The path {brief(text)} is too long for a file system.")
    return text


def _absolute(path: Path) -> Path:
    # Not resolve(): a symbolic link that is moved between two tries must stay one.
    return Path(os.path.normpath(Path.cwd() / path))
