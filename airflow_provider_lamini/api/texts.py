"""Many texts that leave for the platform together."""

from __future__ import annotations

from functools import cached_property

import msgspec


class Texts(list[str]):
    """Texts that nobody changes any more: megabytes of them are written as JSON once, for their hash and for the body."""

    @cached_property
    def as_json(self) -> bytes:
        """They as one list.

        :raises UnicodeEncodeError: for half of a surrogate pair, which is no text
        """
        return msgspec.json.encode(list(self))
