"""A map of the failures: each a point in the plane, near those with similar profiles.

The plane is t-SNE's (van der Maaten and Hinton 2008) of the features that modes are cut from, so
that neighbours on the map are neighbours in what goes wrong. Computed once per version of the
samples and kept in the cache.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from indexer.errors import StoreError, UnknownSampleError

from . import cache
from .modes import ModeSettings
from .modes.evidence import Evidence, gather

if TYPE_CHECKING:
    from indexer.store import Store

FITTED = 3000
"""Failures that t-SNE arranges; more are placed among their nearest arranged ones."""
NEAREST = 5
SEED = 0
TRIES = 5
CACHE_FILE = "map.npz"


@dataclass(frozen=True, eq=False)
class FailureMap:
    """Places of all failures.

    Attributes:
        ids: of the failures, sorted.
        places: float32 [n, 2] in the unit square.
    """

    ids: tuple[str, ...]
    places: np.ndarray

    def __post_init__(self) -> None:
        if self.places.shape != (len(self.ids), 2):
            raise ValueError(f"places of shape {self.places.shape} for {len(self.ids)} failures")


def failure_map(store: "Store") -> FailureMap:
    """Return the map of an index, computed where it was not yet for this version.

    Raises:
        StoreError: samples were added again and again while they were read.
    """
    known = known_map(store)
    if known is not None:
        return known
    path, evidence = _gathered(store)
    made = FailureMap(tuple(evidence.ids.tolist()), arrange(evidence.features))
    ids = np.array(made.ids, np.str_)
    cache.write(path, lambda file: np.savez(file, ids=ids, places=made.places))
    return made


def known_map(store: "Store") -> FailureMap | None:
    """Return the map of this version where it was computed before, and None where it was not."""
    try:
        with np.load(io.BytesIO(_path(store).read_bytes()), allow_pickle=False) as found:
            return FailureMap(tuple(map(str, found["ids"])), found["places"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None  # not there yet, or damaged: made again


def arrange(features: np.ndarray) -> np.ndarray:
    """Return places in the unit square, float32 [n, 2], of features float32 [n, d]."""
    every = max(1, -(-len(features) // FITTED))
    fitted = features[::every]
    places = _embed(fitted)
    if every > 1:
        places = place_among(features, fitted, places)
    low, high = places.min(0, initial=np.inf), places.max(0, initial=-np.inf)
    return ((places - low) / np.maximum(high - low, 1e-12)).astype(np.float32)


def place_among(features: np.ndarray, fitted: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the mean place of the nearest fitted points of each feature vector, [n, 2]."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NEAREST, len(fitted))
    distances, nearest = NearestNeighbors(n_neighbors=count).fit(fitted).kneighbors(features)
    # A fitted point is its own nearest one at distance 0 and stays where it is.
    weights = 1 / np.maximum(distances, 1e-6) ** 2
    weights /= weights.sum(1, keepdims=True)
    return (places[nearest] * weights[..., None]).sum(1)


def _embed(features: np.ndarray) -> np.ndarray:
    if len(features) < 4:  # too few for neighbourhoods: a row
        return np.stack([np.arange(len(features)), np.zeros(len(features))], 1)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    dimensions = min(features.shape)
    start = "pca" if dimensions >= 2 else "random"
    return TSNE(perplexity=perplexity, init=start, random_state=SEED).fit_transform(features)


def _gathered(store: "Store") -> tuple[Path, Evidence]:
    """Return the failures of one version, and where the map of that version belongs.

    It is read in passes. They take no writer lock, so that an index can be mapped where it cannot
    be written; instead they are repeated where samples were added between them.
    """
    for _ in range(TRIES):
        path = _path(store)
        try:
            evidence = gather(store, ModeSettings())
        except (KeyError, UnknownSampleError):  # a failure that an earlier pass did not see
            if _path(store) == path:
                raise
            continue
        if _path(store) == path:
            return path, evidence
    raise StoreError(f"samples of {store.path} change while they are read: try again")


def _path(store: "Store") -> Path:
    return cache.version_folder(store, cache.version_manifest(store)) / CACHE_FILE
