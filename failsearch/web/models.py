"""The model behind the pages that need one: opened once, used by one request at a time."""

import base64
import io
import threading
from collections import OrderedDict
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from failsearch.explain.explaining import explain_subject
from failsearch.explain.explanation import Explanation
from failsearch.explain.paste import paste_onto
from failsearch.explain.settings import ExplainSettings
from failsearch.explain.subjects import Bench, Subject, to_image
from failsearch.explain.what_if import what_if
from failsearch.query import ImageProfiler
from indexer.errors import SettingError
from indexer.images import open_picture, pixel_limit
from indexer.models import LoadedModel
from indexer.same_model import open_model
from indexer.store import Store
from search.neighbours import SearchSettings, search_profile
from search.results import SearchResult

KEPT = 8
"""Explanations that are kept, so that strokes of a brush do not repeat the gradient."""
CONTROLS = 8
PASTED = 24


class Models:
    """Explains, masks, pastes and searches; every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._explained: OrderedDict[str, tuple[Subject, Explanation]] = OrderedDict()

    def load(self) -> None:
        """Load the model, so that the first question finds it ready."""
        with self._lock:
            _ = self._bench

    def explain(self, sample: str) -> dict[str, Any]:
        """Return salient filters, view and heat-map of a sample; pictures as data addresses."""
        with self._lock:
            _, explanation = self._explain(sample)
        heat = explanation.heatmap / max(float(np.quantile(explanation.heatmap, 0.995)), 1e-30)
        colours = colormaps["inferno"](heat.clip(0, 1))
        colours[..., 3] = np.sqrt(heat.clip(0, 1))  # what is cold stays transparent
        return {
            **explanation.to_json(),
            "width": heat.shape[1],
            "height": heat.shape[0],
            "view": _data_address(explanation.view),
            "heat": _data_address(Image.fromarray((255 * colours).astype(np.uint8), "RGBA")),
        }

    def mask(self, sample: str, region: np.ndarray, fill: str) -> dict[str, Any]:
        """Return class probabilities before and after filling a region, beside random ones."""
        settings = ExplainSettings(fill=fill, controls=CONTROLS)
        with self._lock:
            subject, explanation = self._explain(sample)
            _require_shape(region, explanation.heatmap)
            found = what_if(self._bench, subject, explanation.heatmap, {"brush": region}, settings)
        return {**found.to_json(), "label": explanation.label_name, "area": float(region.mean())}

    def paste(self, sample: str, region: np.ndarray, onto: str) -> dict[str, Any]:
        """Return what pasting a region onto images of a class does, with some of the pictures."""
        settings = ExplainSettings(paste_onto=onto, paste_images=PASTED)
        with self._lock:
            subject, explanation = self._explain(sample)
            _require_shape(region, explanation.heatmap)
            found = paste_onto(self._bench, subject, explanation.heatmap, region, settings, "brush")
        brush = found.rows[0]
        pictures = [
            {
                "id": name,
                "picture": _data_address(to_image(pixels)),
                "before": float(before),
                "after": float(after),
            }
            for name, pixels, before, after in zip(
                found.ids, found.pictures, brush.before, brush.after, strict=False
            )
        ]
        document = found.to_json()
        return {**document, "wrong": found.wrong, "pictures": pictures}

    def search(self, data: bytes, label: str, settings: SearchSettings) -> SearchResult:
        """Return the neighbours of an uploaded image.

        Raises:
            DataError: the bytes are no image that can be used.
            ClassMapError: no such class.
        """
        picture, _ = open_picture(data, max_pixels=pixel_limit(self._store.manifest))
        with self._lock:
            profile, query = self._profiler(picture, label)
        return search_profile(self._store, profile, query, settings)

    @cached_property
    def _loaded(self) -> LoadedModel:
        return open_model(self._store)

    @cached_property
    def _bench(self) -> Bench:
        return Bench(self._store, loaded=self._loaded)

    @cached_property
    def _profiler(self) -> ImageProfiler:
        return ImageProfiler(self._store, loaded=self._loaded)

    def _explain(self, sample: str) -> tuple[Subject, Explanation]:
        if sample not in self._explained:
            (subject,) = self._bench.samples([sample])
            explanation = explain_subject(self._bench, subject, ExplainSettings())
            self._explained[sample] = (subject, explanation)
            if len(self._explained) > KEPT:
                self._explained.popitem(last=False)
        return self._explained[sample]


def _require_shape(region: np.ndarray, heat: np.ndarray) -> None:
    if region.shape != heat.shape:
        raise SettingError(
            f"a mask of {region.shape[1]} × {region.shape[0]} pixels: the model's view has "
            f"{heat.shape[1]} × {heat.shape[0]}"
        )
    if not region.any() or region.all():
        raise SettingError("the mask is empty or covers everything: brush a part of the image")


def _data_address(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
