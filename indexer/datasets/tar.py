"""Tar archives: WebDataset shards, or class folders inside an archive."""

import json
import os
import re
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ..errors import DataError, RejectedImageError
from .base import DatasetOptions, ImageDataset, RowIndex
from .files import IMAGE_SUFFIXES, MAX_FILE_BYTES
from .labels import Labels, parse_labels
from .naming import natural_key

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
INFO_FILES = ("_info.json", "info.json")
MAX_SIDE_BYTES = 2**20
"""Longest label or JSON member that is read."""


@dataclass
class TarSample:
    """One image in a shard, with the members that share its key."""

    key: str
    shard: int
    offset: int = -1
    size: int = 0
    side: dict[str, str] = field(default_factory=dict)


class TarDataset(ImageDataset):
    """Images in tar files, read in place by offset.

    A label comes from a member `KEY.cls`, else from the label column of `KEY.json`, else from
    the class folder in the member's path. Damaged members are rows with an error: timm's own
    WebDataset reader drops them.
    """

    kind: ClassVar[str] = "tar"

    def __init__(self, spec: str, options: DatasetOptions, shards: Sequence[Path]) -> None:
        super().__init__(spec, options)
        self._shards = tuple(shards)

    @cached_property
    def _samples(self) -> list[TarSample]:
        return [
            sample for shard, file in enumerate(self._shards) for sample in _read_shard(file, shard)
        ]

    def _build_index(self) -> RowIndex:
        samples = self._samples
        if not samples:
            raise DataError(f"{self.spec} holds no images")
        ids = [sample.key for sample in samples]
        labels = self._labels(samples)
        refs = [str(row) for row in range(len(samples))]
        missing = {r: "no image under this key" for r, s in enumerate(samples) if s.offset < 0}
        return RowIndex.build(ids, refs, labels, errors=missing)

    def _labels(self, samples: Sequence[TarSample]) -> Labels:
        column = [_side_label(sample, self.options.label_column) for sample in samples]
        if any(value is not None for value in column):
            return parse_labels(column)
        folders = [sample.key.rpartition("/")[0].rpartition("/")[2] for sample in samples]
        if not any(folders):
            raise DataError(
                f"{self.spec} holds no labels: expected .cls or .json members beside the images, "
                "or class folders"
            )
        named = parse_labels([f"/{folder}" if folder else None for folder in folders])
        names = tuple(name.removeprefix("/") for name in named.names or ())
        return Labels(named.values, names, declared=True, errors=named.errors)

    def _fingerprint_parts(self) -> Iterable[str]:
        for sample in self._samples:
            yield f"{sample.shard}:{sample.key}:{sample.offset}:{sample.size}:{sample.side}"

    def read(self, ref: str) -> bytes:
        """Return the bytes of the image of this row."""
        sample = self._samples[int(ref)]
        if not 0 < sample.size <= MAX_FILE_BYTES:
            raise RejectedImageError(f"the image has {sample.size} bytes")
        try:
            with self._shards[sample.shard].open("rb") as stream:
                stream.seek(sample.offset)
                return stream.read(sample.size)
        except OSError as error:
            raise DataError(f"{self._shards[sample.shard]} cannot be read: {error}") from error


def find_shards(name: str, options: DatasetOptions) -> list[Path]:
    """Return the tar files of a `wds/NAME` data set.

    The split is a pattern such as `val-{0000..0063}.tar` or `val-*.tar`, or the name of a split in
    the folder's `_info.json`; without a split, all tar files of the folder are taken.

    Raises:
        DataError: there are none.
    """
    folder = Path(options.root or name)
    if not folder.is_dir():
        raise DataError(f"wds/{name}: no such folder {folder}; give the shards' folder as --root")
    names: Iterable[str] = ["*.tar"] if options.split is None else [options.split]
    if options.split is not None and ".tar" not in options.split:
        names = _split_files(folder, options.split)
    shards = [path for name in names for path in _expand(folder, name.partition("|")[0])]
    if not shards:
        raise DataError(f"{folder} holds no shards {options.split or '*.tar'}")
    return shards


def _split_files(folder: Path, split: str) -> list[str]:
    for name in INFO_FILES:
        if (folder / name).is_file():
            try:
                return json.loads((folder / name).read_text("utf-8"))["splits"][split]["filenames"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{folder / name} describes no split {split!r}") from error
    return [f"*{split}*.tar"]


def _expand(folder: Path, pattern: str) -> list[Path]:
    match = RANGE.search(pattern)
    if match is None:
        return sorted(folder.glob(pattern), key=lambda path: natural_key(path.name))
    first, last = match.groups()
    numbers = range(int(first), int(last) + 1)
    return [
        path
        for number in numbers
        for path in _expand(folder, RANGE.sub(f"{number:0{len(first)}d}", pattern, count=1))
    ]


def _read_shard(file: Path, shard: int) -> Iterable[TarSample]:
    """Return the samples of one tar file in the order of their first members."""
    samples: dict[str, TarSample] = {}
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                _add_member(samples, archive, member, shard)
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{file} is not a readable tar file: {error}") from error
    return samples.values()


def _add_member(
    samples: dict[str, TarSample], archive: tarfile.TarFile, member: tarfile.TarInfo, shard: int
) -> None:
    """File one member under its key: the path up to the first dot of the base name."""
    folder, base = os.path.split(member.name)
    stem, _, extension = base.partition(".")
    extension = extension.lower()
    if not member.isfile() or base.startswith("."):
        return
    key = f"{folder}/{stem}".removeprefix("./").lstrip("/")
    if f".{extension.rpartition('.')[2]}" in IMAGE_SUFFIXES:
        sample = samples.setdefault(key, TarSample(key, shard))
        if sample.offset < 0:
            sample.offset, sample.size = member.offset_data, member.size
    elif extension in ("cls", "json") and member.size <= MAX_SIDE_BYTES:
        stream = archive.extractfile(member)
        if stream is not None:
            sample = samples.setdefault(key, TarSample(key, shard))
            sample.side[extension] = stream.read().decode("utf-8", "replace")


def _side_label(sample: TarSample, column: str) -> Any:
    if "cls" in sample.side:
        return sample.side["cls"].strip()
    try:
        return json.loads(sample.side["json"])[column]
    except (KeyError, ValueError, TypeError):
        return None
