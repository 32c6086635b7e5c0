"""Why a model fails on an image: which filters, which pixels, and what happens without them.

`explain` gives the salient filters of one image and, by differentiating the saliency profile once
more, the pixels behind them (sections 2.2 and 3.1 of the paper); it can mask those pixels or paste
them onto other images. `invert` recovers an image from its stored profile. Importing this package
loads neither torch nor matplotlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from indexer.progress import Progress, silent

from .settings import FILLS, ExplainSettings, InvertSettings, parse_box, parse_share

if TYPE_CHECKING:
    from PIL import Image

    from indexer.store import Store

    from .explanation import Explanation
    from .inversion import Inversion

__all__ = [
    "FILLS",
    "ExplainSettings",
    "InvertSettings",
    "explain",
    "invert",
    "parse_box",
    "parse_share",
]


def explain(
    store: Store,
    *,
    sample: str | None = None,
    image: Image.Image | str | Path | None = None,
    label: str | int | None = None,
    settings: ExplainSettings | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Explanation:
    """Explain a sample of an index, or an image with its true class.

    Args:
        store: the index; its model is loaded and must have the weights that were indexed.
        sample: id of a sample.
        image: a picture or file that need not be in the index.
        label: its true class, by name or number.
        settings: what to explain and what to try; the ten most salient filters by default.
        device: where the model runs.
        progress: where passes of the model are reported.

    Raises:
        SettingError: neither or both of sample and image, or an option out of range.
        UnknownSampleError: no such sample.
        ClassMapError: no such class.
        UnsupportedLayerError: the model cannot be differentiated twice; names the layer.
    """
    from .explaining import explain_subject
    from .subjects import Bench, one_subject

    bench = Bench(store, device)
    subject = one_subject(bench, sample, image, label)
    return explain_subject(bench, subject, settings or ExplainSettings(), progress)


def invert(
    store: Store,
    *,
    sample: str,
    start: Image.Image | str | Path = "noise",
    settings: InvertSettings | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Inversion:
    """Recover an image from the stored profile of a sample.

    Args:
        store: the index.
        sample: id of the sample whose profile is inverted.
        start: "noise", the id of another sample, or a picture or file to begin with.
        settings: steps, step size, patience and seed.
        device: where the model runs.
        progress: where steps are reported.

    Raises:
        UnknownSampleError: no such sample.
        UnsupportedLayerError: the model cannot be differentiated twice; names the layer.
    """
    from .inversion import invert_sample
    from .subjects import Bench

    bench = Bench(store, device)
    return invert_sample(bench, sample, start, settings or InvertSettings(), progress)
