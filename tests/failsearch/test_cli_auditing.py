"""`failsearch audit`: findings, exports, other tools and their absence."""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import sparse

import failsearch
from search.audit.corrected import corrected_manifest
from search.audit.decisions import NO_IMAGE, WRONG_LABEL, decide, read_decisions
from search.export import write_table
from search.modes import find_modes, rename_mode
from tests.search.modes.conftest import CAUSE_SIZE, SAMPLES, planted_arrays
from tests.search.modes.conftest import NAMES as CLASSES
from tests.support.arrays import index_of_arrays
from tests.support.classifier import NAMES

from .conftest import Place, Run


def test_audit_gives_every_finding_a_reason(run: Run, own: Place, tmp_path: Path) -> None:
    file, atlas = tmp_path / "findings.jsonl", tmp_path / "atlas.parquet"
    found = run(
        "audit", "--db", own.db, "--relabel", "--export", file, "--atlas", atlas, "--json"
    ).document
    assert set(found["findings"]) == {"labels", "duplicates", "causes", "filters"}
    assert all(f["reason"] for kind in found["findings"].values() for f in kind)
    assert file.exists()
    assert {"x", "y", "neighbors", "mode"} <= set(pq.read_table(atlas).column_names)
    assert set(found["totals"]) == {"labels", "duplicates", "causes", "filters"}
    out = run("audit", "--db", own.db, "--kind", "filters", "--top", 1).out
    assert out.startswith(f"\nfilters: {found['totals']['filters']} findings, the first 1 kept\n")


def test_audit_asks_cleanlab_and_writes_for_other_tools(
    run: Run, own: Place, tmp_path: Path
) -> None:
    for extra in ("cleanlab", "cleanvision", "datasets"):
        pytest.importorskip(extra)
    atlas, folder, graph = (tmp_path / name for name in ("a.parquet", "fiftyone", "g.npz"))
    ran = run(
        *("audit", "--db", own.db, "--kind", "duplicates", "--kind", "duplicates", "--cleanlab"),
        *("--atlas", atlas, "--fiftyone", folder, "--graph", graph, "--json"),
    )
    assert ran.code == 0
    assert set(ran.document["findings"]) == {"duplicates", "cleanlab", "images"}
    assert ran.document["written"] == [str(path) for path in (atlas, folder, graph)]
    failures = run("info", "--db", own.db, "--json").document["failures"]
    assert len(pq.read_table(atlas)) == len(list((folder / "data").iterdir())) == failures
    assert sparse.load_npz(graph).shape == (240, 240)
    # Every image is a noisy one in colour: nothing is repeated of what was found before.
    text = run("audit", "--db", own.db, "--kind", "images", "--top", 1)
    assert text.code == 0
    assert text.out.startswith("\nimages: ")
    assert not any(line.endswith(" ") for line in text.out.splitlines())


def test_a_cause_is_said_of_the_mode_by_the_name_it_has(run: Run, tmp_path: Path) -> None:
    light = ["night" if row < CAUSE_SIZE else "day" for row in range(SAMPLES)]
    store = index_of_arrays(
        tmp_path / "db", names=CLASSES, metadata={"light": light}, **planted_arrays()
    )
    find_modes(store)
    words = ("audit", "--db", store.path, "--kind", "causes")
    (mode,) = {f["subject"] for f in run(*words, "--json").document["findings"]["causes"]}
    rename_mode(store, mode, "night shots")
    said = " ".join(run(*words).out.split())
    assert f"{mode} night shots 100 % of its " in said
    assert "images have light=night, 0 % of correct images of the same classes do" in said


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        (0, "filters: 0 findings"),
        (10, "filters: no filter stands out (10 failures are too few to tell)"),
        (60, "filters: no filter stands out (60 failures)"),
    ],
)
def test_that_no_filter_stands_out_is_said(
    run: Run, tmp_path: Path, failures: int, said: str
) -> None:
    random = np.random.default_rng(failures)
    labels = np.arange(200) % 2
    predicted = np.where(np.arange(200) < failures, 1 - labels, labels)
    logits = np.eye(2)[predicted] * 4 + random.normal(0, 0.1, (200, 2))
    raw = random.lognormal(size=(200, 40))
    index_of_arrays(tmp_path / "db", raw=raw, logits=logits, labels=labels, names=("a", "b"))
    assert run("audit", "--db", tmp_path / "db", "--kind", "filters").out.strip() == said


