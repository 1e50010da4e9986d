"""Errors of calls to a platform, one class per cause.

::

    PlatformError
    |-- BadRequestError          400 and other refusals
    |-- AuthenticationError      401, 403
    |-- NotFoundError            404
    |-- InvalidRequestError      422
    |-- RateLimitedError         429
    |-- DuplicateError           the name or id is taken
    |-- JobNotFoundError         no such job
    |-- ProjectNotFoundError     no such project
    |-- ModelLoadingError        the model is still being loaded
    |-- ModelNotFoundError       no such model
    |-- UnavailableError         500, 502, 503, 504, no connection
    |-- UnsupportedError         501
    |-- PlatformTimeoutError     408, no response in time
    `-- ProtocolError            a response that the API does not allow
        |-- NotThePlatformError  a web page, an empty body, a 405, or a redirect to another host
        `-- ResponseTooLargeError  more bytes than the call allows

Each platform adds statuses of its own: see its dialect in ``airflow_provider_lamini.platforms``.
"""

from __future__ import annotations


class PlatformError(Exception):
    """A call to a platform failed.

    Neither the message nor any attribute contains the key or a prompt.

    :param message: what happened and what to do
    :param status: HTTP status of the response; ``None`` if there was none
    :param detail: the platform's own short text
    :param operation: the platform's operation id
    :param method: HTTP method
    :param path: path below the base URL
    :param request_id: the platform's id of the request, if it sent one
    :param may_have_started: whether the platform may have started the work although the call failed. Then look there
        before submitting again.
    :param attempts: how many times the call was sent
    :param retry_after: seconds that the platform asked to wait, if it did
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        detail: str = "",
        operation: str = "",
        method: str = "",
        path: str = "",
        request_id: str | None = None,
        may_have_started: bool = False,
        attempts: int = 1,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail
        self.operation = operation
        self.method = method
        self.path = path
        self.request_id = request_id
        self.may_have_started = may_have_started
        self.attempts = attempts
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[PlatformError], args: tuple[object, ...], state: dict[str, object]) -> PlatformError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class BadRequestError(PlatformError):
    """The platform refused the request as it is. Sending it again does not help."""


class AuthenticationError(PlatformError):
    """The key is missing, wrong, or not allowed to do this. Retrying does not help; another key may."""


class NotFoundError(PlatformError):
    """No such path or object. Retrying does not help; check the base URL, its path prefix and the id."""


class InvalidRequestError(PlatformError):
    """The platform found an argument invalid and says which. Retrying does not help."""


class RateLimitedError(PlatformError):
    """Too many requests, for longer than the retry budget. The call had no effect; retry later."""


class DuplicateError(PlatformError):
    """An object with that name or id already exists. Retrying does not help; it may be the one you want."""


class JobNotFoundError(PlatformError):
    """The platform knows no such job for this key. Retrying does not help."""


class ProjectNotFoundError(PlatformError):
    """The platform knows no such project for this key. Retrying does not help."""


class ModelLoadingError(PlatformError):
    """The model was still loading when the model loading budget was spent. Retrying later helps."""


class ModelNotFoundError(PlatformError):
    """The platform has no such model. Retrying does not help; check the name, or download the model first."""


class UnavailableError(PlatformError):
    """The platform was unreachable or had an internal error, for longer than the retry budget. Retrying later helps.

    Also raised for a wrong host or an untrusted certificate: then correct the connection.
    """


class UnsupportedError(PlatformError):
    """This installation of the platform cannot do this at all. Retrying does not help; the message says what it lacks."""


class PlatformTimeoutError(PlatformError):
    """No response in time, for longer than the retry budget. Retrying later, or asking for less, helps."""


class ProtocolError(PlatformError):
    """The response is not what the API allows: a web page, a redirect to another host, invalid or unexpected JSON.

    Often something other than the platform responds at that address. Retrying rarely helps.
    """


class ResponseTooLargeError(ProtocolError):
    """The response was larger than the call allows; the rest of it was not read. Retrying does not help.

    For results of rows, use smaller chunks or raise ``max_result_mb`` of the connection. Otherwise check what responds at
    that address.
    """


class UndecodableError(ProtocolError):
    """The response is JSON but for a value that JSON does not allow: half a surrogate pair, NaN, invalid UTF-8.

    The model may have written it. It was paid for, so the same request is not sent again at once; the next response may be fine.
    """


class NotThePlatformError(ProtocolError):
    """The response was a web page, empty, a 405, or a redirect to another host: something in between responded.

    That may be a proxy under maintenance; then retrying later helps. Otherwise check the base URL.
    """
