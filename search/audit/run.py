"""Audit an index: every kind of finding, stored and returned."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from indexer.errors import SettingError
from indexer.progress import Progress, silent
from indexer.schema import FINDINGS, ID, METADATA_PREFIX, SAMPLES
from indexer.store import Store

from ..export import ReadImage
from ..modes import ModeReport, find_modes, known_modes, read_modes
from .causes import causes, traits_of
from .datalab import load_datalab, with_cleanlab
from .duplicates import duplicates, leaks
from .image_checks import with_image_checks
from .imagelab import load_imagelab
from .labels import ForgetSamples, LookAgain, Relabel, label_errors
from .pictures import Pictures, read_pictures
from .report import AuditReport, Finding, read_findings, write_findings
from .settings import (
    CAUSES,
    CLEANLAB,
    DUPLICATES,
    FILTERS,
    IMAGES,
    LABELS,
    LEAKS,
    AuditSettings,
)
from .weak_filters import weak_filters


def audit(
    store: Store,
    settings: AuditSettings | None = None,
    *,
    against: Store | None = None,
    relabel: Relabel | None = None,
    look_again: LookAgain | None = None,
    forget: ForgetSamples | None = None,
    read_image: ReadImage | None = None,
    progress: Progress = silent,
) -> AuditReport:
    """Look for wrong labels, duplicates, shared causes and weak filters, and store what is found.

    Findings of the kinds looked for replace those stored earlier. Modes are found first where the
    index has none and a kind needs them; findings about modes that change meanwhile are left out.

    Args:
        store: the index.
        settings: see `AuditSettings`.
        against: another index, for example of the training images, to look for leaks beside
            duplicates; they come first, as a kind of their own.
        relabel: profiles under other labels, for the evidence of label errors; see `labels`.
        look_again: shows the model altered copies of label suspects; see `copies`.
        forget: asks a copy of the model that forgot their labels; see `forgotten`. It takes
            `look_again` as well, which says whom to ask about.
        read_image: gives the original image of a sample; kind "images" needs it.
        progress: shows which kind is being looked for.

    Returns:
        the findings, kind by kind.

    Raises:
        SettingError: kind "cleanlab" without cleanlab, or "images" without cleanvision or images.
        DataError: kind "images", and an image can no longer be read.
        LockedError: another process is writing to the index.
    """
    settings = settings or AuditSettings()
    _check_extras(settings, read_image)  # rather fail now than after the other kinds
    sources = _Sources(store)
    look: dict[str, Callable[[], tuple[list[Finding], int | None]]] = {
        LABELS: lambda: label_errors(store, settings, relabel, look_again, forget),
        DUPLICATES: lambda: _whole(_duplicates(sources, settings)),
        CAUSES: lambda: _whole(_causes(sources, settings)),
        FILTERS: lambda: weak_filters(store, sources.modes, settings.top),
    }
    kinds = settings.kinds
    if against is not None and DUPLICATES in kinds:
        look[LEAKS] = lambda: _whole(_leaks(sources, against, settings))
        kinds = (LEAKS, *kinds)
    if look_again is not None and LABELS in settings.kinds:
        looked = look[LABELS]()  # shows progress of its own, and bars are not nested
        look[LABELS] = lambda: looked
    findings: list[Finding] = []
    totals: dict[str, int] = {}
    with progress("Auditing", sum(kind != IMAGES for kind in kinds), 0) as tracker:
        for kind in filter(look.__contains__, kinds):
            found, total = look[kind]()
            findings += sorted(found, key=lambda finding: -finding.score)[: settings.top]
            if total is not None:
                totals[kind] = total
            tracker.advance(1)
        if CLEANLAB in settings.kinds:
            findings, totals[CLEANLAB] = with_cleanlab(store, findings, settings.top)
            tracker.advance(1)
    if IMAGES in settings.kinds and read_image is not None:
        earlier = _stored(store, settings)
        findings, totals[IMAGES] = with_image_checks(
            store, findings, read_image, settings.top, earlier=earlier, progress=progress
        )
    report = AuditReport(tuple(findings), kinds, totals)
    with store.writer():
        if {CAUSES, FILTERS} & {*settings.kinds}:
            report = report.without_outdated(read_modes(store).changed_since(sources.modes))
        write_findings(store, report)
    return report


def _whole(found: list[Finding]) -> tuple[list[Finding], int]:
    return found, len(found)


def _check_extras(settings: AuditSettings, read_image: ReadImage | None) -> None:
    if CLEANLAB in settings.kinds:
        load_datalab()
    if IMAGES in settings.kinds:
        load_imagelab()
        if read_image is None:
            raise SettingError(f"kind {IMAGES} looks at the original images: give read_image")


def _stored(store: Store, settings: AuditSettings) -> list[Finding]:
    """Return the stored findings that this audit leaves as they are."""
    if store.read_table(FINDINGS) is None:
        return []
    return [f for f in read_findings(store).findings if f.kind not in settings.kinds]


class _Sources:
    """What several kinds read, read once."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @cached_property
    def modes(self) -> ModeReport:
        known = known_modes(self.store)
        return find_modes(self.store) if known is None else known

    @cached_property
    def pictures(self) -> Pictures:
        return read_pictures(self.store)


def _duplicates(sources: _Sources, settings: AuditSettings) -> list[Finding]:
    names = _by_id(sources.store, "label_name")
    believed = _by_id(sources.store, "label_probability")
    return duplicates(sources.pictures, names, believed, settings.similarity)


def _leaks(sources: _Sources, against: Store, settings: AuditSettings) -> list[Finding]:
    names, others = (_by_id(store, "label_name") for store in (sources.store, against))
    other, shown = read_pictures(against), against.path.name
    return leaks(sources.pictures, other, names, others, settings.similarity, shown)


def _causes(sources: _Sources, settings: AuditSettings) -> list[Finding]:
    store = sources.store
    extra = [f.name for f in store.table(SAMPLES).schema if f.name.startswith(METADATA_PREFIX)]
    table = store.read([ID, "label", "correct", *extra])
    ids = table[ID].to_pylist()
    metadata = {name.removeprefix(METADATA_PREFIX): table[name].to_pylist() for name in extra}
    return causes(
        sources.modes,
        list(traits_of(sources.pictures, ids, metadata)),
        ids,
        table["label"].to_numpy(),
        np.asarray(table["correct"].to_numpy(), bool),
        settings,
    )


def _by_id(store: Store, column: str) -> dict[str, Any]:
    table = store.read([ID, column])
    return dict(zip(table[ID].to_pylist(), table[column].to_pylist(), strict=True))