@pytest.mark.parametrize("missing", ["cleanlab", "cleanvision", "datasets"])
def test_a_missing_extra_is_said_before_the_audit(
    run: Run, place: Place, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    ran = run("audit", "--db", place.db, "--cleanlab")
    assert ran.code == 2
    assert ran.out == ""
    assert len(ran.err.strip().splitlines()) == 1
    assert "pip install 'failsearch[audit]'" in ran.err


def test_an_audit_without_failures_says_so(run: Run, own: Place, tmp_path: Path) -> None:
    # The same images, labelled as the model sees them.
    rows = failsearch.open(own.db).store.read(["ref", "prediction_name"]).to_pylist()
    manifest = own.images / "as-seen.csv"
    lines = [f"{row['ref']},{row['prediction_name']}" for row in rows]
    manifest.write_text("\n".join(["path,label", *lines]))
    db = tmp_path / "flawless.lancedb"
    seen = {row["prediction_name"] for row in rows}
    numbers = [f"--class-map={name}={NAMES.index(name)}" for name in sorted(seen)]
    made = run("index", manifest, "--model", f"local-dir:{own.model}", "--db", db, *numbers)
    manifest.unlink()
    assert made.code == 0, made.err
    ran = run("audit", "--db", db)
    assert ran.code == 0
    assert "filters: 0 findings" in ran.out
    refused = run("audit", "--db", db, "--atlas", tmp_path / "a.parquet")
    assert refused.code == 2
    assert "at least three failures" in refused.err
    tables = run("repair", "table", "--db", db)
    assert (tables.code, tables.out) == (2, "")
    assert "the tables are made of such failures" in tables.err


def test_a_corrected_manifest_is_indexed_as_it_is(run: Run, own: Place, tmp_path: Path) -> None:
    store = failsearch.open(own.db).store
    wrong, blank, *_ = listed = store.read(["id", "label_name"]).to_pylist()
    right = next(name for name in NAMES if name != wrong["label_name"])
    decide(store, wrong["id"], WRONG_LABEL, right)
    decide(store, blank["id"], NO_IMAGE)
    manifest, db = tmp_path / "corrected.csv", tmp_path / "again.lancedb"
    write_table(corrected_manifest(store, read_decisions(store)), manifest)
    done = run("index", manifest, "--model", f"local-dir:{own.model}", "--db", db, "--json")
    assert done.code == 0
    again = failsearch.open(db).store.read(["id", "label_name", "meta_verdict"]).to_pylist()
    expected = {row["id"]: row["label_name"] for row in listed[2:]} | {wrong["id"]: right}
    assert {row["id"]: row["label_name"] for row in again} == expected
    assert [row["id"] for row in again if row["meta_verdict"]] == [wrong["id"]]


def test_leaks_are_counted_and_come_first(run: Run, own: Place, place: Place) -> None:
    words = ("audit", "--db", own.db, "--kind", "duplicates", "--against", place.db, "--top", 20)
    out = run(*words).out
    heading = (
        f"leaks: 240 of 240 images are in {place.db.name} too, the first 20 kept; the first 10"
    )
    assert out.startswith(f"\n{heading}\n")
    assert "\nduplicates: 0 findings\n" in out
    found = run(*words, "--json").document
    assert list(found["findings"]) == ["leaks", "duplicates"]
    assert found["totals"] == {"leaks": 240, "duplicates": 0}
