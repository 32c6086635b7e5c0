"""The space in which failures are compared for grouping.

Two views of a failure are joined: its profile, which says what in the model goes wrong, and its
embedding, which says what the image looks like to the model. Profiles are
good at wrong labels within one pair of classes, embeddings at marks on images; benchmarks/modes.py
compares both together with either alone (`--tuning`).

In profiles every layer gets the same energy, since deep layers have the most filters and mainly
restate label and prediction; |z| is tempered since profiles are heavy-tailed. In both views the
mean failure is removed and the leading principal directions are kept, which drops the noise of
single filters.
"""

from dataclasses import dataclass

import numpy as np

from indexer.filters import FilterLayout

from .settings import ModeSettings

PEAK_QUANTILE = 0.9
_TINY = 1e-12


@dataclass(frozen=True)
class Directions:
    """Principal directions of unit vectors about their mean.

    Attributes:
        mean: the common component, float32 [F].
        basis: orthonormal columns, float32 [F, d].
    """

    mean: np.ndarray
    basis: np.ndarray

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Map vectors float32 [n, F] of any length to unit features float32 [n, d]."""
        return unit_or_zero((unit_or_zero(vectors) - self.mean) @ self.basis)


@dataclass(frozen=True)
class Projection:
    """A fitted map from profiles to features.

    Attributes:
        transform: see `ModeSettings.transform`.
        threshold: 90 % quantile of |z| of each filter, float32 [F]; used by "peaks" alone.
        scale: factor of each column, float32 [F].
        directions: of the tempered, scaled profiles.
    """

    transform: str
    threshold: np.ndarray
    scale: np.ndarray
    directions: Directions

    def __call__(self, profiles: np.ndarray) -> np.ndarray:
        """Map standardized profiles float32 [n, F] to unit features float32 [n, d]."""
        return self.directions(temper(profiles, self.transform, self.threshold) * self.scale)


@dataclass(frozen=True)
class Space:
    """Profiles and embeddings as one feature vector.

    Attributes:
        profiles: features of a profile.
        embeddings: features of an embedding; None in an index without embeddings.
        weight: share of the embedding in the cosine of two feature vectors, in 0..1.
    """

    profiles: Projection
    embeddings: Directions | None
    weight: float

    @property
    def width(self) -> int:
        """Number of features."""
        views = [self.profiles.directions, *([self.embeddings] if self.embeddings else [])]
        return sum(view.basis.shape[1] for view in views)

    def __call__(self, profiles: np.ndarray, embeddings: np.ndarray | None) -> np.ndarray:
        """Map profiles float32 [n, F] and embeddings float32 [n, E] to unit features [n, d]."""
        seen = self.profiles(profiles)
        if self.embeddings is None or embeddings is None:
            return seen
        parts = (1 - self.weight) ** 0.5 * seen, self.weight**0.5 * self.embeddings(embeddings)
        return np.hstack(parts).astype(np.float32, copy=False)


def fit_space(
    profiles: np.ndarray,
    embeddings: np.ndarray | None,
    layout: FilterLayout,
    settings: ModeSettings,
) -> Space:
    """Fit the space of the modes.

    Args:
        profiles: standardized profiles of failures, float32 [n, F], n ≥ 1.
        embeddings: of the same failures, float32 [n, E]; None where the index has none.
        layout: columns of a profile.
        settings: embedding_weight, transform, balance_layers, dimensions and seed are used.

    Returns:
        a map to at most 2·dimensions features.
    """
    seen = None if embeddings is None else fit_directions(embeddings, settings)
    return Space(fit_projection(profiles, layout, settings), seen, settings.embedding_weight)


def fit_projection(
    profiles: np.ndarray, layout: FilterLayout, settings: ModeSettings
) -> Projection:
    """Fit the part of the space that profiles live in; see `fit_space`."""
    threshold = np.quantile(np.abs(profiles), PEAK_QUANTILE, axis=0).astype(np.float32)
    tempered = temper(profiles, settings.transform, threshold)
    scale = np.ones(profiles.shape[1], np.float32)
    if settings.balance_layers:
        scale = layer_scale(tempered, layout)
    return Projection(
        settings.transform, threshold, scale, fit_directions(tempered * scale, settings)
    )


def fit_directions(vectors: np.ndarray, settings: ModeSettings) -> Directions:
    """Fit min(dimensions, n, F) principal directions of vectors float32 [n, F]."""
    from sklearn.utils.extmath import randomized_svd

    vectors = unit_or_zero(vectors)
    mean = vectors.mean(0)
    dimensions = min(settings.dimensions, *vectors.shape)
    _, _, directions = randomized_svd(vectors - mean, dimensions, random_state=settings.seed)
    return Directions(mean, np.ascontiguousarray(directions.T, np.float32))


def temper(profiles: np.ndarray, transform: str, threshold: np.ndarray) -> np.ndarray:
    """Apply one of `TRANSFORMS` to float32 [n, F]; all keep the sign of signed profiles."""
    if transform == "log":
        return np.sign(profiles) * np.log1p(np.abs(profiles))
    if transform == "peaks":
        return np.sign(profiles) * np.maximum(np.abs(profiles) - threshold, 0)
    if transform == "rank":
        order = np.argsort(np.abs(profiles), axis=1, kind="stable")
        ranks = np.empty_like(profiles)
        steps = np.linspace(0, 1, profiles.shape[1], dtype=profiles.dtype)
        np.put_along_axis(ranks, order, steps[None], axis=1)
        return np.where(profiles < 0, -ranks, ranks)
    return profiles


def layer_scale(tempered: np.ndarray, layout: FilterLayout) -> np.ndarray:
    """Return the factor of each column, float32 [F], that gives every layer equal energy."""
    scale = np.ones(tempered.shape[1], np.float32)
    for layer in layout.layers:
        block = tempered[:, layer.start : layer.stop]
        scale[layer.start : layer.stop] = 1 / np.sqrt(max(float((block**2).sum(1).mean()), _TINY))
    return scale


def unit_or_zero(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; zero rows stay zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
