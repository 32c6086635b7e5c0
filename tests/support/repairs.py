"""Records of repairs of modes, without a model that was repaired."""

from pathlib import Path

import numpy as np

from finetune.account import account
from finetune.records import next_repair, record_repair
from finetune.report import AffectedSample, Outcome, RepairReport
from finetune.settings import RepairSettings
from indexer.patched import PATCH_FILE
from indexer.store import Store
from search.modes import Mode, ModeSettings, find_modes
from tests.search.modes.conftest import NAMES, planted_arrays
from tests.support.arrays import index_of_arrays

FINE = ModeSettings(resolution=20.0)
"""Finds other modes than those of `modes_of_arrays`, under the same ids."""


def modes_of_arrays(path: Path) -> Store:
    """Make an index whose failures have three causes, with modes."""
    store = index_of_arrays(path, names=NAMES, **planted_arrays())
    find_modes(store)
    return store


def record_mode_repair(
    store: Store, mode: Mode, *, named: bool = True, in_vain: bool = False
) -> None:
    """Record a repair of a mode that fixed one member and broke another sample.

    Args:
        store: the index.
        mode: one of its modes.
        named: whether the record has the name of the mode; those of earlier versions have not.
        in_vain: whether it is a search that found no repair.
    """
    repair_id, folder = next_repair(store)
    patch = folder / PATCH_FILE
    patch.touch()
    right = store.read(["id"], "correct", limit=1)["id"][0].as_py()
    report = RepairReport(
        id=repair_id,
        kind="mode",
        target=mode.id,
        target_name=mode.name,
        filters=(),
        neighbours=mode.size,
        outcome=Outcome(9, 1, 1, 1, 0.5, 0.5),
        controls={},
        settings=RepairSettings(),
        samples=(
            AffectedSample(right, 0, 0, 1, 0.9, 0.6, in_group=False),
            *(
                AffectedSample(member, 0, 1, int(row > 0), 0.9, 0.6, in_group=True)
                for row, member in enumerate(mode.samples)
            ),
        ),
        patch=str(patch),
        model="model",
    )
    document = report.to_json()
    if not named:
        del document["target_name"]
    if in_vain:
        wrong = np.arange(9) % 2
        judged = account(np.zeros(9, int), wrong, wrong, wrong > 0, [(0, 1)]).to_json()
        document |= {"found": False, "winner": None, "candidates": 3, "held_out": judged}
        document["settings"] = {"max_drop": 0.001}
    record_repair(store, document, report.to_arrow())
