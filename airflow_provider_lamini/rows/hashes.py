"""Hashes of rows, chunks and settings. Files hold them, so they never change."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEY_SIZE = 16
"""Bytes of a row's key."""
_HASH = hashlib.blake2b(digest_size=KEY_SIZE)


def row_keys(prompts: Sequence[str]) -> bytes:
    """The keys of rows, one after the other.

    :param prompts: the prompts of the rows
    """
    new_hash, keys = _HASH.copy, []  # a copy is made faster than a new one
    for prompt in prompts:
        row_hash = new_hash()
        row_hash.update(prompt.encode())
        keys.append(row_hash.digest())
    return b"".join(keys)


def fingerprint(keys: bytes) -> str:
    """Hash of a chunk's prompts, for `LedgerChange.plan`.

    :param keys: the keys of its rows, which are hashes of their prompts
    """
    return hashlib.sha1(keys, usedforsecurity=False).hexdigest()


def digest(value: Mapping[str, object]) -> str:
    """A hash of plain values.

    :param value: values that JSON can hold
    """
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
