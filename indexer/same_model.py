"""Opening the model of an index, with a look at whether it still computes what it did.

The digest that identifies a model covers its weights. The code around them, timm's or one's own,
can change what they compute, and then stored profiles and new ones are of two models.
"""

import os
import warnings

import numpy as np
import torch

from .errors import FailsearchError, FailsearchWarning
from .images import STORED, IndexedImages
from .indexed_model import load_indexed_model
from .job import installed_versions
from .models import LoadedModel
from .patched import naming_the_patch
from .schema import ID, LOGITS
from .store import Store

TOLERANCE = {"fp32": 0.02, "fp64": 0.02}
"""Largest difference of logits that rounding makes, as a share of the largest logit."""
COARSE_TOLERANCE = 0.1
"""The same of precisions that are not here."""


def open_model(store: Store, device: str | torch.device = "cpu") -> LoadedModel:
    """Load the model of an index; warn where it computes other logits for the first sample.

    Nothing is said where the image of that sample cannot be read from a file as it was indexed.

    Raises:
        ModelError, UntrustedModelError, ChangedWeightsError: see `load_indexed_model`.
    """
    manifest = store.manifest
    with naming_the_patch(store.path):
        loaded = load_indexed_model(manifest, device=device)
    sample, difference = _compare(store, loaded, device)
    if not difference <= TOLERANCE.get(manifest.precision, COARSE_TOLERANCE):
        then, now = manifest.versions.get("timm"), installed_versions().get("timm")
        versions = "" if then in (None, now) else f", then with timm {then}, now with {now}"
        warnings.warn(
            f"the model does not compute what it did when it was indexed (its logits of "
            f"{sample!r} are off by {100 * difference:.0f} %){versions}: restore its code, or "
            "index again with another --db",
            FailsearchWarning,
            stacklevel=2,
        )
    return loaded


def _compare(store: Store, loaded: LoadedModel, device: str | torch.device) -> tuple[str, float]:
    """Return the id of the first sample and how far its logits are off, as a share; 0 if unknown.

    Named data sets are not opened for that: they may be far away.
    """
    manifest, first = store.manifest, store.read([ID, LOGITS, *STORED], limit=1)
    (row,) = first.to_pylist()
    if not os.path.isabs(manifest.sources[row["source"]]["path"]):
        return row[ID], 0.0
    try:
        image = IndexedImages(manifest, loaded.transform).tensor(first)
    except FailsearchError:
        return row[ID], 0.0
    with torch.inference_mode():
        found = loaded.model(image.to(device))[0].cpu().numpy()
    stored = np.array(row[LOGITS])
    return row[ID], float(np.abs(found - stored).max() / max(np.abs(stored).max(), 1e-6))
