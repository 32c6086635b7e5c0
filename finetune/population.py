"""What a repair works on: a model, its samples, and how it did on them when they were indexed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from indexer.errors import UnknownSampleError
from indexer.filters import FilterLayout
from indexer.images import IndexedImages
from indexer.models import LoadedModel
from indexer.same_model import open_model
from indexer.schema import ID, LOGITS, PROFILE
from indexer.store import Store
from search.arrow import dense

from .inputs import IndexInputs, Inputs

PLACES = ["source", "ref", "width", "height"]
"""Columns to find and compare images by; thumbnails of all samples would take too much memory."""
ReadProfiles = Callable[[np.ndarray], np.ndarray]
"""From int64 rows [n] to standardized profiles, float32 [n, F]."""


@dataclass(frozen=True, eq=False)
class Population:
    """N samples as arrays, in the order of the index; images and profiles are read when needed.

    Attributes:
        model: in evaluation mode, on the device where the repair runs.
        layout: columns of a profile.
        ids: N unique ids.
        labels: int64 [N].
        logits: float32 [N, C], of the model as indexed.
        inputs: model inputs by row.
        profiles: standardized profiles by row.
        classes: C class names.
    """

    model: nn.Module
    layout: FilterLayout
    ids: tuple[str, ...]
    labels: np.ndarray
    logits: np.ndarray
    inputs: Inputs
    profiles: ReadProfiles
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.labels), len(self.logits), len(self.inputs)}
        if len(lengths) != 1 or len(set(self.ids)) != len(self.ids):
            raise ValueError(f"ids, labels, logits and inputs differ in length: {lengths}")
        if self.logits.shape[1] != len(self.classes):
            raise ValueError(f"{self.logits.shape[1]} logits for {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @cached_property
    def predictions(self) -> np.ndarray:
        """Class predicted for each sample as indexed, int64 [N]."""
        return self.logits.argmax(1)

    @cached_property
    def failures(self) -> np.ndarray:
        """Rows of the misclassified samples, int64, ascending."""
        return np.flatnonzero(self.predictions != self.labels)

    def rows(self, ids: tuple[str, ...] | list[str]) -> np.ndarray:
        """Return the rows of ids, int64, in the order given; raises UnknownSampleError."""
        row_of = {sample: row for row, sample in enumerate(self.ids)}
        for sample in ids:
            if sample not in row_of:
                raise UnknownSampleError(f"no sample {sample!r} in the index")
        return np.array([row_of[sample] for sample in ids], np.int64)


def open_population(store: Store, device: str = "cpu") -> tuple[Population, LoadedModel]:
    """Load the model of an index and the light columns of its samples.

    Returns:
        The population and the loaded model whose module it uses.

    Raises:
        IncompatibleIndexError: the model's weights have changed since the index was made.
    """
    manifest = store.manifest
    loaded = open_model(store, device)
    table = store.read([ID, "label", LOGITS, *PLACES])
    ids = tuple(table[ID].to_pylist())
    images = IndexedImages(manifest, loaded.transform)
    config = manifest.transform
    population = Population(
        model=loaded.model,
        layout=manifest.layout,
        ids=ids,
        labels=table["label"].to_numpy().astype(np.int64),
        logits=matrix(table[LOGITS]),
        inputs=IndexInputs(images, table.select(PLACES), mean=config["mean"], std=config["std"]),
        profiles=lambda rows: matrix(store.take([ids[row] for row in rows], [PROFILE])[PROFILE]),
        classes=tuple(manifest.classes),
    )
    return population, loaded


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of fixed-size lists as float32 [n, width]."""
    # A copy: Arrow's memory is read-only, and torch takes no such arrays.
    return dense(column).copy()
