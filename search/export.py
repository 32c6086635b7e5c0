"""Samples as files: csv, parquet, Arrow, JSON lines, or images in one folder per confused pair."""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from indexer.datasets.delimited import MISSING
from indexer.durability import disk_errors, replace_file
from indexer.errors import SettingError

from .destination import FORMATS, NAME_IT
from .listing import Listing
from .results import Sample, plain

if TYPE_CHECKING:
    from PIL.Image import Image

_SIGNATURES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"RIFF", ".webp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)
_QUOTED = re.compile(r'[",\r\n]')
_UNSAFE = re.compile(r"[^\w.@=+-]+")
_LONGEST = 100

ReadImage = Callable[[Sample], "bytes | Image"]
"""Gives the image of a sample: the bytes of its file, or a picture."""


def export(listing: Listing, path: Path, form: str | None = None) -> int:
    """Write a listing to one file and return the number of samples.

    JSON lines hold samples as `--json` prints them; for the rest see `write_table`.

    Raises:
        SettingError: no such format.
        StoreError: the file cannot be written.
    """
    if _format(path, form) == "jsonl":
        with disk_errors(path), replace_file(path) as file:
            _write_lines(listing.documents(), file)
    else:
        write_table(listing.table, path, form)
    return len(listing)


def write_table(table: pa.Table, path: Path, form: str | None = None) -> None:
    """Write rows to one file, replacing it whole or not at all.

    Args:
        table: what to write; lists become JSON in csv.
        path: the file.
        form: "csv", "parquet", "arrow" or "jsonl"; None goes by the file's suffix.

    Raises:
        SettingError: no such format.
        StoreError: the file cannot be written.
    """
    form = _format(path, form)
    with disk_errors(path), replace_file(path) as file:
        if form == "parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, file)
        elif form == "arrow":
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
        elif form == "csv":
            _write_csv(table, file)
        else:
            batches = table.to_batches(max_chunksize=1024)
            _write_lines((plain(row) for batch in batches for row in batch.to_pylist()), file)


def export_folders(listing: Listing, folder: Path, read_image: ReadImage) -> int:
    """Write every image into a folder of its confused pair and return the number of images.

    Folders are named "cat as dog" for label cat and prediction dog. File names are made of ids;
    whatever an id holds, the file lies inside its folder, and no two ids share a file.

    Raises:
        StoreError: a file cannot be written.
    """
    with disk_errors(folder):
        for sample in listing:
            image = read_image(sample)
            pair = f"{safe_name(sample.label_name)} as {safe_name(sample.prediction_name)}"
            save_image(image, folder / pair, safe_name(sample.id))
    return len(listing)


def save_image(image: "bytes | Image", folder: Path, name: str) -> None:
    """Write an image into a folder: its bytes as they are, a picture as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(image, bytes):
        with replace_file(folder / (name + _suffix(image))) as file:
            file.write(image)
    else:
        with replace_file(folder / (name + ".png")) as file:
            image.save(file, "PNG")


def _format(path: Path, form: str | None) -> str:
    form = form or FORMATS.get(path.suffix.lower())
    if form is None or form not in FORMATS.values():
        raise SettingError(f"cannot tell the format of {path}: {NAME_IT}")
    return form


def _write_lines(rows: Iterable[dict[str, object]], file: BinaryIO) -> None:
    file.writelines(json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows)


def _write_csv(table: pa.Table, file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    text.write(_csv_row(table.column_names))
    for batch in table.to_batches(max_chunksize=1024):
        text.writelines(_csv_row(row.values()) for row in batch.to_pylist())
    text.detach()  # flushes, and leaves the file open for whoever opened it


def _csv_row(values: Iterable[object]) -> str:
    return ",".join(map(_csv_cell, values)) + "\r\n"


def _csv_cell(value: object) -> str:
    """Return a value as csv holds it; text that could be taken for none goes in quotation marks.

    The csv module of Python 3.11 cannot tell "" and "NA" from a missing value.
    """
    if value is None:
        return ""
    text = json.dumps(value) if isinstance(value, list) else str(value)
    ambiguous = isinstance(value, str) and (not text or text in MISSING)
    return '"' + text.replace('"', '""') + '"' if ambiguous or _QUOTED.search(text) else text


def safe_name(name: str) -> str:
    """Return a file name for any text: itself where it is plain, else made so and told apart."""
    plain = _UNSAFE.sub("_", name).lstrip(".")[:_LONGEST]
    if plain == name:
        return name
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _suffix(image: bytes) -> str:
    return next((suffix for start, suffix in _SIGNATURES if image.startswith(start)), ".bin")
