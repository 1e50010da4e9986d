"""What an input is: one rule for texts, one for lists, one for mappings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING, cast

from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.rows.sources.compression import SUFFIXES as COMPRESSIONS
from airflow_provider_lamini.rows.sources.tables import is_sliced
from airflow_provider_lamini.rows.storage.locate import locate
from airflow_provider_lamini.rows.storage.patterns import fixed_part, is_pattern
from airflow_provider_lamini.rows.storage.run_files import MANIFEST, SHARDS
from airflow_provider_lamini.rows.storage.uris import SCHEME, has_one_slash, split_uri
from airflow_provider_lamini.rows.values import is_path_object

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "txt",
}
"""Format of a file by the suffix of its name."""
KNOWN = "*.jsonl, *.ndjson, *.json, *.csv, *.tsv, *.txt, each also with .gz, .bz2, .xz or .zst, and *.parquet"

_WEB = ("http", "https")
_LONGEST_PATH = 4096
_CANDIDATE = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.\-]*://|/|~/|\.\.?/)"
    r"|.*\.(?:jsonl|ndjson|json|csv|tsv|parquet|txt)(?:\.(?:gz|bz2|xz|zst))?\s*\Z",
    re.IGNORECASE,
)
"""Matches all texts that may be files, to look at them closely."""
_DATA = "avro|orc|arrow|feather|xlsx?|html?|pdf|docx?|pptx?|gz|bz2|xz|zst|zip|png|jpe?g|gif|webp|tiff?|bmp|svg|mp3|mp4|wav|flac"
_OTHER_DATA = re.compile(
    rf"\S+/\S*\.(?:{_DATA}|xml|log|dat)|(?:\S*/)?part-(?:[mr]-)?\d{{4,}}\S*|\S+/\d{{6}}_\d+(?:_\S+)?|\S+/",
    re.IGNORECASE,
)
"""Paths of what cannot be read by its name: exports, parts of jobs of Hadoop and Hive, and folders."""
_MAYBE_OTHER = re.compile(rf"[^\s/]+\.(?:{_DATA})\Z", re.IGNORECASE)
"""The same without a folder, as a text may also be."""
_FOLDER_PATTERN = re.compile(r"(?![A-Za-z][A-Za-z0-9+.\-]*:)[^\s*?\[{]+/\S*\*\S*")
"""A pattern without a scheme that begins with a folder, such as ``/data/day/*``."""
_ABSOLUTE_PATTERN = re.compile(r"(?:~/|\.{0,2}/)[^\s*?\[{/]+/\S*\*\S*")
"""The same with a beginning that only paths have: no text, even if the folder does not exist."""
_RENDERED_LIST = re.compile(r"""\s*\[\s*['"{].*['"}]\s*\]\s*\Z""", re.DOTALL)
"""A list that a template has rendered to text: its brackets make it no pattern."""
_PATH_CHARACTERS = frozenset("/\\*")
_FEWEST_WORDS = 5
"""A text with as many words is a sentence that ends in the name of a file, and not a name with blanks."""
AS_ROWS = "To send texts that look like paths, pass rows: [{'prompt': ...}]."
"""What to do if an input is read as files, and texts are meant."""


def suffix_of(path: str) -> tuple[str, str | None]:
    """The suffix of a file's name in lower case, and its compression.

    :param path: path of the file
    """
    name = PurePosixPath(path.lower())
    compression = COMPRESSIONS.get(name.suffix)
    return (name if compression is None else name.with_suffix("")).suffix, compression


def path_text(value: object) -> str:
    """The text of a path object.

    :param value: a path of ``pathlib``, or Airflow's ``ObjectStoragePath``
    :raises InputError: if a URI was made a path of ``pathlib``, which drops one of its slashes
    """
    text = str(value)
    if isinstance(value, PurePath) and has_one_slash(text):
        raise InputError(
            "The input is a URI in a Path object, which drops a slash. Pass it as a text or as an ObjectStoragePath."
        )
    return text


def is_path(text: str) -> bool:
    """Whether a text that is the whole input looks like a path or URI: it has a scheme or a known suffix, or it exists."""
    if "\n" in text or "\0" in text or len(text) > _LONGEST_PATH or _RENDERED_LIST.match(text):
        return False
    if SCHEME.match(text) or _may_be_uri(text):
        return True
    if suffix_of(text)[0] in SUFFIXES:
        return True
    try:
        store, path = locate(text)
        if store.is_folder(path) or (is_pattern(path) and "/" in text):
            return True
        store.info(path)
    except (OSError, ValueError):
        return False
    return True


def files_of_list(
    items: Sequence[object], *, all_files: bool = False, columns: Sequence[str] | None = None
) -> list[str] | None:
    """The files that a list names; ``None`` if it is a list of rows.

    A list is a list of files if each item is a path object, or a text that is a path or URI of a known format. Names with
    blanks, which the end of a sentence may be as well, count only if all items are such names, and not all are sentences.

    :param items: the items of the list, or lists of them, as the results of mapped tasks are
    :param all_files: whether the user has said that the items are files, by giving their format
    :param columns: the user's names for values, with which lists in the list are rows
    :raises InputError: if only some of the items are files, or if they are names of files that do not exist here
    """
    if is_sliced(items):  # rows of a table are mappings, and not converted for this
        return None
    pages = _names_of_pages(items) if columns is None else None
    if pages is not None:
        items = pages
    texts = [item for item in items if isinstance(item, str) or is_path_object(item)]
    if not texts:
        return None
    named = [all_files or _is_file(item) for item in texts]
    if not all(named) and all(
        is_file or _may_be_file(item) for is_file, item in zip(named, texts, strict=True)
    ):
        if not any(named) and are_sentences(texts):
            return None
        named = [True] * len(texts)
    if not any(named):
        return None
    if not all(named) or len(texts) < len(items):
        first = named.index(False) if False in named else len(texts)
        or_rows = (
            "" if pages is None else " If the lists are rows, name their columns: columns=['id', 'text']."
        )
        raise InputError(
            f"The input is a list in which {sum(named)} of {len(items)} items are files, and others, such as item {first}, are "
            f"not. Pass only files, or only rows. {AS_ROWS}{or_rows}"
        )
    files = [path_text(item) for item in texts]
    if not all_files and not any(map(is_path_object, texts)):
        _check_keys(files)
    return files


def are_sentences(items: Sequence[object]) -> bool:
    """Whether all items of a list, and at least one, are sentences that end like the name of a file.

    Such a sentence has several words, and nothing that only paths have. A file with this name is none: see `_is_file`.

    :param items: the items of the list
    """
    return len(items) > 0 and all(
        isinstance(item, str)
        and _may_be_file(item)
        and len(item.split()) >= _FEWEST_WORDS
        and _PATH_CHARACTERS.isdisjoint(item)
        for item in items
    )


def is_result(value: object) -> bool:
    """Whether a mapping is the result of an earlier task over rows, or of `merge_shards`."""
    return isinstance(value, Mapping) and is_manifest(value.get("manifest")) and "output" in value


def folder_of_run(run: object) -> object:
    """The output folder of an earlier run that is named in any of the ways that an input takes.

    :param run: the folder, its manifest, or the result of the task; anything else is returned as it is
    """
    if isinstance(run, Mapping) and is_result(run):
        return str(run["output"])
    path = str(run) if is_path_object(run) else run
    return path.rpartition("/")[0] if isinstance(path, str) and is_manifest(path) else path


def is_manifest(path: object) -> bool:
    """Whether a path is that of a manifest, or of a list of shards."""
    return isinstance(path, str) and PurePosixPath(path).name in (MANIFEST, SHARDS) and "\n" not in path


def _names_of_pages(pages: Sequence[object]) -> list[object] | None:
    """The items of lists of texts and path objects; ``None`` if the items of a list are anything else."""
    names: list[object] = []
    for page in pages:
        # A named tuple and a row of a database are tuples, too.
        if type(page) not in (list, tuple):
            return None
        names += cast("Sequence[object]", page)
        if not all(isinstance(name, str) or is_path_object(name) for name in cast("Sequence[object]", page)):
            return None
    return names


def _is_file(item: object) -> bool:
    """Whether an item of a list is a file, and not a text to send."""
    if is_path_object(item) or (isinstance(item, str) and _may_be_uri(item)):
        return True
    if not isinstance(item, str) or len(item) > _LONGEST_PATH or "\n" in item or "\0" in item:
        return False
    has_scheme = SCHEME.match(item) is not None
    if not _CANDIDATE.match(item):
        return not has_scheme and (_OTHER_DATA.fullmatch(item) is not None or _is_folder_pattern(item))
    known = suffix_of(item)[0] in SUFFIXES
    blank = any(map(str.isspace, item))
    if has_scheme:
        # Of a presigned URL, the signature stands behind the suffix.
        is_data = split_uri(item).scheme not in _WEB or suffix_of(item.partition("?")[0])[0] in SUFFIXES
        return known or (not blank and is_data)
    if not blank and (known or _OTHER_DATA.fullmatch(item) or _ABSOLUTE_PATTERN.fullmatch(item)):
        return True
    named = known or item.startswith(("/", "./", "../", "~/"))
    return named and (_exists(item) or _is_folder_pattern(item))


def _may_be_file(item: object) -> bool:
    """Whether a text that is not a file by itself (`_is_file`) is one among others: with blanks, or without a folder."""
    if not isinstance(item, str) or len(item) > _LONGEST_PATH or "\n" in item or "\0" in item:
        return False
    if SCHEME.match(item):
        return split_uri(item).scheme not in _WEB
    return suffix_of(item.rstrip())[0] in SUFFIXES or _MAYBE_OTHER.match(item) is not None


def _may_be_uri(text: str) -> bool:
    """Whether a text is a URI with one slash, which opening it then refuses, and not the beginning of a sentence."""
    return has_one_slash(text) and (not any(map(str.isspace, text)) or suffix_of(text)[0] in SUFFIXES)


def _exists(text: str) -> bool:
    try:
        store, path = locate(text)
        if store.is_folder(path):  # such as the output folder of an earlier run
            return True
        store.info(path)
    except (OSError, ValueError):
        return False
    return True


def _is_folder_pattern(text: str) -> bool:
    """Whether a text is a pattern that begins with a folder that exists on this machine."""
    if "*" not in text or not _FOLDER_PATTERN.fullmatch(text):
        return False
    try:
        store, path = locate(text)
        return store.is_folder(str(fixed_part(path)))
    except (OSError, ValueError):
        return False


def _check_keys(files: Iterable[str]) -> None:
    """Make sure that names without a scheme exist on this machine: a list of an object store gives keys without a bucket.

    :raises InputError: if one does not exist
    """
    bare = [
        name
        for name in files
        if not (SCHEME.match(name) or has_one_slash(name) or name.startswith(("/", "~")))
    ]
    missing = [name for name in bare if not is_pattern(name) and not _exists(name)]
    if missing:
        raise InputError(
            f"The input is a list of {len(missing)} names of files or folders that do not exist on this machine. If they are "
            "keys of an object store, add the scheme and the bucket: [f's3://bucket/{key}' for key in keys]. "
            + AS_ROWS
        )
