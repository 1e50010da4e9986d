"""Datasets for tuning: uploading rows, and the id and location of a dataset."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import BinaryIO, cast

from pydantic import Field, JsonValue, NonNegativeInt

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import Call, FilePart, Json, Retry


class UploadBasePath(schema.Response):
    """Where the platform stores datasets: ``azure``, or its own disk.

    A platform that tunes no models may say why, and what to do.
    """

    upload_base_path: str
    tuning_unavailable: str | None = None

    @property
    def azure(self) -> bool:
        """Whether rows are uploaded to an Azure blob rather than sent to the platform."""
        return self.upload_base_path == "azure"


class Dataset(schema.Response):
    """A dataset."""

    dataset_id: schema.Id
    dataset_location: str
    """A path on the platform, or a signed URL for the upload. The URL is a secret while it is valid."""


class DatasetLocation(schema.Response):
    """The location of a dataset, for the ``upload_file_path`` of a tuning job."""

    dataset_location: str


class CreateDatasetRequest(schema.Request):
    """The body of ``POST /v1/data``."""

    upload_base_path: str = Field(min_length=1)
    is_public: bool | None = None


class LocalDataRequest(CreateDatasetRequest):
    """The body of ``POST /v1/local-data``."""

    data: list[dict[str, JsonValue]] = Field(min_length=1)


class NumDatapointsRequest(schema.Request):
    """The body of ``POST /v1/data/num-datapoints``."""

    dataset_id: str = Field(min_length=1)
    num_datapoints: NonNegativeInt


class ExistingDataRequest(schema.Request):
    """The body of ``POST /v1/existing-data``."""

    dataset_id: str = Field(min_length=1)
    upload_base_path: str = Field(min_length=1)


def upload_base_path() -> Call[UploadBasePath]:
    """Get where the platform stores datasets: ``GET /v1/get-upload-base-path``."""
    return Call(
        operation="upload_base_path_get",
        method="GET",
        path="/v1/get-upload-base-path",
        parse=schema.parser(UploadBasePath),
        retry=Retry.SAFE,
    )


def upload(
    *, upload_base_path: str, data: Sequence[Mapping[str, Json]], is_public: bool | None = None
) -> Call[Dataset]:
    """Create a dataset from rows in memory: ``POST /v1/local-data``.

    :param upload_base_path: from :func:`upload_base_path`
    :param data: the rows, each with ``input`` and ``output``
    :param is_public: whether others may use it
    :raises ValueError: if an argument is invalid
    """
    rows = schema.check_rows("data", data)
    arguments = {"upload_base_path": upload_base_path, "is_public": is_public}
    return Call(
        operation="local_data_post",
        method="POST",
        path="/v1/local-data",
        json={**schema.body(CreateDatasetRequest, arguments), "data": rows},
        parse=schema.parser(Dataset),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def upload_file(*, upload_base_path: str, data: FilePart, is_public: bool | None = None) -> Call[Dataset]:
    """Create a dataset from rows in a file, which is read in blocks: ``POST /v1/local-data``.

    The platform takes all rows in one request; only blocks of it are in memory here.

    :param upload_base_path: from :func:`upload_base_path`
    :param data: the rows as JSON Lines, each with ``input`` and ``output``; at least one
    :param is_public: whether others may use it
    :raises ValueError: if an argument is invalid
    """
    arguments = schema.body(
        CreateDatasetRequest, {"upload_base_path": upload_base_path, "is_public": is_public}
    )
    head = json.dumps(arguments, separators=(",", ":")).encode()[:-1] + b',"data":['

    def open_body() -> BinaryIO:
        return cast("BinaryIO", _RowsBody(head, data.open(), b"]}"))

    return Call(
        operation="local_data_post",
        method="POST",
        path="/v1/local-data",
        content=FilePart("rows.json", open_body, "application/json"),
        parse=schema.parser(Dataset),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def create(*, upload_base_path: str, is_public: bool | None = None) -> Call[Dataset]:
    """Create a dataset whose rows are uploaded to an Azure blob: ``POST /v1/data``.

    :param upload_base_path: from :func:`upload_base_path`
    :param is_public: whether others may use it
    :returns: the dataset; its location is the signed URL for the upload of JSON Lines; then call :func:`count`
    :raises ValueError: if an argument is invalid
    """
    arguments = {"upload_base_path": upload_base_path, "is_public": is_public}
    return Call(
        operation="data_post",
        method="POST",
        path="/v1/data",
        json=schema.body(CreateDatasetRequest, arguments),
        parse=schema.parser(Dataset),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def count(*, dataset_id: str, num_datapoints: int) -> Call[Json]:
    """Tell the platform how many rows were uploaded: ``POST /v1/data/num-datapoints``.

    :param dataset_id: the dataset
    :param num_datapoints: number of rows
    :returns: the platform's response; its structure is not documented
    :raises ValueError: if an argument is invalid
    """
    arguments = {"dataset_id": dataset_id, "num_datapoints": num_datapoints}
    return Call(
        operation="data_num_datapoints_post",
        method="POST",
        path="/v1/data/num-datapoints",
        json=schema.body(NumDatapointsRequest, arguments),
        parse=lambda content: schema.decode(content) if content.strip() else None,
        retry=Retry.SAFE,
    )


def existing(*, dataset_id: str, upload_base_path: str) -> Call[DatasetLocation]:
    """Get the location of a dataset: ``POST /v1/existing-data``.

    :param dataset_id: the dataset
    :param upload_base_path: from :func:`upload_base_path`
    :returns: the location, for the ``upload_file_path`` of a tuning job
    :raises ValueError: if an argument is invalid
    """
    arguments = {"dataset_id": dataset_id, "upload_base_path": upload_base_path}
    return Call(
        operation="existing_data_post",
        method="POST",
        path="/v1/existing-data",
        json=schema.body(ExistingDataRequest, arguments),
        parse=schema.parser(DatasetLocation),
        retry=Retry.SAFE,
    )


class _RowsBody(io.RawIOBase):
    """JSON Lines as a JSON array: line breaks become commas, so the length is known in advance.

    :param head: bytes before the rows
    :param rows: the rows; closed together with this
    :param tail: bytes after the rows
    """

    def __init__(self, head: bytes, rows: BinaryIO, tail: bytes) -> None:
        super().__init__()
        self._rows = rows
        self._left = rows.seek(0, io.SEEK_END)
        if self._left and rows.seek(-1, io.SEEK_END) >= 0 and rows.read(1) == b"\n":
            self._left -= 1
        rows.seek(0)
        self._length = len(head) + self._left + len(tail)
        self._ready, self._tail = head, tail

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Return the length: httpx needs nothing else."""
        if whence == io.SEEK_END and offset == 0:
            return self._length
        raise io.UnsupportedOperation("only the end can be sought")

    def read(self, size: int = -1) -> bytes:
        """Read the next block, which may be shorter than ``size``; empty only at the end."""
        if not self._ready:
            block = self._rows.read(self._left if size < 0 else min(size, self._left))
            self._left -= len(block)
            self._ready = block.replace(b"\n", b",") if block else self._tail
            self._tail = self._tail if block else b""
        taken = self._ready if size < 0 else self._ready[:size]
        self._ready = self._ready[len(taken) :]
        return taken

    def close(self) -> None:
        self._rows.close()
        super().close()
