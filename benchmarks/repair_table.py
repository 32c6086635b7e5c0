"""The table and the figure of the repair benchmark, pooled over models.

    python -m benchmarks.repair_table benchmarks/results/repair.json --plot docs/img/repair.png

Intervals are 95 % bootstrap intervals in two stages: models are drawn with replacement, and within
each the samples; the models of a benchmark are few and differ more than their samples would.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

BOOTSTRAP = 4000
FIGURES = ("caused_failures", "caused_fixed", "clean", "clean_fixed", "clean_broken")
COUNTS = (
    *FIGURES,
    *("mode_failures", "mode_fixed", "mended_failures", "mended_fixed", "other_failures"),
    *("other_mended", "clean_mode_failures", "clean_mode_fixed"),
    *("reverse_before", "reverse_after", "reverse_twin"),
)

OURS = "gradient"
"""The selection of `failsearch repair search`, with which the others are compared."""

ORDER = (
    *(OURS, "salient", "contrastive", "random", "least", "last"),
    *("all", "all, unguarded", "everything"),
)
"""Rows of the table."""

EVERY = "every cause"
"""Stands for the causes together: their counts added up, model by model."""

Trial = dict[str, Any]
Pooled = tuple[np.ndarray, np.ndarray]
"""Share of the caused failures that is fixed and change of clean accuracy: the value itself
first, then its bootstrap draws; float64 [1 + BOOTSTRAP] each."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of a results file and draw its figure."""
    parser = argparse.ArgumentParser(description="Pool the repair benchmark.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    parser.add_argument("--runs", nargs="*", help="pool these models alone")
    options = parser.parse_args(arguments)
    trials = json.loads(options.results.read_text())
    trials = [one for one in trials if options.runs is None or one["run"] in options.runs]
    print(f"{table(trials)}\n\n{ceilings(trials)}")
    soft, counted = guard_errors(trials)
    print(
        f"\nguard misses the change by {soft:.2f} points (root mean square), a count {counted:.2f}"
    )
    if options.plot is not None:
        plot(trials, options.plot)


def table(trials: Sequence[Trial]) -> str:
    """Return a Markdown table: one row for each cause and selection, then the causes together."""
    lines = [
        f"| cause | selection | unseen failures it caused, fixed | {OURS} fixes more by "
        "| clean fixed / broken | clean accuracy, points | outside the mode | reverse confusions "
        "| repair found | weights |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    trials = [*trials, *together(trials)]
    for kind in (*_kinds(trials), EVERY):
        for name in _selections(trials):
            mine = _of(trials, kind, name)
            runs = {trial["run"] for trial in mine}
            # A selection that was tried on fewer models is compared on these.
            ours = [one for one in _of(trials, kind, OURS) if one["run"] in runs]
            if mine and ours:
                lines.append(_row(kind, name, mine, pooled(mine), pooled(ours)))
    return "\n".join(lines)


def together(trials: Sequence[Trial]) -> list[Trial]:
    """Return a trial for each model and selection that adds up those of all causes.

    Models where a selection was not tried on every cause are left out. A clean image counts once
    for each cause, that is under each repair.
    """
    kinds, added = _kinds(trials), []
    for name in _selections(trials):
        for run in sorted({trial["run"] for trial in trials}):
            parts = [[o for o in _of(trials, kind, name) if o["run"] == run] for kind in kinds]
            if not all(parts):
                continue
            every = [one for part in parts for one in part]
            added.append(
                {
                    "run": run,
                    "kind": EVERY,
                    "selection": name,
                    "found": all(one["found"] for one in every),
                    "weights_share": float(np.mean([one["weights_share"] for one in every])),
                    **{key: sum(_per_draw(part, run, key) for part in parts) for key in COUNTS},
                }
            )
    return added


def ceilings(trials: Sequence[Trial]) -> str:
    """Return a Markdown table of what mending a cause could fix at best, one row a cause.

    The last column reads our repair's figure by the twin, whatever the first table reads it by.
    """
    lines = [
        "| cause | unseen failures | caused | the twin is right on | of other failures "
        f"| reverse confusions, the twin | {OURS} fixes of all | of what the twin mends |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in _kinds(trials):
        mine = _of(trials, kind, OURS)
        total = {key: _total(mine, key) for key in COUNTS}
        shares = (
            ("mended_failures", "mode_failures"),
            ("other_mended", "other_failures"),
            ("mode_fixed", "mode_failures"),
            ("mended_fixed", "mended_failures"),
        )
        mended, other, fixed, fixed_mended = (
            f"{100 * total[part] / max(total[whole], 1):.0f} %" for part, whole in shares
        )
        lines.append(
            f"| {kind} | {total['mode_failures']:.0f} | {total['caused_failures']:.0f} | {mended} "
            f"| {other} | {total['reverse_before']:.0f} → {total['reverse_twin']:.0f} | {fixed} "
            f"| {fixed_mended} |"
        )
    return "\n".join(lines)


def guard_errors(trials: Sequence[Trial]) -> tuple[float, float]:
    """Return by how much the change of accuracy on guard differs from that on held-out.

    Causes with marked images are left out: guard has the marked ones in it, clean accuracy not.

    Returns:
        Root mean squares in points over all edits: counted softly, as the search does, and counted.
    """
    judged = [one for one in trials if one["winner"] is not None and one["kind"] != "patch"]
    change = np.array([(one["clean_fixed"] - one["clean_broken"]) / one["clean"] for one in judged])
    soft, counted = (
        100
        * float(np.sqrt(np.mean((change + [one["winner"]["guard"][key] for one in judged]) ** 2)))
        for key in ("drop", "counted_drop")
    )
    return soft, counted


def pooled(trials: Sequence[Trial]) -> Pooled:
    """Return the pooled figures of one selection with their bootstrap draws.

    The random numbers depend on the models alone, so that two selections are compared on the
    same draws of models.
    """
    runs = sorted({trial["run"] for trial in trials})
    counts = np.array([[_per_draw(trials, run, name) for name in FIGURES] for run in runs])
    random = np.random.default_rng(len(runs))
    drawn = counts[random.integers(0, len(runs), (BOOTSTRAP, len(runs)))]
    failures, fixed, clean, gained, lost = (drawn[..., column] for column in range(5))
    sizes = clean.astype(int)
    fixed = random.binomial(failures.astype(int), fixed / np.maximum(failures, 1))
    changed = random.multinomial(
        sizes, np.stack([gained / clean, lost / clean, 1 - (gained + lost) / clean], -1)
    )
    share = fixed.sum(1) / failures.sum(1)
    change = (changed[..., 0] - changed[..., 1]).sum(1) / sizes.sum(1)
    total = dict(zip(FIGURES, counts.sum(0), strict=True))
    return (
        np.concatenate([[total["caused_fixed"] / total["caused_failures"]], share]),
        np.concatenate([[(total["clean_fixed"] - total["clean_broken"]) / total["clean"]], change]),
    )


def plot(trials: Sequence[Trial], path: Path) -> None:
    """Draw share fixed over change of clean accuracy, one panel a cause, one point a selection."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds = _kinds(trials)
    figure, panels = plt.subplots(1, len(kinds), figsize=(3.6 * len(kinds), 3.4), sharey=True)
    for panel, kind in zip(np.atleast_1d(panels), kinds, strict=True):
        for name in _selections(trials):
            if not (mine := _of(trials, kind, name)) or "unguarded" in name:
                continue
            share, change = (100 * values for values in pooled(mine))
            panel.errorbar(
                change[0],
                share[0],
                xerr=_arms(change),
                yerr=_arms(share),
                fmt="o",
                markersize=4,
                linewidth=0.8,
                label=name,
            )
        panel.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        panel.set(title=kind, xlabel="clean accuracy, points")
    np.atleast_1d(panels)[0].set_ylabel("unseen failures fixed, %")
    np.atleast_1d(panels)[-1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _row(kind: str, name: str, trials: Sequence[Trial], own: Pooled, reference: Pooled) -> str:
    share, change = own
    total = {key: _total(trials, key) for key in COUNTS}
    elsewhere = total["clean_fixed"] - total["clean_mode_fixed"] - total["clean_broken"]
    elsewhere /= total["clean"] - total["clean_mode_failures"]
    found = [trial["found"] for trial in trials]
    weights = np.mean([trial["weights_share"] for trial in trials])
    return (
        f"| {kind} | {name} | {_interval(100 * share, '.0f')} % of {total['caused_failures']:.0f} "
        f"| {'' if name == OURS else _interval(100 * (reference[0] - share), '+.0f')} "
        f"| {total['clean_fixed']:.0f} / {total['clean_broken']:.0f} "
        f"| {_interval(100 * change, '+.2f')} | {100 * elsewhere:+.2f} "
        f"| {total['reverse_before']:.0f} → {total['reverse_after']:.0f} "
        f"| {sum(found)} of {len(found)} | {100 * weights:.1f} % |"
    )


def _interval(values: np.ndarray, form: str) -> str:
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return f"{values[0]:{form}} ({low:{form}} to {high:{form}})"


def _arms(values: np.ndarray) -> np.ndarray:
    """Return how far the interval reaches below and above the value, [2, 1]."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return np.maximum([[values[0] - low], [high - values[0]]], 0)


def _kinds(trials: Sequence[Trial]) -> list[str]:
    found = {trial["kind"] for trial in trials}
    return [kind for kind in ("patch", "noisy", "tone") if kind in found]


def _selections(trials: Sequence[Trial]) -> list[str]:
    found = dict.fromkeys(trial["selection"] for trial in trials)
    return sorted(found, key=ORDER.index)


def _of(trials: Sequence[Trial], kind: str, name: str) -> list[Trial]:
    return [one for one in trials if (one["kind"], one["selection"]) == (kind, name)]


def _per_draw(trials: Sequence[Trial], run: str, key: str) -> float:
    """Return a count of one model, averaged over its draws of a selection."""
    return float(np.mean([one[key] for one in trials if one["run"] == run]))


def _total(trials: Sequence[Trial], key: str) -> float:
    return sum(_per_draw(trials, run, key) for run in {one["run"] for one in trials})


if __name__ == "__main__":
    main()
