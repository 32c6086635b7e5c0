"""From what a user names to an index: opens data and model, runs the pipeline, opens the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .device import resolve_device
from .index import Index

if TYPE_CHECKING:
    from indexer.job import IndexSettings
    from indexer.pipeline import IndexReport
    from indexer.transforms import TransformOverrides


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
    loaded = load_model(
        model, checkpoint=checkpoint, device=resolve_device(device), overrides=overrides
    )
    if loaded.folder is not None:
        remember(loaded.spec, loaded.folder)
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
    loaded = open_model(index.store, resolve_device(device))
    report = add_dataset(dataset, loaded, index.path, settings)
    _fill_caches(index)
    return report


def _fill_caches(index: Index) -> None:
    """Leave light columns and norms where the first search and the first page look for them."""
    from search.snapshot import snapshot

    _ = snapshot(index.store).norms
