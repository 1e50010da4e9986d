"""A platform operation as data: what to send, how to parse the response, whether it may be sent again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""A JSON value."""


class Retry(Enum):
    """When a failed call may be sent again."""

    SAFE = "safe"
    """After any transient failure: the call reads, or writes the same thing again."""
    ONLY_IF_NOT_STARTED = "only if not started"
    """Only if the platform certainly did not start the work: refused connection, 429. The call starts work."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file in a body, or a whole body; it is opened when it is sent, and read in blocks.

    :param name: file name that the platform sees
    :param open: opens the file for reading bytes, once per attempt
    :param content_type: media type
    """

    name: str
    open: Callable[[], BinaryIO]
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Multipart:
    """A ``multipart/form-data`` body.

    :param fields: plain form fields
    :param files: the files, all under one field name
    :param file_field: that field name
    """

    fields: Mapping[str, str]
    files: Iterable[FilePart]
    file_field: str = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T_co]):
    """One request to a platform, not yet sent.

    :param operation: the platform's operation id, for logs and errors
    :param method: HTTP method
    :param path: path below the base URL, quoted, with a leading slash
    :param parse: parses the body of a successful response; raises ``ValueError`` if it is invalid
    :param retry: when a failed call may be sent again
    :param json: body to send as JSON; ``None`` sends no body
    :param multipart: body to send as a form with files, instead of ``json``
    :param content: file to send as the body, instead of ``json``
    :param params: query parameters
    :param timeout: seconds to wait for the response; ``None`` for the client's ``read_timeout``
    """

    operation: str
    method: str
    path: str
    parse: Callable[[bytes], T_co]
    retry: Retry
    json: Json = field(default=None, repr=False)
    multipart: Multipart | None = None
    content: FilePart | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None

    def with_body(self) -> Call[tuple[bytes, T_co]]:
        """Return a call whose result is the body of the response and what ``parse`` makes of it."""
        return self._with_parse(lambda body: (body, self.parse(body)))

    def map(self, transform: Callable[[T_co], U]) -> Call[U]:
        """Return a call whose result is ``transform`` of this call's result.

        :param transform: turns one result into the other
        """
        return self._with_parse(lambda body: transform(self.parse(body)))

    def _with_parse(self, parse: Callable[[bytes], U]) -> Call[U]:
        return cast("Call[U]", replace(self, parse=cast("Callable[[bytes], T_co]", parse)))


class PromptList(list[str]):
    """Prompts that do not change any more, so that they are encoded once, for their hash and for the body."""

    @cached_property
    def as_json(self) -> bytes:
        """All texts as one JSON array.

        :raises UnicodeEncodeError: for half of a surrogate pair, which is not valid text
        """
        import msgspec  # Dag files import this module

        return msgspec.json.encode(list(self))
