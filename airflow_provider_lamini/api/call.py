"""A platform operation as data: what to send, how to parse the response, whether it may be sent again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""A JSON value."""


SMALL = 1_000_000
"""Bytes of a status, an id, or one object."""

LIST = 64_000_000
"""Bytes of a list that grows over the years."""

RESULTS = None
"""As many bytes as the connection allows: results of any number of rows."""


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


class BodyReader(Protocol[T_co]):
    """Reads the body of a response as it arrives, so that the whole body is never in memory."""

    def feed(self, block: bytes) -> None:
        """Read the next bytes.

        :param block: some bytes
        :raises ValueError: if the body is invalid
        """

    def result(self) -> T_co:
        """Return the result; called once, after the last block.

        :raises ValueError: if the body is invalid
        """


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
    :param max_bytes: maximum size of a successful response; ``RESULTS`` for the client's ``max_result_mb``
    :param reader: makes what reads a large body as it arrives, with the same result as ``parse``
    :param prompt_fields: fields of ``json`` with texts for a model, which count against a limit of tokens
    :param tokens_used: reads from the body of a response how many tokens it took; returns ``None`` if it does not say
    :param of_refusal: takes the HTTP status and the text of an error response; returns the result that it stands for, or
        ``None`` if it is an error
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
    max_bytes: int | None = SMALL
    reader: Callable[[], BodyReader[T_co]] | None = None
    prompt_fields: tuple[str, ...] = ()
    tokens_used: Callable[[bytes], float | None] | None = None
    of_refusal: Callable[[int, str], T_co | None] | None = None

    def with_body(self) -> Call[tuple[bytes, T_co]]:
        """Return a call whose result is the body of the response and what ``parse`` makes of it."""
        return self._with(lambda body: (body, self.parse(body)), None, lambda found: (b"", found))

    def map(self, transform: Callable[[T_co], U]) -> Call[U]:
        """Return a call whose result is ``transform`` of this call's result.

        :param transform: turns one result into the other
        """
        reader = self.reader
        mapped = None if reader is None else lambda: _MappedReader(reader(), transform)
        return self._with(lambda body: transform(self.parse(body)), mapped, transform)

    def _with(
        self,
        parse: Callable[[bytes], U],
        reader: Callable[[], BodyReader[U]] | None,
        transform: Callable[[Any], U],
    ) -> Call[U]:
        refused = self.of_refusal

        def of_refusal(status: int, text: str) -> U | None:
            found = None if refused is None else refused(status, text)
            return None if found is None else transform(found)

        changed: Any = replace(
            self,
            parse=cast("Any", parse),
            reader=cast("Any", reader),
            of_refusal=None if refused is None else cast("Any", of_refusal),
        )
        return cast("Call[U]", changed)


class _MappedReader(Generic[T_co, U]):
    def __init__(self, reader: BodyReader[T_co], transform: Callable[[T_co], U]) -> None:
        self.feed = reader.feed
        self._reader = reader
        self._transform = transform

    def result(self) -> U:
        return self._transform(self._reader.result())
