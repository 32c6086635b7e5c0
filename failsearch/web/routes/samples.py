"""One sample: its image, prediction, salient filters, neighbours, and what was done about it."""

import base64
import io
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Body, Request
from PIL import Image
from starlette.responses import HTMLResponse, Response

from indexer.errors import SettingError
from indexer.schema import THUMBNAIL
from search.neighbours import SearchSettings, search

from ..state import State
from ..templating import render
from .common import App, Field, SampleId, answers

router = APIRouter()
NEIGHBOURS = 12
SALIENT = 10
LARGEST = 1024
"""Longest side of a picture on a page; the originals may be photographs."""

# Ids are stable and an id's picture never changes, so a browser may keep it for the session.
_CACHED = {"cache-control": "private, max-age=3600"}


@router.get("/sample", response_class=HTMLResponse, include_in_schema=False)
def sample_page(request: Request, state: App, id: SampleId) -> HTMLResponse:
    """Show one sample."""
    return render(
        request,
        "sample.html",
        sample=state.gallery.sample(id),
        metadata=_metadata(state, id),
        filters=salient_filters(state, id),
        found=search(state.index.store, id, SearchSettings(k=NEIGHBOURS)).to_json(),
        mode=state.mode_of(id),
        repairs=repairs_of(state, id),
        decision=state.decisions.get(id),
        classes=state.gallery.classes,
    )


@router.get("/api/sample")
def sample_json(state: App, id: SampleId) -> dict[str, Any]:
    """Return the stored values of one sample, its salient filters, mode and repairs."""
    mode = state.mode_of(id)
    return {
        **state.gallery.sample(id),
        "filters": salient_filters(state, id),
        "mode": None if mode is None else mode.id,
        "repairs": repairs_of(state, id),
    }


@router.get("/thumbnail", **answers("image/jpeg"))
def thumbnail(state: App, id: SampleId) -> Response:
    """Return the stored thumbnail of a sample."""
    picture = state.index.store.take([id], [THUMBNAIL])[THUMBNAIL][0].as_py()
    return Response(picture, media_type="image/jpeg", headers=_CACHED)


@router.get("/image", **answers("image/png", "image/jpeg"))
def image(state: App, id: SampleId) -> Response:
    """Return the image of a sample as the data set holds it, at most 1,024 pixels long."""
    sample = state.gallery.sample(id)
    picture = state.images.pil(sample["source"], sample["ref"], sample)
    if max(picture.size) > LARGEST:
        picture = picture.copy()
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "PNG" if max(picture.size) <= LARGEST // 4 else "JPEG"
    picture.save(buffer, kind, quality=90)
    return Response(buffer.getvalue(), media_type=f"image/{kind.lower()}", headers=_CACHED)


@router.get("/api/explanation")
def explanation(state: App, id: SampleId) -> dict[str, Any]:
    """Return the heat-map of a sample and the filters behind it; loads the model."""
    state.gallery.sample(id)
    return state.models.explain(id)


Mask = Annotated[str, Body(max_length=3_000_000)]


@router.post("/api/mask")
def mask(
    state: App,
    id: Field,
    mask: Mask,
    width: Annotated[int, Body(ge=1, le=4096)],
    height: Annotated[int, Body(ge=1, le=4096)],
    fill: Annotated[Literal["mean", "blur", "noise", "inpaint"], Body()] = "blur",
) -> dict[str, Any]:
    """Return class probabilities before and after filling the brushed pixels.

    `mask` is base64 of height × width bits, row by row, each row from its left.
    """
    state.gallery.sample(id)
    return state.models.mask(id, unpack_mask(mask, width, height), fill)


@router.post("/api/paste")
def paste(
    state: App,
    id: Field,
    mask: Mask,
    width: Annotated[int, Body(ge=1, le=4096)],
    height: Annotated[int, Body(ge=1, le=4096)],
    onto: Field,
) -> dict[str, Any]:
    """Paste the brushed pixels onto images of a class, beside other regions of the same area."""
    state.gallery.sample(id)
    return state.models.paste(id, unpack_mask(mask, width, height), onto)


def unpack_mask(text: str, width: int, height: int) -> np.ndarray:
    """Return a mask as bool [height, width]; raises SettingError where it is no such mask."""
    try:
        data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except ValueError as error:
        raise SettingError("the mask is not base64") from error
    if len(data) != -(-width * height // 8):
        raise SettingError(f"the mask has {8 * len(data)} bits, not {width} × {height}")
    return np.unpackbits(data, count=width * height).reshape(height, width).astype(bool)


def salient_filters(state: State, sample: str) -> list[dict[str, Any]]:
    """Return the filters with the largest standardized saliency, and the modes that share them."""
    rows = state.gallery.rows
    profile = rows.column.rows(rows.positions([sample]))[0]
    layout = state.index.manifest.layout
    sharing = modes_by_filter(state)
    found = []
    for column in np.argsort(-profile, kind="stable")[:SALIENT].tolist():
        layer, index = layout.locate(column)
        found.append(
            {
                "layer": layer.name,
                "filter": index,
                "score": float(profile[column]),
                "modes": sharing.get((layer.name, index), []),
            }
        )
    return found


def modes_by_filter(state: State) -> dict[tuple[str, int], list[str]]:
    """Return the ids of the modes that name a filter among theirs."""
    sharing: dict[tuple[str, int], list[str]] = {}
    for mode in state.modes.modes if state.modes else ():
        for item in mode.filters:
            sharing.setdefault((item.layer, item.filter), []).append(mode.id)
    return sharing


def repairs_of(state: State, sample: str) -> list[dict[str, Any]]:
    """Return what each repair did to a sample, newest first; most leave most samples alone."""
    table = state.repair_samples
    if table is None:
        return []
    classes = state.gallery.classes
    found = []
    for repair, affected in zip(table["id"].to_pylist(), table["samples"].to_pylist(), strict=True):
        for row in affected:
            if row["id"] == sample:
                found.append(
                    {
                        "repair": repair,
                        "change": row["change"],
                        "before": classes[row["before"]],
                        "after": classes[row["after"]],
                        "confidence_before": row["confidence_before"],
                        "confidence_after": row["confidence_after"],
                    }
                )
    return found[::-1]


def _metadata(state: State, sample: str) -> list[tuple[str, Any]]:
    row = state.gallery.sample(sample)
    bare = [(key.removeprefix("meta_"), row[key]) for key in row if key.startswith("meta_")]
    size = [("size", f"{row['width']} × {row['height']}")] if row.get("width") else []
    return [*bare, *size]
