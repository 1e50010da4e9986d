"""Files that are not text, whatever their names say: archives, tables of programs, and pointers to files."""

from __future__ import annotations

_BEGINNINGS = (
    (b"PK\x03\x04", "a ZIP archive or an Excel file. Unpack it, or export it as CSV."),
    (b"\xd0\xcf\x11\xe0", "an old Office file. Export it as CSV."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive. Unpack it."),
    (b"Rar!\x1a\x07", "a RAR archive. Unpack it."),
    (b"%PDF-", "a PDF file. Export its rows as CSV or JSON Lines."),
    (b"PAR1", "Parquet. Rename it, or pass input_format='parquet'."),
    (b"ARROW1\0", "an Arrow file. Pass its rows as a table, or write it as Parquet."),
    (b"Obj\x01", "an Avro file. Convert it to JSON Lines or Parquet."),
    (b"SQLite format 3\0", "a SQLite database. Pass a query as input_sql."),
    (
        b"version https://git-lfs.github.com/spec/",
        "a pointer of Git LFS and not the file itself. Run git lfs pull.",
    ),
)
_TAR_MARK, _TAR_AT = b"ustar", 257


def other_content(head: bytes) -> str | None:
    """What a file is and what to do with it, as the end of a sentence; ``None`` if it may be text.

    :param head: the first 512 bytes, decompressed
    """
    if head[_TAR_AT : _TAR_AT + len(_TAR_MARK)] == _TAR_MARK and b"\0" in head[:_TAR_AT]:
        return "a tar archive. Unpack it."
    return next((what for beginning, what in _BEGINNINGS if head.startswith(beginning)), None)
