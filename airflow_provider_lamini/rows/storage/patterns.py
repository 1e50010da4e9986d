"""Patterns of paths, and what their folders say: hidden names, partition columns."""

from __future__ import annotations

import glob
import re
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.rows.storage.base import GLOB
from airflow_provider_lamini.rows.storage.uris import short_uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_lamini.rows.storage.base import Store

_ALTERNATIVES = re.compile(r"\{([^{}]*,[^{}]*)\}")
_PARTITION = re.compile(r"([^=/]+)=(.*)", re.DOTALL)
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_UNFINISHED = ("._COPYING_", "_$folder$")
_MAX_PATTERNS = 1000


def is_pattern(path: str) -> bool:
    """Whether a path, which does not exist, is a pattern: with ``*``, ``?``, ``[a-z]`` or ``{a,b}``."""
    return bool(GLOB.search(path) or _ALTERNATIVES.search(path))


def expand_alternatives(pattern: str) -> list[str]:
    """Write each alternative of a pattern out, as a shell does: ``{a,b}/x`` becomes ``a/x`` and ``b/x``.

    :param pattern: the pattern
    :raises ValueError: if there are more than a thousand
    """
    found = [pattern]
    while match := next(filter(None, map(_ALTERNATIVES.search, found)), None):
        found = [alternative for item in found for alternative in _expand_one(item, match.re)]
        if len(found) > _MAX_PATTERNS:
            raise ValueError(f"the pattern has more than {_MAX_PATTERNS} alternatives")
    return found


def _expand_one(pattern: str, alternatives: re.Pattern[str]) -> Iterator[str]:
    match = alternatives.search(pattern)
    if match is None:
        yield pattern
        return
    for word in match[1].split(","):
        yield f"{pattern[: match.start()]}{word}{pattern[match.end() :]}"


def check_pattern(pattern: str) -> None:
    """Refuse what the libraries of the stores, and versions of Python, understand in different ways.

    :param pattern: the pattern
    :raises InputError: if ``**`` is not a whole component of the path
    """
    if any("**" in part and part != "**" for part in PurePosixPath(pattern).parts):
        raise InputError(
            f"{short_uri(pattern)} is not a valid pattern of files: '**' must be a whole part of the path, as in '**/*.jsonl'."
        )


def literal_pattern(store: Store, pattern: str) -> str:
    """A pattern in which folders that exist under exactly this name, such as ``what?``, stand for themselves.

    :param store: the store
    :param pattern: the pattern
    """
    parts = list(PurePosixPath(pattern).parts)
    for number, part in enumerate(parts[:-1]):
        if "*" in part or not GLOB.search(part):
            continue
        if not store.is_folder(str(PurePosixPath(*parts[: number + 1]))):
            break
        parts[number] = glob.escape(part)
    return str(PurePosixPath(*parts))


def fixed_part(pattern: str) -> PurePosixPath:
    """The folder above the first component of a pattern that is not a plain name."""
    parts = PurePosixPath(pattern).parts
    first = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts) - 1)
    return PurePosixPath(*parts[:first])


def is_hidden(path: str, below: PurePosixPath, pattern: str = "") -> bool:
    """Whether a file is hidden, by the rule that Spark, Hive and DuckDB share.

    A file is hidden if its name, or that of a folder, begins with ``.`` or ``_``, as temporary and log files do. Folders of
    partitions (``_day=1``) are not. A name that the pattern spells with ``.`` or ``_`` is wanted.

    :param path: path of the file
    :param below: the folder that the user has named; only what is below it counts
    :param pattern: the pattern that the file matches
    """
    parts = PurePosixPath(path).relative_to(below).parts
    # What the pattern spells above that folder says nothing about the names below it.
    spelled = PurePosixPath(pattern).parts[len(below.parts) :]
    wanted = [part[0] for part in spelled if part[0] in "._"]
    return any(_is_hidden_name(part) and part[0] not in wanted for part in parts)


def _is_hidden_name(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name) or name.endswith(_UNFINISHED)


def partition_columns(path: str) -> dict[str, str | None]:
    """The columns that folders such as ``dt=2026-01-01/lang=en`` add to each row of a file, as text.

    :param path: path of the file
    """
    found: dict[str, str | None] = {}
    for part in PurePosixPath(path).parts[:-1]:
        if match := _PARTITION.fullmatch(part):
            name, value = _unescaped(match[1]), _unescaped(match[2])
            found[name] = None if value == _NULL_PARTITION else value
    return found


def _unescaped(text: str) -> str:
    """A name or value as Hive has it before it escapes characters; the text as it is if its escapes are none of UTF-8."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def path_matches(path: str, pattern: str) -> bool:
    """Whether a path matches a pattern, in which ``**`` stands for any number of folders.

    :param path: the path
    :param pattern: the pattern, without alternatives
    """
    return _matches(PurePosixPath(path).parts, PurePosixPath(pattern).parts)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return any(_matches(parts[begin:], rest) for begin in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], first) and _matches(parts[1:], rest)
