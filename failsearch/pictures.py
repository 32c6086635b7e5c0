"""Montages of results: a query with its neighbours, modes by their exemplars."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
from PIL import Image

from indexer.durability import replace_file
from indexer.errors import SettingError
from indexer.schema import THUMBNAIL
from indexer.store import Store
from search.audit.report import AuditReport
from search.modes import Mode, ModeReport
from search.results import Sample, SearchResult

from .montage import montage

MODES_SHOWN = 8


def pictures(store: Store, ids: Sequence[str]) -> list[Image.Image]:
    """Return the stored thumbnails of samples, RGB, in the order asked."""
    rows = store.take(ids, [THUMBNAIL])[THUMBNAIL].to_pylist()
    return [Image.open(BytesIO(data)).convert("RGB") for data in rows]


def neighbours_montage(store: Store, result: SearchResult) -> Image.Image:
    """Draw the query first, framed, and then its neighbours with score and confusion."""
    samples = [*result.queries, *(neighbour.sample for neighbour in result.neighbours)]
    notes = ["query"] * len(result.queries)
    notes += [f"{neighbour.score:.3f}" for neighbour in result.neighbours]
    captions = [
        (note, sample.id, _confusion(sample)) for note, sample in zip(notes, samples, strict=True)
    ]
    images = pictures(store, [sample.id for sample in samples])
    return montage(list(zip(images, captions, strict=True)), highlight=0)


def modes_montage(store: Store, report: ModeReport, modes: int = MODES_SHOWN) -> Image.Image:
    """Draw the exemplars of the largest modes, one row a mode."""
    shown = report.modes[:modes]
    if not shown:
        raise SettingError("there are no modes to draw: the index has too few failures to group")
    columns = max(len(mode.exemplars) for mode in shown)
    entries = []
    for mode in shown:
        images = pictures(store, mode.exemplars)
        captions = [(f"{mode.name} ({mode.size})", key) for key in mode.exemplars]
        blank = [(Image.new("RGB", (8, 8), "white"), ("", ""))] * (columns - len(images))
        entries += [*zip(images, captions, strict=True), *blank]
    return montage(entries, columns)


def mode_montage(store: Store, mode: Mode, members: Sequence[Sample]) -> Image.Image:
    """Draw members of a mode under its name."""
    captions = [(sample.id, _confusion(sample)) for sample in members]
    images = pictures(store, [sample.id for sample in members])
    return montage(
        list(zip(images, captions, strict=True)), title=f"{mode.name} ({mode.size} failures)"
    )


def repair_montage(store: Store, samples: pa.Table, most: int = 24) -> Image.Image:
    """Draw the images that a repair fixed, and then those that it broke."""
    names = store.manifest.classes
    rows = [
        row
        for change in ("fixed", "broken")
        for row in [row for row in samples.to_pylist() if row["change"] == change][:most]
    ]
    if not rows:
        raise SettingError("this repair changed no prediction from wrong to right or back")
    captions = [
        (f"{row['change']} · {row['id']}", f"{names[row['before']]} → {names[row['after']]}")
        for row in rows
    ]
    images = pictures(store, [row["id"] for row in rows])
    return montage(list(zip(images, captions, strict=True)))


def labels_montage(store: Store, report: AuditReport, most: int = 30) -> Image.Image:
    """Draw the strongest label suspects with the given and the suggested label."""
    found = report.of("labels")[:most]
    if not found:
        raise SettingError("the audit found no label suspects to draw")
    captions = [(f.subject, f"{f.label_name}, or {f.suggested_name}?") for f in found]
    images = pictures(store, [f.subject for f in found])
    return montage(list(zip(images, captions, strict=True)))


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format of the file's suffix, whole or not at all.

    Raises:
        SettingError: no such format, or the file cannot be written.
    """
    try:
        kind = Image.registered_extensions().get(path.suffix.lower())
        if kind is None:
            raise ValueError(f"no picture format {path.suffix!r}")
        with replace_file(path) as file:
            picture.save(file, kind)
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingError(
            f"cannot write {path} ({reason}): name a .png in a folder of yours"
        ) from error


def _confusion(sample: Sample) -> str:
    return sample.label_name if sample.correct else sample.pair
