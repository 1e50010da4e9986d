"""Signed URLs: let their holder write one blob for a limited time, without the platform's API key."""

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
"""Read, create and write, in the notation of Azure's shared access signatures."""

VERSION: Final = "2024-11-04"
"""Version of the Azure Blob Storage API that is emulated."""

VALID_SECONDS: Final = 24 * 3600
_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


class UrlSigner:
    """Signs URLs and checks their signatures.

    :param secret: key of the signature
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def query(self, path: str, valid_seconds: float = VALID_SECONDS) -> str:
        """Return the query string that allows writing a blob.

        :param path: path of the blob
        :param valid_seconds: seconds until the signature expires
        """
        expiry = datetime.fromtimestamp(time.time() + valid_seconds, tz=UTC).strftime(_TIME_FORMAT)
        fields = {"sv": VERSION, "sr": "b", "sp": PERMISSIONS, "se": expiry}
        return urlencode({**fields, "sig": self._signature(path, fields)})

    def allows(self, path: str, query: Mapping[str, str]) -> bool:
        """Whether a query string allows writing a blob now.

        :param path: path of the blob
        :param query: query parameters of the request
        """
        fields = {name: query.get(name, "") for name in ("sv", "sr", "sp", "se")}
        signature = query.get("sig", "").encode()
        if not hmac.compare_digest(signature, self._signature(path, fields).encode()):
            return False
        return datetime.strptime(fields["se"], _TIME_FORMAT).replace(tzinfo=UTC) > datetime.now(tz=UTC)

    def _signature(self, path: str, fields: Mapping[str, str]) -> str:
        text = "\n".join([path, *fields.values()])
        return base64.b64encode(hmac.digest(self._secret, text.encode(), hashlib.sha256)).decode()
