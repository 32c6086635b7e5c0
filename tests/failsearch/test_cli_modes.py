"""Failure modes through the command line, on real images and a real timm model."""

import csv
from pathlib import Path

import numpy as np
import pytest

import failsearch
from search.modes import rename_mode
from tests.support.arrays import index_of_arrays

from .conftest import Place, Run


def test_modes_cover_the_failures_once(run: Run, own: Place, tmp_path: Path) -> None:
    picture = tmp_path / "modes.png"
    found = run("modes", "--db", own.db, "--min-size", 3, "--montage", picture, "--json").document
    members = [key for mode in found["modes"] for key in mode["samples"]]
    failures = run("failures", "--db", own.db, "--json").document["failures"]
    assert sorted(members + found["ungrouped"]) == sorted(s["id"] for s in failures)
    assert {"id", "name", "size", "confusions", "filters", "exemplars", "at_risk"} <= set(
        found["modes"][0]
    )
    assert picture.exists()
    again = run("modes", "--db", own.db, "--min-size", 3, "--json").document
    assert again == found
    assert run("modes", "--db", own.db, "--stored", "--json").document == found


def test_failures_of_a_mode(run: Run, own: Place, tmp_path: Path) -> None:
    mode = run("modes", "--db", own.db, "--min-size", 3, "--json").document["modes"][0]
    words = ("failures", "--db", own.db, "--mode", mode["id"])
    listed = run(*words, "--json").document
    assert {sample["id"] for sample in listed["failures"]} == set(mode["samples"])
    assert listed["total"] == len(mode["samples"])
    file = tmp_path / "mode.csv"
    assert f"wrote {listed['total']} samples" in run(*words, "--export", file).out
    with file.open(newline="") as exported:
        modes = [(row["mode"], row["mode_name"]) for row in csv.DictReader(exported)]
    assert modes == [(mode["id"], mode["name"])] * listed["total"]
    unknown = run("failures", "--db", own.db, "--mode", "m999")
    assert unknown.code == 2
    assert "no mode 'm999'" in unknown.err


def test_one_mode_is_shown_in_full(run: Run, own: Place, tmp_path: Path) -> None:
    found = run("modes", "--db", own.db, "--min-size", 3, "--json").document["modes"][0]
    picture = tmp_path / "mode.png"
    ran = run("modes", found["id"], "--db", own.db, "--montage", picture)
    assert ran.code == 0
    assert found["samples"][0] in ran.out
    assert picture.exists()
    assert run("modes", found["id"], "--db", own.db, "--json").document == found


def test_modes_that_a_person_named_are_kept(run: Run, own: Place) -> None:
    run("modes", "--db", own.db, "--min-size", 3)
    rename_mode(failsearch.open(own.db).store, "m1", "night shots")
    refused = run("modes", "--db", own.db)
    assert refused.code == 2
    assert "--replace" in refused.err
    assert "night shots" in run("modes", "--stored", "--db", own.db).out
    assert run("modes", "--replace", "--min-size", 3, "--db", own.db).code == 0


def test_a_trial_that_finds_nothing_keeps_the_modes(run: Run, own: Place) -> None:
    run("modes", "--db", own.db, "--min-size", 3)
    stored = run("modes", "--db", own.db, "--stored", "--json").document
    failures = len(run("failures", "--db", own.db, "--json").document["failures"])
    words = ("--db", own.db, "--resolution", 7, "--min-size", failures)
    trial = run("modes", *words)
    settings = f"--resolution 7, --min-size {failures} and --neighbours 10"
    assert f"No modes: {failures} failures are too few or too unlike to group with {settings}" in (
        trial.out
    )
    assert f"the {len(stored['modes'])} modes found before are kept" in trial.err
    assert run("modes", *words, "--json").document["modes"] == []
    assert run("modes", "--db", own.db, "--stored", "--json").document == stored


@pytest.mark.parametrize(
    ("wrong", "line"),
    [(0, "No modes: the index has no failures.\n"), (1, "No modes: 1 failure is too few or too")],
)
def test_an_index_almost_without_failures_has_no_modes(
    run: Run, tmp_path: Path, wrong: int, line: str
) -> None:
    labels = np.arange(12) % 3
    raw = np.random.default_rng(0).lognormal(-3, 1, (12, 20)).astype(np.float32)
    logits = 9 * np.eye(3, dtype=np.float32)[np.where(labels.cumsum() == 0, wrong, labels)]
    names = ("cat", "dog", "ship")
    db = tmp_path / "made.lancedb"
    index_of_arrays(db, raw=raw, logits=logits, labels=labels, names=names)
    assert run("modes", "--db", db).out.startswith(line)


def test_one_mode_is_counted_as_one(run: Run, own: Place) -> None:
    index = failsearch.open(own.db)
    index.merge_modes([mode.id for mode in index.find_modes(min_size=3).modes])
    assert run("modes", "--stored", "--db", own.db).out.startswith("1 mode holds ")


def test_more_than_all_failures_are_not_asked_for(run: Run, own: Place) -> None:
    refused = run("modes", "--db", own.db, "--min-size", 100_000)
    assert refused.code == 2
    assert "min_size of modes is 100000: the index has" in refused.err


@pytest.mark.parametrize("shown", ["m1", "--stored"])
@pytest.mark.parametrize(
    "option", [("--resolution", 5), ("--min-size", 8), ("--neighbours", 10), ("--seed", 0),
               ("--replace",)]
)  # fmt: skip
def test_showing_modes_takes_no_settings(
    run: Run, own: Place, shown: str, option: tuple[object, ...]
) -> None:
    refused = run("modes", shown, *option, "--db", own.db)
    assert refused.code == 2
    assert f"{option[0]} is for finding modes" in refused.err


def test_a_mode_for_a_sample_is_recognized(run: Run, own: Place) -> None:
    assert "it is a mode" not in run("search", "m1", "--db", own.db).err
    run("modes", "--db", own.db, "--min-size", 3)
    for words in (("search", "m1"), ("explain", "m1"), ("invert", "m1"), ("repair", "--sample=m1")):
        refused = run(*words, "--db", own.db)
        assert refused.code == 2
        assert "it is a mode, see `failsearch failures --mode m1` or `modes m1`" in refused.err
    filtered = run("failures", "--filter", "mode=m1", "--db", own.db)
    assert filtered.code == 2
    assert "`failsearch failures --mode` lists the members" in filtered.err
