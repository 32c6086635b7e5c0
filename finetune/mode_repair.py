"""From a failure mode of an index to a repair that is recorded, written and judged.

Search on discover and guard, judge on held-out, beside controls trained by the winner's recipe.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexer.durability import replace_file, store_errors
from indexer.errors import IncompatibleIndexError
from indexer.patched import PATCH_FILE
from indexer.progress import Progress, silent
from indexer.schema import ID, REPAIRS, THUMBNAIL
from indexer.store import Store
from search.modes import read_modes

from .account import Account, account
from .edits import Edit
from .patch import make_patch, sources_of, write_patch
from .population import Population, open_population
from .records import next_repair, record_repair
from .repair import repaired_filters, require_free, write_model
from .report import (
    AffectedSample,
    Outcome,
    RepairedFilter,
    affected_samples,
    outcome,
    samples_table,
)
from .rescore import rescore
from .splits import HELD_OUT, SHARES, describe_image, near_duplicates, split
from .workbench import (
    Candidate,
    ModeRepairSettings,
    Task,
    gather_evidence,
    search,
    train_selection,
)

if TYPE_CHECKING:
    import pandas as pd

CONTROLS = ("random", "least", "last", "all")
SPLIT_FILE = "split.parquet"
REPAIR = "repair"


@dataclass(frozen=True)
class ModeRepairReport:
    """A searched repair of a mode, or the finding that there is none.

    Attributes:
        id: of the record.
        target: id of the mode.
        target_name: its name when it was repaired.
        settings: the space that was searched and its limits.
        parts: number of samples in discover, guard and held-out.
        candidates: how many edits were tried.
        winner: selection, recipe and figures on guard; None where no candidate fixed
            anything within the limit.
        filters: what was changed, most salient first.
        neighbours: size of the mode.
        outcome: of the repair over the whole index, those it learned from included.
        held_out: the account on samples that were never used.
        controls: accounts of other filters, trained by the winner's recipe.
        control_weights: scalar weights that each control was free to change.
        samples: the mode and every sample whose prediction changed.
        patch: path of the safetensors patch, None without a winner.
        model: the repaired model, None without a winner.
    """

    id: str
    target: str
    target_name: str
    settings: ModeRepairSettings
    parts: Mapping[str, int]
    candidates: int
    winner: Mapping[str, Any] | None
    filters: tuple[RepairedFilter, ...]
    neighbours: int
    outcome: Outcome
    held_out: Account
    controls: Mapping[str, Account]
    control_weights: Mapping[str, int]
    samples: tuple[AffectedSample, ...]
    patch: str | None
    model: str | None

    def __post_init__(self) -> None:
        if (self.winner is None) != (self.patch is None):
            raise ValueError("a repair has a winner and a patch, or neither")
        if sum(self.parts.values()) < self.held_out.samples:
            raise ValueError("more held-out samples than there are samples")

    @property
    def found(self) -> bool:
        """Whether a repair within the limits exists in the space that was searched."""
        return self.winner is not None

    def to_json(self) -> dict[str, Any]:
        """Return everything but the samples, JSON-ready; the keys of a paper's repair first."""
        return {
            "id": self.id,
            "kind": "mode",
            "target": self.target,
            "target_name": self.target_name,
            "filters": [asdict(entry) for entry in self.filters],
            "neighbours": self.neighbours,
            **self.outcome.to_json(),
            "controls": {
                name: {
                    "weights": self.control_weights[name],
                    "neighbours_corrected": one.mode_fixed,
                    "accuracy_change": one.accuracy_change.value,
                    "held_out": one.to_json(),
                }
                for name, one in self.controls.items()
            },
            "patch": self.patch,
            "model": self.model,
            "found": self.found,
            "winner": None if self.winner is None else dict(self.winner),
            "held_out": self.held_out.to_json(),
            "split": {"seed": self.settings.seed, **self.parts},
            "candidates": self.candidates,
            "settings": asdict(self.settings),
        }

    def to_arrow(self) -> pa.Table:
        """Return one row for each affected sample, with its change and its split."""
        return samples_table(self.samples)

    def to_pandas(self) -> "pd.DataFrame":
        """Return `to_arrow` as a data frame; needs pandas."""
        return self.to_arrow().to_pandas()

    def _repr_html_(self) -> str:
        one = self.held_out
        return (
            f"<p>repair {self.id} of mode {self.target}: {one.verdict}. Of {one.mode_failures} "
            f"held-out failures {one.mode_fixed} fixed; of {one.samples} held-out samples "
            f"{one.fixed} fixed, {one.broken} broken.</p>"
        )


