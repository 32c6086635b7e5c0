"""A folder of class folders."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from ..errors import DataError
from .base import DatasetOptions, ImageDataset, RowIndex
from .files import file_size, image_files, read_image_file
from .labels import Labels
from .naming import natural_key

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "eval", "evaluation"),
    "test": ("test", "testing"),
}
OUTSIDE = "the image lies outside the class folders"


class FolderDataset(ImageDataset):
    """Images in one folder per class; deeper folders belong to the class at the top.

    The class folders in natural order are the labels 0, 1, …. An id is the image's path below
    the root, for example `cat/0001.jpg`.
    """

    kind: ClassVar[str] = "folder"
    positional: ClassVar[bool] = False

    def __init__(self, spec: str, options: DatasetOptions) -> None:
        super().__init__(spec, options)
        self._root = split_folder(Path(spec), options.split)

    def _build_index(self) -> RowIndex:
        paths = list(image_files(self._root))
        if not paths:
            hidden = ", ".join(self.passed_over)
            but = f" but in hidden folders, which are no classes ({hidden})" if hidden else ""
            raise DataError(f"{self._root} holds no images{but}: give a folder of class folders")
        names = sorted(_class_folders(self._root), key=natural_key)
        _refuse_splits(self._root, names)
        position = {name: label for label, name in enumerate(names)}
        folders = [path.partition("/")[0] if "/" in path else None for path in paths]
        if not any(folders):
            raise DataError(
                f"{self._root} holds images but no class folders: move them into one folder per "
                "class, or give a CSV manifest with path and label"
            )
        values = [None if name is None else position[name] for name in folders]
        errors = {row: OUTSIDE for row, label in enumerate(values) if label is None}
        ids = []
        for row, path in enumerate(paths):
            # A file name need not be valid UTF-8; a stored id must be.
            ids.append(path.encode("utf-8", "backslashreplace").decode())
            if ids[-1] != path:
                errors[row] = "the file name is not valid UTF-8"
        labels = Labels(values, tuple(map(_printable, names)), declared=True)
        return RowIndex.build(ids, list(ids), labels, errors=errors)

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Names of the folders with images that are no classes: they begin with a dot."""
        hidden = (path.name for path in self._root.iterdir() if path.name.startswith("."))
        folders = (name for name in hidden if (self._root / name).is_dir())
        found = [name for name in folders if any(image_files(self._root / name))]
        return tuple(map(_printable, sorted(found, key=natural_key)))

    def _fingerprint_parts(self) -> Iterable[str]:
        for ref in self._index.refs:
            yield f"{ref}:{file_size(self._root / ref)}"

    def read(self, ref: str) -> bytes:
        """Return the bytes of the file at this path below the root."""
        return read_image_file(self._root / ref)


def split_folder(root: Path, split: str | None) -> Path:
    """Return the sub-folder of a split, found under any of its usual names.

    Raises:
        DataError: the folder or the split does not exist.
    """
    if not root.is_dir():
        raise DataError(f"no such folder: {root}")
    if split is None:
        return root
    synonyms = next((names for names in SPLIT_NAMES.values() if split in names), ())
    for name in (split, *synonyms):
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root} has no split {split!r}: its folders are {_listing(root)}")


def _class_folders(root: Path) -> list[str]:
    return [p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")]


def _refuse_splits(root: Path, names: list[str]) -> None:
    known = {name for names in SPLIT_NAMES.values() for name in names}
    if len(names) > 1 and all(name.lower() in known for name in names):
        raise DataError(
            f"{root} holds the splits {', '.join(names)}, not classes: give one of them, "
            f"for example {root / names[-1]}"
        )


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _listing(root: Path) -> str:
    return ", ".join(sorted(_class_folders(root))) or "none"
