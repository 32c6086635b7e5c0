"""Repair of natural failure modes: the largest modes of an index, judged on held-out samples.

Each mode gets `failsearch repair search --budget 5`, beside its controls; the repairs are recorded
in the index like any other.

    python -m benchmarks.repair_natural INDEX --modes 5 --out benchmarks/results/repair_natural.json
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import failsearch
from indexer.progress import track

BUDGET = 5
"""Candidates of a search: one for each retention weight, the strong ones included."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Repair the largest modes and write the JSON; print the table."""
    parser = argparse.ArgumentParser(description="Repair the largest modes of an index.")
    parser.add_argument("index", type=Path)
    parser.add_argument("--modes", type=int, default=5)
    parser.add_argument("--max-drop", type=float, default=0.1, help="points; 100 waives the guard")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    index = failsearch.open(options.index)
    found: list[dict[str, Any]] = (
        json.loads(options.out.read_text()) if options.out.exists() else []
    )
    for mode in index.modes.modes[len(found) : options.modes]:
        started = time.perf_counter()
        settings = {"budget": BUDGET, "max_drop": options.max_drop / 100}
        report = index.repair_mode(mode.id, progress=track, **settings).to_json()
        kept = ("target", "neighbours", "winner", "candidates", "split", "held_out", "controls")
        seconds = round(time.perf_counter() - started, 1)
        found.append({"name": mode.name, "seconds": seconds, **{key: report[key] for key in kept}})
        options.out.write_text(json.dumps(found, indent=1))
    print(table(found))


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table: for each mode the repair and its controls."""
    lines = [
        "| mode | filters | of the mode, fixed | all fixed / broken | accuracy, points "
        "| reverse confusions |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        name = f"{one['target']}, {one['name']} ({one['neighbours']})"
        if one["winner"] is None:
            lines.append(f"| {name} | no repair within the limit | | | | |")
            continue
        arms = {one["winner"]["selection"]: one["held_out"]}
        arms |= {control: entry["held_out"] for control, entry in one["controls"].items()}
        lines += [_row(name, selection, held_out) for selection, held_out in arms.items()]
    return "\n".join(lines)


def _row(name: str, selection: str, one: dict[str, Any]) -> str:
    change = [100 * one["accuracy_change"][key] for key in ("value", "low", "high")]
    return (
        f"| {name} | {selection} | {one['mode_fixed']} of {one['mode_failures']} "
        f"| {one['fixed']} / {one['broken']} "
        f"| {change[0]:+.2f} ({change[1]:+.2f} to {change[2]:+.2f}) "
        f"| {one['reverse_before']} → {one['reverse_after']} |"
    )


if __name__ == "__main__":
    main()
