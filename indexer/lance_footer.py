"""The last bytes of a Lance file, which say where everything before them lies.

Source: `file2.proto` of Lance, "footer", file versions 2.0 to 2.2.
"""

import struct
from pathlib import Path

from .versions import newest_manifest

MAGIC = b"LANC"
INDEX_SUFFIX = ".idx"
FOOTER = struct.Struct("<QQQIIHH4s")
"""Where column metadata and the tables of their offsets and of global buffers begin; number of
global buffers and of columns; major and minor version; magic."""

_KNOWN = (0, 2)
"""Major versions with this footer: files of version 2.0 say 0.3."""

_ENTRY = 16
"""Bytes of an entry in either table."""


def is_short(path: Path) -> bool:
    """Return whether a Lance file lost some of its bytes.

    Both tables end where the footer begins; in a file that lacks a write they would end behind it.
    """
    with path.open("rb") as file:
        end = max(0, path.stat().st_size - FOOTER.size)
        file.seek(end)
        data = file.read()
    if len(data) < FOOTER.size:
        return True
    _, offsets, buffers, count, columns, major, _, magic = FOOTER.unpack(data)
    if magic == MAGIC and major not in _KNOWN:
        return False  # nothing is known of it
    whole = offsets + _ENTRY * columns == buffers and buffers + _ENTRY * count == end
    return magic != MAGIC or not whole


def short_files(table: Path) -> list[Path]:
    """Return the files of the newest version of a table, data and indexes, that are short."""
    manifest = newest_manifest(table)
    content = b"" if manifest is None else manifest.read_bytes()
    data = [path for path in table.glob("data/*.lance") if path.name.encode() in content]
    listed = table.glob(f"_indices/*/*{INDEX_SUFFIX}")
    indexes = [path for path in listed if _key(path.parent.name) in content]
    return [path for path in (*data, *indexes) if is_short(path)]


def _key(name: str) -> bytes:
    """Return how a manifest names the index that lies in a folder: by the bytes of its UUID."""
    try:
        return bytes.fromhex(name.replace("-", ""))
    except ValueError:
        return name.encode()
