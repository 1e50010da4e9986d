"""Signed URLs: whoever has one may put one blob, for a while, without the platform's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

PERMISSIONS: Final = "rcw"
"""Read, create, write, as Azure's shared access signatures spell it."""

VERSION: Final = "2024-11-04"
"""Version of the blob service's interface that is spoken here."""

VALID_SECONDS: Final = 24 * 3600
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class Signer:
    """Signs and checks.

    :param secret: what the signature rests on
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def query(self, path: str, valid_seconds: float = VALID_SECONDS) -> str:
        """The query that allows to write a blob.

        :param path: the blob's path
        :param valid_seconds: for so long
        """
        expiry = datetime.fromtimestamp(time.time() + valid_seconds, tz=UTC).strftime(_TIME)
        given = {"sv": VERSION, "sr": "b", "sp": PERMISSIONS, "se": expiry}
        return urlencode({**given, "sig": self._signature(path, given)})

    def allows(self, path: str, query: Mapping[str, str]) -> bool:
        """Whether a query allows to write a blob now.

        :param path: the blob's path
        :param query: the request's query
        """
        given = {name: query.get(name, "") for name in ("sv", "sr", "sp", "se")}
        signature = query.get("sig", "").encode()
        if not hmac.compare_digest(signature, self._signature(path, given).encode()):
            return False
        return datetime.strptime(given["se"], _TIME).replace(tzinfo=UTC) > datetime.now(tz=UTC)

    def _signature(self, path: str, given: Mapping[str, str]) -> str:
        said = "\n".join([path, *given.values()])
        return base64.b64encode(hmac.digest(self._secret, said.encode(), hashlib.sha256)).decode()