def repair_mode(
    store: Store,
    mode: str,
    *,
    settings: ModeRepairSettings | None = None,
    controls: Sequence[str] = CONTROLS,
    output: str | Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> ModeRepairReport:
    """Search for a repair of a failure mode, judge it on held-out samples and record it.

    Args:
        store: the index; its model and samples stay as they are.
        mode: id of a failure mode.
        settings: the space to search and the limits of a repair.
        controls: selections to train by the winner's recipe and judge beside it.
        output: folder for the repaired model; `<db>/repairs/<id>/model` where None.
        device: where the model runs.
        progress: how the work is shown.

    Raises:
        UnknownSampleError: no such mode.
        SettingError: the mode is too small to be split, or `output` is not empty.
    """
    require_free(output)
    settings = settings or ModeRepairSettings()
    population, loaded = open_population(store, device)
    found = read_modes(store).mode(mode)
    rows = population.rows(found.samples)
    task = Task(population, rows, index_split(store, population, settings.seed))
    winner, tried = search(task, settings, progress)
    edits = {} if winner is None else _train_arms(task, winner, controls, settings, progress)
    held_out = rescore(population, edits, task.held_out, progress)
    logits = population.logits
    if winner is not None:
        logits = _everywhere(task, winner, held_out[REPAIR], progress)
    with store.writer():
        repair_id, folder = next_repair(store)
        patch, model = None, None
        if winner is not None:
            model = write_model(loaded, winner.edit, output or folder / "model")
            patch = str(folder / PATCH_FILE)
        report = ModeRepairReport(
            id=repair_id,
            target=mode,
            target_name=found.name,
            settings=settings,
            parts={part: int((task.parts == part).sum()) for part in SHARES},
            candidates=len(tried),
            winner=None if winner is None else winner.describe(),
            filters=_filters(task, winner),
            neighbours=len(rows),
            outcome=_outcome(task, logits, winner),
            held_out=judge(task, None if winner is None else held_out[REPAIR]),
            controls={name: judge(task, held_out[name]) for name in edits if name != REPAIR},
            control_weights={name: edit.weights for name, edit in edits.items()},
            samples=affected_samples(
                population.ids, population.labels, population.logits, logits, rows, task.parts
            ),
            patch=patch,
            model=model,
        )
        write_split(task, folder / SPLIT_FILE)
        document = report.to_json()
        if winner is not None:
            samples = [population.ids[row] for row in rows]
            details = document | {"samples": samples, "sources": sources_of(store)}
            weights = loaded.model.state_dict()
            write_patch(make_patch(winner.edit, weights, details), folder / PATCH_FILE)
        record_repair(store, document, report.to_arrow())
    return report


def _outcome(task: Task, logits: np.ndarray, winner: Candidate | None) -> Outcome:
    """Return what logits [N, C] of the repaired model change over the whole index."""
    return outcome(
        task.population.labels,
        task.population.predictions,
        logits.argmax(1),
        task.mode,
        0 if winner is None else winner.edit.weights,
    )


def index_split(store: Store, population: Population, seed: int) -> np.ndarray:
    """Return the part of each sample of an index, near-duplicates together, str [N]."""
    thumbnails = (
        thumbnail
        for batch in store.scan([ID, THUMBNAIL])
        for thumbnail in batch.column(THUMBNAIL).to_pylist()
    )
    pictures = np.stack([describe_image(thumbnail) for thumbnail in thumbnails])
    strata = population.labels * len(population.classes) + population.predictions
    return split(population.ids, strata, near_duplicates(pictures), seed)


def judge(task: Task, logits: np.ndarray | None) -> Account:
    """Return the account of held-out logits [n, C]; of the model as indexed where None."""
    population, rows = task.population, task.held_out
    before = population.predictions[rows]
    return account(
        population.labels[rows],
        before,
        before if logits is None else logits.argmax(1),
        np.isin(rows, task.failures(HELD_OUT)),
        task.pairs,
    )


def write_split(task: Task, path: Path) -> None:
    """Write which sample was in which part, so that a repair can be judged again."""
    table = pa.table({"id": list(task.population.ids), "split": task.parts.tolist()})
    with replace_file(path) as file:
        pq.write_table(table, file)


def read_split(store: Store, population: Population, repair_id: str) -> np.ndarray:
    """Return the part of each sample in a recorded repair, str [N].

    Samples that were added since are in none of the parts ("").

    Raises:
        IncompatibleIndexError: the index has no such repair.
        StoreError: its file cannot be read.
    """
    path = store.path / REPAIRS / repair_id / SPLIT_FILE
    if not path.exists():
        raise IncompatibleIndexError(
            f"{store.path} has no split of repair {repair_id!r}: verify the patch on the index "
            "that it was made from"
        )
    with store_errors(f"read {path}"):
        table = pq.read_table(path)
    part_of = dict(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True))
    return np.array([part_of.get(sample, "") for sample in population.ids])


def _train_arms(
    task: Task,
    winner: Candidate,
    controls: Sequence[str],
    settings: ModeRepairSettings,
    progress: Progress,
) -> dict[str, Edit]:
    """Return the winner's edit and those of the controls by its recipe."""
    evidence = gather_evidence(task, controls)
    edits = {REPAIR: winner.edit}
    with progress("Training controls", len(controls), 0) as tracker:
        for name in controls:
            _, edits[name] = train_selection(task, evidence, name, winner.recipe, settings)
            tracker.advance(1)
    return edits


def _everywhere(
    task: Task, winner: Candidate, held_out: np.ndarray, progress: Progress
) -> np.ndarray:
    """Return the logits of all samples under the winner; those of guard and held-out are known."""
    logits = np.empty_like(task.population.logits)
    logits[task.held_out], logits[task.guard] = held_out, winner.logits
    rest = np.setdiff1d(np.arange(len(logits)), np.concatenate([task.held_out, task.guard]))
    logits[rest] = rescore(task.population, {REPAIR: winner.edit}, rest, progress)[REPAIR]
    return logits


def _filters(task: Task, winner: Candidate | None) -> tuple[RepairedFilter, ...]:
    if winner is None or winner.columns is None:
        return ()
    scores = gather_evidence(task, ()).failures
    return repaired_filters(task.population.layout, scores, np.array(winner.columns))
