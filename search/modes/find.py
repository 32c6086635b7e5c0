"""Find the failure modes of an index and keep them in its `modes` table."""

from typing import TYPE_CHECKING

import numpy as np

from indexer.errors import SettingError
from indexer.progress import Progress, silent

from .communities import UNGROUPED, communities
from .describe import describe
from .evidence import FAILURES, gather
from .report import ModeReport
from .settings import ModeSettings
from .stored import known_modes, write_modes

if TYPE_CHECKING:
    from indexer.store import Store


def find_modes(
    store: "Store",
    settings: ModeSettings | None = None,
    *,
    replace_edited: bool = False,
    progress: Progress = silent,
) -> ModeReport:
    """Group the misclassified samples of an index by profile, and store the result.

    Earlier modes of the index are replaced, unless no mode was found: then they stay.

    Args:
        store: an index.
        settings: see `ModeSettings`.
        replace_edited: replace modes that a person renamed, merged, split or formed, too.
        progress: shows how many samples were read and compared.

    Returns:
        the modes, largest first, named and with ids m1, m2, …

    Raises:
        SettingError: the stored modes were edited, and `replace_edited` is not set; or `min_size`
            was raised above the number of failures.
        LockedError: another process is writing to the index.
    """
    with store.writer():  # so that no samples are added under the passes
        earlier = known_modes(store)
        if earlier is not None and earlier.edited and not replace_edited:
            raise SettingError(
                f"the modes of {store.path} were named or regrouped by hand: `failsearch modes "
                "--stored` shows them, `failsearch modes --replace` finds new ones"
            )
        settings = settings or ModeSettings()
        _require_failures(store, settings)
        report = _found(store, settings, progress)
        if report.modes or earlier is None or not earlier.modes:
            write_modes(store, report)
        return report


def _require_failures(store: "Store", settings: ModeSettings) -> None:
    failures = store.count(FAILURES)
    # An index with less than the default is no mistake of whoever left it at that.
    if settings.min_size > max(failures, ModeSettings.min_size):
        raise SettingError(
            f"min_size of modes is {settings.min_size}: the index has {failures} failures"
        )


def _found(store: "Store", settings: ModeSettings, progress: Progress) -> ModeReport:
    evidence = gather(store, settings, progress)
    assigned = communities(evidence.features, settings, progress)
    groups = [np.flatnonzero(assigned == group) for group in range(assigned.max(initial=-1) + 1)]
    ids = [f"m{number}" for number in range(1, len(groups) + 1)]
    modes = describe(store, evidence, groups, ids, settings, progress)
    return ModeReport(modes, tuple(evidence.ids[assigned == UNGROUPED]), settings)
