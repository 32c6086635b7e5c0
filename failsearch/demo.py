"""The demo behind `make demo`: data, model, index, search, modes and repair, all made locally.

Every step is a command that a user could type; it is printed before it runs.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUTPUT = Path("demo-output")
DIGITS = Path("data/digits/images")
MODEL = OUTPUT / "model"
DATABASE = OUTPUT / "failures.lancedb"
REPAIRED = OUTPUT / "repair"


def main() -> None:
    """Run the whole line on the digits that ship inside scikit-learn."""
    os.chdir(ROOT)
    OUTPUT.mkdir(exist_ok=True)
    # The demo starts afresh each time, so that what it prints is what a first run prints.
    for made in (DATABASE, REPAIRED):
        shutil.rmtree(made, ignore_errors=True)
    _run("python", "data/digits/make.py", str(DIGITS))
    _run(
        "python", "data/training.py", f"{DIGITS}/train",
        "--model", "resnet10t", "--out", str(MODEL), "--epochs", "1", "--size", "32",
    )  # fmt: skip
    _run("failsearch", "index", f"{DIGITS}/validation", "--model", f"local-dir:{MODEL}")
    _run("failsearch", "info")
    _run("failsearch", "failures", "--limit", "8")
    query = _ask("failures", "--limit", "1")["failures"][0]["id"]
    _run("failsearch", "search", query, "--montage", str(OUTPUT / "neighbours.png"))
    _run("failsearch", "modes", "--min-size", "5", "--montage", str(OUTPUT / "modes.png"))
    mode = _ask("modes", "--stored")["modes"][0]["id"]
    _run("failsearch", "repair", "--mode", str(mode), "--out", str(REPAIRED))
    print(
        f"\nMontages, the repaired model and its patch are in {OUTPUT}/.\n"
        f"To look around: . .venv/bin/activate, then failsearch serve --db {DATABASE}"
    )


def _run(program: str, *arguments: str) -> None:
    print("\n$", program, *arguments, flush=True)
    subprocess.run(_command(program, arguments), check=True, env=_environment())


def _ask(*arguments: str) -> Any:
    done = subprocess.run(
        _command("failsearch", (*arguments, "--json")),
        check=True, env=_environment(), stdout=subprocess.PIPE,
    )  # fmt: skip
    return json.loads(done.stdout)


def _command(program: str, arguments: tuple[str, ...]) -> list[str]:
    entry = ["-m", "failsearch"] if program == "failsearch" else []
    return [sys.executable, *entry, *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "FAILSEARCH_DB": str(DATABASE)}


if __name__ == "__main__":
    main()
