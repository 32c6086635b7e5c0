"""A person's corrections of stored modes: rename, merge, split, form; each a new stored version."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from indexer.errors import SettingError, UnknownSampleError

from .describe import describe
from .evidence import Evidence, gather, positions
from .naming import distinguish
from .report import Mode, ModeReport
from .stored import read_modes, write_modes

if TYPE_CHECKING:
    from indexer.store import Store


def rename_mode(store: "Store", mode_id: str, name: str) -> ModeReport:
    """Give a mode another name.

    Raises:
        UnknownSampleError: no such mode.
        SettingError: the name is empty or another mode's.
    """
    with store.writer():
        report = read_modes(store)
        renamed = replace(report.mode(mode_id), name=_free_name(report, name, {mode_id}))
        return _replace(store, report, {mode_id}, [renamed])


def merge_modes(store: "Store", mode_ids: Sequence[str], name: str | None = None) -> ModeReport:
    """Make one mode of several; it keeps the id of the first.

    Args:
        store: an index with modes.
        mode_ids: at least two different modes; repetitions count once.
        name: of the merged mode; by default from its confusions.

    Raises:
        UnknownSampleError: no such mode.
        SettingError: fewer than two modes, or the name is another mode's.
    """
    mode_ids = tuple(dict.fromkeys(mode_ids))
    if len(mode_ids) < 2:
        raise SettingError(
            f"merging takes two different modes, not {', '.join(mode_ids) or 'none'}"
        )
    with store.writer():
        report = read_modes(store)
        members = [sample for one in mode_ids for sample in report.mode(one).samples]
        evidence = gather(store, report.settings)
        merged = _describe(store, report, evidence, [members], [mode_ids[0]], set(mode_ids))
        if name is not None:
            merged = [replace(merged[0], name=_free_name(report, name, set(mode_ids)))]
        return _replace(store, report, set(mode_ids), merged)


def split_mode(store: "Store", mode_id: str, parts: int = 2) -> ModeReport:
    """Split a mode into parts by Ward's clustering of its members' features.

    The largest part keeps the id; the others get new ones.

    Raises:
        UnknownSampleError: no such mode.
        SettingError: parts is below 2 or above the size of the mode.
    """
    from sklearn.cluster import AgglomerativeClustering

    with store.writer():
        report = read_modes(store)
        mode = report.mode(mode_id)
        if not 2 <= parts <= mode.size:
            raise SettingError(
                f"mode {mode_id} cannot be split into {parts} parts: give 2 to {mode.size}"
            )
        evidence = gather(store, report.settings)
        position = positions(evidence.table)
        features = evidence.features[[position[sample] for sample in mode.samples]]
        part = AgglomerativeClustering(parts).fit_predict(features)
        members = [list(np.array(mode.samples, object)[part == p]) for p in range(parts)]
        members.sort(key=len, reverse=True)
        ids = [mode_id, *_new_ids(report, parts - 1)]
        split = _describe(store, report, evidence, members, ids, {mode_id})
        return _replace(store, report, {mode_id}, split)


def form_mode(store: "Store", samples: Sequence[str], name: str | None = None) -> ModeReport:
    """Make a mode of chosen failures, taking them out of the modes that they are in.

    The modes they leave keep id and name; one that is left empty goes.

    Args:
        store: an index with modes.
        samples: ids of misclassified samples.
        name: of the new mode; by default from its confusions.

    Raises:
        UnknownSampleError: a sample is not a failure of this index.
        SettingError: no samples, or the name is another mode's.
    """
    chosen = set(samples)
    if not chosen:
        raise SettingError("a mode needs at least one failure")
    with store.writer():
        report = read_modes(store)
        evidence = gather(store, report.settings)
        if unknown := chosen - set(evidence.ids):
            raise UnknownSampleError(f"no failure {min(unknown)!r} in this index")
        shrunk = [mode for mode in report.modes if chosen.intersection(mode.samples)]
        left = [(m, rest) for m in shrunk if (rest := [s for s in m.samples if s not in chosen])]
        gone = {mode.id for mode in shrunk}
        ids = [*(mode.id for mode, _ in left), *_new_ids(report, 1)]
        groups = [*(rest for _, rest in left), sorted(chosen)]
        made = _describe(store, report, evidence, groups, ids, gone)
        kept = [replace(m, name=old.name) for m, (old, _) in zip(made, left, strict=False)]
        fresh = made[-1]
        taken = {mode.name for mode in report.modes}
        fresh = replace(
            fresh,
            name=distinguish(fresh.name, fresh.filters, taken)
            if name is None
            else _free_name(report, name, set()),
        )
        report = replace(
            report, ungrouped=tuple(sample for sample in report.ungrouped if sample not in chosen)
        )
        return _replace(store, report, gone, [*kept, fresh])


def _describe(
    store: "Store",
    report: ModeReport,
    evidence: Evidence,
    members: Sequence[Sequence[str]],
    ids: Sequence[str],
    gone: set[str],
) -> list[Mode]:
    """Describe new groups under names that no remaining mode has."""
    position = positions(evidence.table)
    groups = [np.sort([position[sample] for sample in group]) for group in members]
    taken = {mode.name for mode in report.modes if mode.id not in gone}
    named = []
    for mode in describe(store, evidence, groups, ids, report.settings):
        name = distinguish(mode.name, mode.filters, taken)
        taken.add(name)
        named.append(replace(mode, name=name))
    return named


def _replace(store: "Store", report: ModeReport, gone: set[str], new: Sequence[Mode]) -> ModeReport:
    kept = [mode for mode in report.modes if mode.id not in gone]
    modes = sorted([*kept, *new], key=lambda mode: -mode.size)
    edited = replace(report, modes=tuple(modes), edited=True)
    write_modes(store, edited)
    return edited


def _free_name(report: ModeReport, name: str, own: set[str]) -> str:
    name = name.strip()
    if not name:
        raise SettingError("a mode needs a name that is not empty")
    for mode in report.modes:
        if mode.name == name and mode.id not in own:
            raise SettingError(f"mode {mode.id} is called {name!r} already: choose another name")
    return name


def _new_ids(report: ModeReport, count: int) -> list[str]:
    last = max((int(mode.id[1:]) for mode in report.modes), default=0)
    return [f"m{number}" for number in range(last + 1, last + 1 + count)]
