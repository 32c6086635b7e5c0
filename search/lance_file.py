"""Where a Lance table keeps a column of vectors, so that it can be memory-mapped as it lies.

Lance stores fixed-size lists of floats uncompressed and end to end, but its Python packages only
hand out copies, at a few per cent of the memory's bandwidth. This module reads the two indexes of
the format: the table's manifest (which data file holds a column) and the footer of a data file
(at which offset). Anything it does not know by heart gives None, and the caller verifies rows
against the database before it trusts a map; see `search.snapshot`.

Source: the protobuf messages `table.proto` and `file2.proto` of Lance, file versions 2.0 to 2.2.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from indexer.lance_footer import FOOTER, MAGIC

_MANIFEST_FOOTER = struct.Struct("<QHH4s")  # position of the message, version, magic
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_Message = dict[int, list[int | bytes]]


class _UnknownLayoutError(Exception):
    """The file is not laid out in a way that this module knows."""


@dataclass(frozen=True)
class Segment:
    """Rows that lie end to end in one file.

    Attributes:
        file: path within the table's folder.
        size: bytes of that file, to notice another one under the same name.
        offset: first byte of the first row.
        rows: number of rows.
    """

    file: str
    size: int
    offset: int
    rows: int


def locate_column(
    table: Path, manifest: Path, column: str, width: int
) -> tuple[Segment, ...] | None:
    """Return where the rows of a column of vectors lie, in the order of row addresses.

    Args:
        table: folder of the table.
        manifest: manifest file of the wanted version.
        column: a top-level column that is nowhere null.
        width: bytes a row.

    Returns:
        Segments covering all rows, or None where the column cannot be mapped: deleted rows, a
        compressed or otherwise encoded column, or a newer format.
    """
    try:
        message = _read_manifest(manifest)
        fields = [_parse(_bytes(field)) for field in message.get(1, [])]
        number = next(
            _integer(field, 3)
            for field in fields
            if _bytes(field[2][0]) == column.encode() and _integer(field, 4) == 2**64 - 1
        )
        fragments = sorted(
            (_parse(_bytes(fragment)) for fragment in message.get(2, [])),
            key=lambda fragment: _integer(fragment, 1),
        )
        parts = [
            segment
            for fragment in fragments
            for segment in _fragment_segments(table, fragment, number, width)
        ]
    except (
        *(_UnknownLayoutError, StopIteration, OSError),
        *(struct.error, IndexError, KeyError, ValueError, OverflowError),  # of damaged bytes
    ):
        return None
    return tuple(parts)


def _read_manifest(path: Path) -> _Message:
    data = path.read_bytes()
    position, _, _, magic = _MANIFEST_FOOTER.unpack(data[-_MANIFEST_FOOTER.size :])
    if magic != MAGIC:
        raise _UnknownLayoutError(path)
    (length,) = struct.unpack_from("<I", data, position)
    return _parse(data[position + 4 : position + 4 + length])


def _fragment_segments(
    table: Path, fragment: _Message, field: int, width: int
) -> Iterator[Segment]:
    """Yield the segments of one fragment: its id, files, deletions and row count."""
    if 3 in fragment:  # a deletion file
        raise _UnknownLayoutError(fragment)
    rows = 0
    for entry in fragment.get(2, []):
        file = _parse(_bytes(entry))
        fields = list(_varints(_bytes(file[2][0])))
        if field not in fields or 7 in file:  # 7: the file lies under another base path
            continue
        column = list(_varints(_bytes(file[3][0])))[fields.index(field)]
        name = "data/" + _bytes(file[1][0]).decode()
        for segment in _column_segments(table, name, column, width):
            rows += segment.rows
            yield segment
    if rows != _integer(fragment, 4):
        raise _UnknownLayoutError(fragment)


def _column_segments(table: Path, name: str, column: int, width: int) -> Iterator[Segment]:
    """Yield one segment a page; each must hold exactly its rows and nothing else."""
    with (table / name).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - FOOTER.size)
        _, offsets, _, _, columns, major, minor, magic = FOOTER.unpack(file.read(FOOTER.size))
        known = magic == MAGIC and (major, minor) in ((2, 0), (2, 1), (2, 2), (0, 3))
        if not known or column >= columns:
            raise _UnknownLayoutError(name)
        file.seek(offsets + 16 * column)
        start, length = struct.unpack("<QQ", file.read(16))
        file.seek(start)
        metadata = _parse(file.read(length))
    for entry in metadata.get(2, []):
        page = _parse(_bytes(entry))
        offset = list(_varints(_bytes(page[1][0])))
        extent = list(_varints(_bytes(page[2][0])))
        rows = _integer(page, 3)
        if len(offset) != 1 or extent != [rows * width]:
            raise _UnknownLayoutError(name)
        yield Segment(name, size, offset[0], rows)


def _parse(data: bytes) -> _Message:
    """Return the fields of a protobuf message by number, each a list in order of appearance."""
    fields: _Message = {}
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            end = position + (8 if wire == _FIXED64 else 4)
            value, position = data[position:end], end
        elif wire == _BYTES:
            length, position = _varint(data, position)
            value, position = data[position : position + length], position + length
        else:
            raise _UnknownLayoutError(f"wire type {wire}")
        fields.setdefault(number, []).append(value)
    return fields


def _varints(data: bytes) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _integer(message: _Message, number: int) -> int:
    """Return a number; protobuf leaves out zeros."""
    value = message.get(number, [0])[0]
    if not isinstance(value, int):
        raise _UnknownLayoutError(number)
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise _UnknownLayoutError(value)
    return value
