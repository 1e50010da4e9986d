"""A platform operation as data: what to send, how to read the answer, whether it may be sent again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


from functools import cached_property

T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""A JSON value."""


class Retry(Enum):
    """When a failed call may be sent again without asking anybody."""

    SAFE = "safe"
    """After any passing failure: the call reads, or writes the same thing again."""
    ONLY_IF_NOT_STARTED = "if refused"
    """Only where the platform surely did not begin: refused connection, 429. The call starts work."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """One file of a body, or a whole body; it is opened when sent and read in blocks.

    :param name: file name that the platform sees
    :param open: opens the file anew for reading bytes, once per attempt
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
    :param parse: turns the body of a successful answer into what it means; raises ``ValueError`` where it
        does not fit
    :param retry: whether a failed attempt may be repeated
    :param json: body to send as JSON; ``None`` sends no body
    :param multipart: body to send as a form with files, instead of ``json``
    :param content: body to send as it lies in a file, read in blocks, instead of ``json``
    :param params: query parameters
    :param timeout: seconds to wait for an answer, where the call needs other than the client's
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
        """The same request, with the body beside what is read from it."""
        return self._read_as(lambda body: (body, self.parse(body)))

    def map(self, transform: Callable[[T_co], U]) -> Call[U]:
        """The same request with its answer turned into something else.

        :param transform: what to make of the answer
        :returns: a call whose answer is ``transform`` of this call's answer
        """
        return self._read_as(lambda body: transform(self.parse(body)))

    def _read_as(self, read: Callable[[bytes], U]) -> Call[U]:
        return cast("Call[U]", replace(self, parse=cast("Callable[[bytes], T_co]", read)))


class PromptList(list[str]):
    """Texts that nobody changes any more: megabytes of them are written as JSON once, for their hash and for the body."""

    @cached_property
    def as_json(self) -> bytes:
        """They as one list.

        :raises UnicodeEncodeError: for half of a surrogate pair, which is no text
        """
        import msgspec  # calls are built where Dags are parsed, too

        return msgspec.json.encode(list(self))
