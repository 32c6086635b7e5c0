"""Where results are written to: refused before the work for them is done."""

import os
from pathlib import Path

from indexer.errors import SettingError
from indexer.manifest import MANIFEST_FILE
from indexer.store import STATISTICS_FILE

FORMATS = {".csv": "csv", ".parquet": "parquet", ".arrow": "arrow", ".jsonl": "jsonl"}
NAME_IT = "name it .csv, .parquet, .arrow or .jsonl"


def check_export(path: Path, *, folders: bool = False) -> None:
    """Refuse a file of samples that could not be written.

    Args:
        path: .csv, .parquet, .arrow or .jsonl.
        folders: whether it may be a folder as well.

    Raises:
        SettingError: says what is wrong with the path.
    """
    if path == Path():
        raise SettingError("the file to write has no name: give one")
    if path.suffix.lower() in FORMATS:
        check_file(path)
    elif not folders or (path.suffix and not path.is_dir()):
        raise SettingError(f"cannot tell the format of {path}: {NAME_IT}")
    else:
        check_folder(path)


def check_file(path: Path, suffix: str | None = None) -> None:
    """Refuse a file that could not be written, or that lies in an index.

    Args:
        path: the file.
        suffix: what its name must end with; None leaves that open.

    Raises:
        SettingError: says what is wrong with the path.
    """
    if path.is_dir():
        raise SettingError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise SettingError(f"cannot write {path}: {path.parent} is no folder")
    _require_access(path if path.exists() else path.parent, path)
    _refuse_index(path)
    if suffix is not None and path.suffix.lower() != suffix:
        raise SettingError(f"{path} should end in {suffix}: name it so")


def check_folder(path: Path) -> None:
    """Refuse a folder that could not be made, or that is or lies in an index.

    Raises:
        SettingError: the path, or one that it lies in, is a file, read-only or an index.
    """
    _refuse_index(path)
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise SettingError(f"cannot write to {path}: {place} is a file, not a folder")
            _require_access(place, path)
            return


def _require_access(place: Path, path: Path) -> None:
    if not os.access(place, os.W_OK):
        raise SettingError(f"cannot write {path}: {place} is read-only, choose another place")


def _refuse_index(path: Path) -> None:
    whole = path.resolve()
    for place in (whole, *whole.parents):
        # A manifest.json alone may be that of anything.
        if all((place / name).is_file() for name in (MANIFEST_FILE, STATISTICS_FILE)):
            raise SettingError(f"cannot write {path}: {place} is an index, choose another place")
