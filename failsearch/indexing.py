"""From what a user names to an index: opens data and model, runs the pipeline, opens the result."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .device import resolve_device
from .index import Index

if TYPE_CHECKING:
    from indexer.datasets import ImageDataset
    from indexer.job import IndexSettings
    from indexer.models import LoadedModel
    from indexer.pipeline import IndexReport
    from indexer.transforms import TransformOverrides

NAMED = 3
"""Folders that a warning names."""


def index(
    data: str | Path,
    model: str,
    path: str | Path = "failures.lancedb",
    *,
    checkpoint: Path | None = None,
    device: str = "auto",
    data_options: dict[str, Any] | None = None,
    overrides: TransformOverrides | None = None,
    settings: IndexSettings | None = None,
) -> tuple[Index, IndexReport]:
    """Index a validation set under a model.

    Args:
        data: folder, manifest, parquet file or timm data-set name.
        model: timm name, `hf-hub:…`, `local-dir:…` or `package.module:factory`.
        path: database folder.
        checkpoint: weights to load into the model.
        device: "cpu", "cuda", "cuda:1" or "auto".
        data_options: keyword arguments of `indexer.datasets.open_dataset`.
        overrides: changes to the model's own transform.
        settings: choices of the run.

    Returns:
        The opened index, and what the run did.

    Raises:
        FailsearchError: see `indexer.pipeline.index_dataset`.
    """
    from indexer.datasets import open_dataset
    from indexer.models import load_model
    from indexer.pipeline import index_dataset
    from indexer.trust import remember

    # The data first: a wrong path should not cost the time of loading a model.
    dataset = open_dataset(data, **(data_options or {}))
    _tell_passed_over(dataset)
    loaded = load_model(
        model, checkpoint=checkpoint, device=resolve_device(device), overrides=overrides
    )
    if loaded.folder is not None:
        remember(loaded.spec, loaded.folder)
        _tell_assumed(loaded)
    report = index_dataset(dataset, loaded, path, settings)
    made = Index.open(path)
    _fill_caches(made)
    return made, report


def add(
    index: Index,
    data: str | Path,
    *,
    device: str = "auto",
    data_options: dict[str, Any] | None = None,
    settings: IndexSettings | None = None,
) -> IndexReport:
    """Add a data set to an index, standardized with the statistics that the index has."""
    from indexer.datasets import open_dataset
    from indexer.pipeline import add_dataset
    from indexer.same_model import open_model

    dataset = open_dataset(data, **(data_options or {}))
    _tell_passed_over(dataset)
    loaded = open_model(index.store, resolve_device(device))
    report = add_dataset(dataset, loaded, index.path, settings)
    _fill_caches(index)
    return report


def _tell_passed_over(dataset: ImageDataset) -> None:
    """Warn of hidden folders with images, which may have been meant as classes."""
    from indexer.errors import FailsearchWarning

    names = dataset.passed_over
    if names:
        these = "a folder with images is skipped, since its name begins"
        if len(names) > 1:
            these = f"{len(names)} folders with images are skipped, since their names begin"
        more = ", …" if len(names) > NAMED else ""
        warnings.warn(
            f"{dataset.spec}: {these} with a dot: {', '.join(names[:NAMED])}{more}; rename what is "
            "a class",
            FailsearchWarning,
            stacklevel=3,
        )


def _tell_assumed(loaded: LoadedModel) -> None:
    """Warn of values of the transform that a module of the user's own does not state."""
    from indexer.errors import FailsearchWarning

    if not loaded.assumed:
        return
    config = loaded.transform_config
    _, height, width = config["input_size"]
    shown = {"input_size": f"{width} × {height} pixels"}
    for name in ("mean", "std"):
        shown[name] = f"{name} {','.join(f'{value:g}' for value in config[name])}"
    taken = ", ".join(shown[name] for name in loaded.assumed)
    options = ", ".join(f"--{name.replace('_', '-')}" for name in loaded.assumed)
    warnings.warn(
        f"{loaded.spec} does not state all of its transform, and timm's is taken: {taken}: if it "
        f"was trained with others, give {options}, or the model an attribute pretrained_cfg, a "
        f"dictionary of {', '.join(loaded.assumed)}",
        FailsearchWarning,
        stacklevel=3,
    )


def _fill_caches(index: Index) -> None:
    """Leave light columns and norms where the first search and the first page look for them."""
    from search.snapshot import snapshot

    _ = snapshot(index.store).norms
