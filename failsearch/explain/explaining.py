"""From a subject to its explanation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from indexer.errors import SettingError
from indexer.progress import Progress, Tracker, silent
from indexer.saliency.input_space import profile_gradient
from indexer.saliency.matching import boosted_distance, boosted_entries
from indexer.schema import MODES
from search.modes import read_modes
from search.snapshot import snapshot

from .explanation import Explanation, SalientFilter
from .paste import paste_onto
from .regions import box_region, heat_of, salient_region
from .what_if import what_if

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indexer.store import Store

    from .settings import ExplainSettings
    from .subjects import Bench, Subject

PASTED_SHARE = 0.05
"""Share of the pixels that is pasted where no region was asked for."""
ROWS = 8192
"""Profiles that are compared at once."""


def explain_subject(
    bench: Bench, subject: Subject, settings: ExplainSettings, progress: Progress = silent
) -> Explanation:
    """Explain one image; with what-if and pasting where the settings ask for them."""
    passes = 1 + bool(settings.masks or settings.mask_salient) + (settings.paste_onto is not None)
    with progress(f"Explaining {subject.id}", passes, 0) as tracker:
        return _explain_subject(bench, subject, settings, tracker)


def _explain_subject(
    bench: Bench, subject: Subject, settings: ExplainSettings, tracker: Tracker
) -> Explanation:
    (explanation,) = explain_subjects(bench, [subject], settings)
    tracker.advance(1)
    heat, regions = explanation.heatmap, {}
    if settings.masks:
        regions["boxes"] = box_region(settings.masks, heat.shape)
    if settings.mask_salient is not None:
        name = f"salient {100 * settings.mask_salient:.3g} %"
        regions[name] = salient_region(heat, settings.mask_salient)
    if regions:
        explanation = replace(explanation, what_if=what_if(bench, subject, heat, regions, settings))
        tracker.advance(1)
    if settings.paste_onto is not None:
        salient = {"salient": salient_region(heat, PASTED_SHARE)}
        name, region = next(iter((regions or salient).items()))
        found = paste_onto(bench, subject, heat, region, settings, name)
        explanation = replace(explanation, paste=found)
        tracker.advance(1)
    return explanation


def explain_subjects(
    bench: Bench, subjects: Sequence[Subject], settings: ExplainSettings
) -> list[Explanation]:
    """Explain several images together, without what-if; they share the passes of the model.

    Raises:
        SettingError: a filter that the model does not have, or a top out of range.
        UnsupportedLayerError: the model cannot be differentiated twice; names the layer.
    """
    columns = [bench.layout.column(name) for name in settings.filters] or None
    objective = boosted_distance(
        bench.standardize, top=settings.top, boost=settings.boost, columns=columns
    )
    pixels = np.stack([subject.pixels for subject in subjects])
    labels = torch.tensor([subject.label for subject in subjects], device=bench.device)
    found = profile_gradient(bench.model, bench.layout, bench.normalize(pixels), labels, objective)
    profiles = bench.standardize(found.profiles).float().cpu().numpy()
    probabilities = found.logits.double().softmax(1).cpu().numpy()
    # d/dpixels, where pixels in [0, 1] are what a person changes
    gradients = found.gradients.cpu().numpy() / bench.std
    raw = found.profiles.cpu().numpy()
    chosen = [columns or _top(profile, settings.top) for profile in profiles]
    filters = _describe(bench, chosen, profiles, raw)
    return [
        Explanation(
            id=subject.id,
            label=subject.label,
            classes=bench.classes,
            probabilities=probabilities[row],
            filters=filters[row],
            distance=float(found.values[row]),
            heatmap=heat_of(gradients[row]),
            gradient=gradients[row],
            pixels=subject.pixels,
            profile=profiles[row],
            raw=raw[row],
            layout=bench.layout,
        )
        for row, subject in enumerate(subjects)
    ]


def _top(profile: np.ndarray, top: int | None) -> list[int]:
    count = boosted_entries(top, len(profile))
    return np.argsort(-profile, kind="stable")[:count].tolist()


def _describe(
    bench: Bench, chosen: list[list[int]], profiles: np.ndarray, raw: np.ndarray
) -> list[tuple[SalientFilter, ...]]:
    percentiles = _percentiles(bench.store, chosen, profiles)
    modes = _modes_by_filter(bench.store)
    described = []
    for row, columns in enumerate(chosen):
        filters = []
        for column, percentile in zip(columns, percentiles[row], strict=True):
            layer, index = bench.layout.locate(column)
            filters.append(
                SalientFilter(
                    layer=layer.name,
                    filter=index,
                    column=column,
                    standardized=float(profiles[row, column]),
                    raw=float(raw[row, column]),
                    percentile=float(percentile),
                    modes=modes.get((layer.name, index), ()),
                )
            )
        described.append(tuple(filters))
    return described


def _percentiles(store: Store, chosen: list[list[int]], profiles: np.ndarray) -> np.ndarray:
    """Return the share of stored profiles below each chosen entry, in percent.

    Only the chosen columns of the mapped profiles are read, not the profiles.
    """
    columns = np.array(chosen)
    values = np.take_along_axis(profiles, columns, axis=1)
    below, total = np.zeros(values.shape), 0
    for stored in snapshot(store).column.stored(ROWS):
        below += (stored[:, columns] < values).sum(axis=0)
        total += len(stored)
    if not total:
        raise SettingError(f"{store.path} holds no samples to compare with")
    return 100 * below / total


def _modes_by_filter(store: Store) -> dict[tuple[str, int], tuple[str, ...]]:
    if store.read_table(MODES) is None:
        return {}
    sharing: dict[tuple[str, int], tuple[str, ...]] = {}
    for mode in read_modes(store).modes:
        for item in mode.filters:
            key = (item.layer, item.filter)
            sharing[key] = (*sharing.get(key, ()), mode.id)
    return sharing
