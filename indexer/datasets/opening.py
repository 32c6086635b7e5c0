"""From what a user types to the data set it names."""

import glob
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from .base import DatasetOptions, ImageDataset
from .delimited import DELIMITERS
from .embedded import EmbeddedDataset
from .folder import FolderDataset
from .hf_schema import is_image_type
from .hugging_face import HuggingFaceDataset
from .manifest_file import ManifestDataset
from .naming import natural_key
from .streamed import StreamedDataset
from .tar import TarDataset, find_shards
from .torchvision_sets import TorchvisionDataset

PARQUET_SUFFIXES = (".parquet", ".pq")
NAMED: Mapping[str, Callable[[str, DatasetOptions], ImageDataset]] = {
    "torch": TorchvisionDataset,
    "hfds": HuggingFaceDataset,
    "hfids": StreamedDataset,
    "tfds": StreamedDataset,
}


def open_dataset(spec: str | os.PathLike[str], **options: Any) -> ImageDataset:
    """Open a data set and list its rows.

    Args:
        spec: a folder of class folders; a CSV, TSV or parquet manifest; one parquet file, a
            folder or a glob of parquet files with embedded images; a tar file; or a timm name
            (`torch/…`, `hfds/…`, `hfids/…`, `wds/…`, `tfds/…`).
        options: fields of `DatasetOptions`.

    Raises:
        DataError: nothing there, or nothing that can be read as images with labels.
    """
    dataset = _construct(os.fspath(spec), DatasetOptions(**options))
    if not len(dataset):
        raise DataError(f"{spec} has no rows")
    return dataset


def open_source(source: Mapping[str, Any]) -> ImageDataset:
    """Reopen a data set from `ImageDataset.to_source`; rows are listed when first needed.

    Raises:
        DataError: it is gone, or its references are row numbers and it has changed.
    """
    path = Path(source["path"])
    if path.is_absolute() and not path.exists() and not glob.has_magic(source["path"]):
        raise DataError(
            f"the indexed data set {path} is gone: put it back there, or say where it is now with "
            "`failsearch relocate --data`"
        )
    dataset = _construct(source["path"], DatasetOptions(**source.get("options", {})))
    if source.get("fingerprint") is not None:
        dataset.require_source(source)
    return dataset


def _construct(spec: str, options: DatasetOptions) -> ImageDataset:
    path = Path(spec)
    if path.exists():
        return _open_path(path.absolute(), options)
    prefix, separator, name = spec.partition("/")
    if separator and prefix.lower() == "wds":
        if options.root is None:  # the name is the folder
            spec = f"{prefix}/{os.path.abspath(name)}"
        return TarDataset(spec, _absolute_root(options), find_shards(name, options))
    if separator and prefix.lower() in NAMED:
        return NAMED[prefix.lower()](spec, _absolute_root(options))
    if glob.has_magic(spec):
        return _open_glob(spec, options)
    raise DataError(
        f"no data set {spec!r}: give a folder of class folders, a CSV or parquet file, or a timm "
        "name such as hfds/cifar10 or torch/cifar10"
    )


def _open_path(path: Path, options: DatasetOptions) -> ImageDataset:
    suffix = path.suffix.lower()
    if path.is_dir():
        shards = [file for file in path.iterdir() if file.suffix.lower() in PARQUET_SUFFIXES]
        if shards and not options.split:
            return EmbeddedDataset(str(path), options, _natural(shards))
        return FolderDataset(str(path), options)
    if suffix in PARQUET_SUFFIXES:
        return _open_parquet(path, options)
    if suffix in DELIMITERS:
        return ManifestDataset(str(path), options)
    if suffix == ".tar":
        return TarDataset(str(path), options, [path])
    raise DataError(
        f"{path} is no data set: expected a folder, or a .csv, .tsv, .parquet or .tar file"
    )


def _open_parquet(path: Path, options: DatasetOptions) -> ImageDataset:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file: {error}") from error
    embedded = options.image_column or any(is_image_type(field.type) for field in schema)
    if embedded or options.path_column not in schema.names:
        return EmbeddedDataset(str(path), options, [path])
    return ManifestDataset(str(path), options)


def _open_glob(pattern: str, options: DatasetOptions) -> ImageDataset:
    files = [Path(name).absolute() for name in glob.glob(pattern, recursive=True)]
    if not files:
        raise DataError(f"no file matches {pattern}")
    suffixes = {file.suffix.lower() for file in files}
    absolute = os.path.abspath(pattern)
    if suffixes <= set(PARQUET_SUFFIXES):
        return EmbeddedDataset(absolute, options, _natural(files))
    if suffixes == {".tar"}:
        return TarDataset(absolute, options, _natural(files))
    raise DataError(f"{pattern} matches {', '.join(sorted(suffixes))} files: give .parquet or .tar")


def _natural(files: list[Path]) -> list[Path]:
    return sorted(files, key=lambda file: natural_key(str(file)))


def _absolute_root(options: DatasetOptions) -> DatasetOptions:
    if options.root is None:
        return options
    return replace(options, root=os.path.abspath(options.root))
