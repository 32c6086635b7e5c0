"""`failsearch repairs` and `repair show`, when modes change after a repair."""

from pathlib import Path

import pytest

from indexer.store import Store
from search.modes import find_modes, merge_modes, read_modes, rename_mode
from tests.support.repairs import FINE, modes_of_arrays, record_mode_repair

from .conftest import Run

REGROUPED = "found anew or regrouped since"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("COLUMNS", "200")  # no cell of a table is broken
    return modes_of_arrays(tmp_path / "db")


def shown(run: Run, store: Store) -> tuple[str, str]:
    """Return the line of r1 in the list, and the text about it."""
    listed = run("repairs", "--db", store.path).out.splitlines()
    (line,) = (" ".join(line.split()) for line in listed if line.startswith("r1"))
    return line, run("repair", "show", "r1", "--db", store.path).out


def test_a_repair_has_the_name_of_its_mode(run: Run, store: Store) -> None:
    mode = read_modes(store).modes[0]
    record_mode_repair(store, mode)
    rename_mode(store, mode.id, "night shots")
    line, text = shown(run, store)
    assert line.startswith(f"r1 mode {mode.id} night shots")
    assert text.startswith(f"repair r1 of mode {mode.id} night shots\n")
    assert REGROUPED not in text


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("change", ["anew", "merged"])
def test_a_repair_of_an_earlier_mode_says_so(
    run: Run, store: Store, named: bool, change: str
) -> None:
    mode, other = read_modes(store).modes[:2]
    record_mode_repair(store, mode, named=named)
    if change == "anew":
        find_modes(store, FINE)
    else:
        merge_modes(store, [mode.id, other.id], name="both")
    line, text = shown(run, store)
    title = mode.name if named else mode.id
    assert line.startswith(f"r1 earlier mode {title} 0 1 {mode.size}")
    assert text.startswith(f"repair r1 of earlier mode {title}\n")
    assert REGROUPED in text
    (report,) = run("repairs", "--db", store.path, "--json").document["repairs"]
    assert (report["target"], report["mode"], report["title"]) == (mode.id, None, title)
