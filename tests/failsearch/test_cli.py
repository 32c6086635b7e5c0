"""The whole line through the command line, on real images and a real timm model."""

import re
import shutil
import warnings
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

import failsearch
from indexer.errors import StoreWarning

from .conftest import Place, Run

SAMPLE_KEYS = {
    "id",
    "label",
    "prediction",
    "label_name",
    "prediction_name",
    "correct",
    "confidence",
    "loss",
}


def first_failure(run: Run, db: Path) -> str:
    return run("failures", "--db", db, "--limit", 1, "--json").document["failures"][0]["id"]


def test_info_counts_what_failures_lists(run: Run, place: Place) -> None:
    info = run("info", "--db", place.db, "--json").document
    listed = run("failures", "--db", place.db, "--json").document
    assert info["samples"] == 240
    assert info["failures"] == len(listed["failures"]) == listed["total"] > 0
    assert info["accuracy"] == pytest.approx(1 - info["failures"] / 240)
    assert info["filters"] == sum(
        m.out_channels
        for m in timm.create_model(f"local-dir:{place.model}").modules()
        if isinstance(m, torch.nn.Conv2d)
    )
    assert all(set(sample) >= SAMPLE_KEYS for sample in listed["failures"])
    assert not any(sample["correct"] for sample in listed["failures"])


def test_a_mended_database_is_one_line_on_stderr(
    run: Run, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = failsearch.open

    def mend(db: str) -> failsearch.Index:
        warnings.warn("version 2 of table samples\nwas set aside", StoreWarning, stacklevel=2)
        return describe(db)

    monkeypatch.setattr(failsearch, "open", mend)
    with warnings.catch_warnings():
        warnings.simplefilter("default", StoreWarning)
        ran = run("info", "--db", place.db)
    assert ran.code == 0
    assert ran.err == "failsearch: warning: version 2 of table samples was set aside\n"


def test_the_version_is_printed_alone(run: Run) -> None:
    ran = run("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"{version('failsearch')}\n", "")


def test_info_says_how_each_layer_is_profiled(run: Run, place: Place) -> None:
    rows = run("info", "--db", place.db, "--engine", "--json").document["engine"]
    assert {row["layer"] for row in rows} >= {"conv1", "layer1.0.conv1"}
    assert all(row["path"] and row["reason"] for row in rows)


def test_failures_are_sorted_filtered_and_exported(run: Run, place: Place, tmp_path: Path) -> None:
    ran = run("failures", "--db", place.db, "--sort", "confidence", "--filter", "label=cross")
    assert ran.code == 0
    found = run(
        "failures", "--db", place.db, "--sort", "confidence", "--filter", "label=cross", "--json"
    ).document["failures"]
    assert [s["confidence"] for s in found] == sorted(s["confidence"] for s in found)
    assert {s["label_name"] for s in found} <= {"cross"}
    file = tmp_path / "failures.parquet"
    assert run("failures", "--db", place.db, "--export", file).code == 0
    assert set(pq.read_table(file)["correct"].to_pylist()) == {False}
    index = failsearch.open(place.db)
    assert index.export(index.failures(), str(file)) == len(pq.read_table(file))
    folder = tmp_path / "pairs"
    assert run("failures", "--db", place.db, "--export", folder).code == 0
    written = [path.read_bytes() for path in folder.rglob("*.png")]
    originals = [path.read_bytes() for path in place.images.rglob("*.png")]
    assert written
    assert all(image in originals for image in written)


def test_search_finds_other_failures_in_order(run: Run, place: Place, tmp_path: Path) -> None:
    query = first_failure(run, place.db)
    picture = tmp_path / "montage.png"
    ran = run("search", query, "--db", place.db, "-k", 5, "--montage", picture, "--json")
    found = ran.document
    scores = [neighbour["score"] for neighbour in found["neighbours"]]
    assert found["query"]["id"] == query
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= score <= 1 for score in scores)
    assert query not in [neighbour["id"] for neighbour in found["neighbours"]]
    with Image.open(picture) as drawn:
        assert drawn.width > 100
    filtered = run(
        "search", query, "--db", place.db, "--among", "all", "--filter", "correct=true", "--json"
    ).document
    assert all(neighbour["correct"] for neighbour in filtered["neighbours"])


def test_search_by_image_finds_the_image_itself(run: Run, place: Place) -> None:
    query = first_failure(run, place.db)
    label = query.split("/")[0]
    found = run(
        "search", "--image", place.images / query, "--label", label, "--db", place.db, "--json"
    ).document
    best = found["neighbours"][0]
    assert best["id"] == query
    assert best["score"] == pytest.approx(1, abs=1e-4)


def test_batch_search_writes_parquet(run: Run, place: Place, tmp_path: Path) -> None:
    ids = [s["id"] for s in run("failures", "--db", place.db, "--json").document["failures"][:4]]
    listed = tmp_path / "ids.txt"
    listed.write_text("\n".join(ids))
    out = tmp_path / "neighbours.parquet"
    ran = run("search", "--ids-from", listed, "-k", 3, "--db", place.db, "--out", out, "--json")
    assert ran.document["rows"] == len(pq.read_table(out)) == 12


def test_repair_and_patch_round_trip(run: Run, own: Place, tmp_path: Path) -> None:
    mode = run("modes", "--db", own.db, "--min-size", 3, "--json").document["modes"][0]["id"]
    before = run("info", "--db", own.db, "--json").document
    made = run("repair", "--mode", mode, "--db", own.db, "--fraction", 0.1, "--json").document
    assert set(made["controls"]) == {"random", "least", "all"}
    assert made["accuracy_before"] == pytest.approx(before["accuracy"])
    assert made["accuracy_change"] == pytest.approx(
        made["accuracy_after"] - made["accuracy_before"]
    )
    assert run("info", "--db", own.db, "--json").document["accuracy"] == before["accuracy"]
    listed = run("repairs", "--db", own.db, "--json").document["repairs"]
    assert [one["id"] for one in listed] == [made["id"]]
    shown = run("repair", "show", made["id"], "--db", own.db, "--json").document
    assert sum(row["in_group"] for row in shown["samples"]) == made["neighbours"]

    assert run("patch", "verify", made["patch"], "--db", own.db, "--json").document["matches"]
    for command in (("repair", "show", made["id"]), ("patch", "verify", made["patch"])):
        said = " ".join(run(*command, "--db", own.db).out.split())
        assert "the samples it learned from included" in said
    assert run("repair", "reprofile", made["id"], "--db", own.db).code == 0

    copy = Path(shutil.copytree(own.model, tmp_path / "model"))
    original = load_file(copy / "model.safetensors")
    assert run("patch", "apply", made["patch"], copy).code == 0
    patched = load_file(copy / "model.safetensors")
    repaired = timm.create_model(f"local-dir:{made['model']}", pretrained=True).state_dict()
    assert all(torch.equal(patched[name], repaired[name]) for name in patched)
    name = next(name for name in patched if not torch.equal(patched[name], original[name]))
    assert run("patch", "apply", made["patch"], copy).code == 2
    for weights, state in ((copy, "carries"), (own.model, "does not carry")):
        verified = run("patch", "verify", made["patch"], weights, "--db", own.db).out
        assert f"{weights} {state} the patch" in verified.replace("\n", " ")
    elsewhere = tmp_path / "reverted.safetensors"
    assert run("patch", "revert", made["patch"], copy, "--out", elsewhere).code == 0
    assert torch.equal(load_file(elsewhere)[name], original[name])
    assert run("patch", "revert", made["patch"], copy).code == 0
    restored = load_file(copy / "model.safetensors")
    assert all(torch.equal(restored[name], original[name]) for name in original)


def test_a_searched_repair_is_judged_on_held_out_samples(run: Run, own: Place) -> None:
    mode = run("modes", "--db", own.db, "--min-size", 3, "--json").document["modes"][0]["id"]
    ran = run("repair", "search", mode, "--db", own.db, "--budget", 1, "--steps", 3, "--json")
    made = ran.document
    assert made["found"] == (made["patch"] is not None)
    assert made["held_out"]["samples"] < 240
    assert sum(made["split"][part] for part in ("discover", "guard", "held-out")) == 240
    assert (
        f"held-out: {made['held_out']['verdict']}"
        in run("repair", "show", made["id"], "--db", own.db).out
    )
    lenient = ("--max-drop", 100, "--budget", 3, "--steps", 20)
    said = " ".join(run("repair", "search", mode, "--db", own.db, *lenient).out.split())
    assert "guard samples, which chose it, foretold" in said or "None of 3 candidates" in said


def test_explain_and_invert_write_pictures(run: Run, place: Place, tmp_path: Path) -> None:
    query = first_failure(run, place.db)
    made = run(
        "explain", query, "--db", place.db, "--mask-salient", "10%", "--out", tmp_path / "e",
        "--json",
    ).document  # fmt: skip
    assert len(made["filters"]) == 10
    assert all(Path(file).stat().st_size for file in made["files"])
    ran = run("invert", query, "--db", place.db, "--steps", 5, "--out", tmp_path / "i", "--json")
    assert 0 <= ran.document["distance"] <= 2
    for words in (("explain", query), ("invert", query, "--steps", 1)):
        refused = run(*words, "--db", place.db, "--out", made["files"][0])
        assert refused.code == 2
        assert refused.err.splitlines()[-1].startswith("failsearch: cannot write to")


def test_add_standardizes_with_the_stored_statistics(run: Run, own: Place, tmp_path: Path) -> None:
    more = tmp_path / "more"
    for name in ("circle", "cross"):
        (more / name).mkdir(parents=True)
        source = next((own.images / name).glob("*.png"))
        shutil.copy(source, more / name / "copied.png")
    (more / "cross" / "broken.png").write_bytes(b"no image")
    added = run("add", more, "--db", own.db, "--json").document
    assert (added["status"], added["samples"], added["rejected"]) == ("added", 242, 1)
    rejects = run("info", "--db", own.db, "--rejects", "--json").document["rejects_list"]
    assert [row["id"] for row in rejects] == ["cross/broken.png"]
    twin = next((own.images / "cross").glob("*.png"))
    found = run(
        "search", "cross/copied.png", "--among", "all", "--db", own.db, "-k", 1, "--json"
    ).document["neighbours"][0]
    assert found["id"] == f"cross/{twin.name}"
    assert found["score"] == pytest.approx(1, abs=1e-5)


def test_check_and_compact(run: Run, own: Place) -> None:
    run("modes", "--db", own.db, "--min-size", 3)
    run("modes", "--db", own.db, "--min-size", 3)
    assert run("compact", "--db", own.db, "--json").document["freed"] > 0
    assert run("check", "--db", own.db, "--json").document["ok"]
    (own.db / "statistics.npz").write_bytes(b"damaged")
    assert run("check", "--db", own.db).code == 1


@pytest.mark.parametrize("command", ["modes", "check", "build-ann"])
def test_progress_is_shown_on_stderr_alone(
    run: Run, own: Place, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("indexer.progress.LOG_INTERVAL", 0)
    ran = run(command, "--db", own.db, "--json")
    assert ran.code == 0
    assert isinstance(ran.document, dict)
    last = ran.err.splitlines()[-1]
    assert re.fullmatch(r"[A-Z][a-z ]+: (\d+)/\1, [\d.]+/s, 0 s left", last)


def test_the_same_index_command_again_changes_nothing(run: Run, own: Place) -> None:
    again = run(
        "index", own.images, "--model", f"local-dir:{own.model}", "--db", own.db, "--json"
    ).document
    assert again["status"] == "unchanged"
    other = run(
        "index", own.images, "--model", f"local-dir:{own.model}", "--db", own.db, "--signed"
    )
    assert other.code == 2
    assert "signed" in other.err


@pytest.mark.parametrize(
    ("command", "hint"),
    [("index", ": the same command goes on where this one stopped"), ("info", "")],
)
def test_an_interrupted_command_says_so_in_one_line(
    run: Run, place: Place, monkeypatch: pytest.MonkeyPatch, command: str, hint: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("failsearch.open", interrupted)
    monkeypatch.setattr("failsearch.indexing.index", interrupted)
    words = (place.images, "--model", f"local-dir:{place.model}") if command == "index" else ()
    ran = run(command, *words)
    assert ran.code == 130
    assert ran.err == f"failsearch: interrupted{hint}\n"


def test_where_there_is_nothing_to_list_a_line_says_so(run: Run, own: Place) -> None:
    assert run("repairs", "--db", own.db).out.startswith("No repairs yet")
    none = run("failures", "--filter", "confidence>1", "--db", own.db)
    assert none.out == "No failures match.\n"
    failures = run("failures", "--db", own.db, "--json").document["total"]
    assert run("modes", "--min-size", failures, "--db", own.db).out.startswith("No modes")


def test_a_profile_of_few_units_is_explained(run: Run, place: Place, tmp_path: Path) -> None:
    db = tmp_path / "few.lancedb"
    indexed = run(
        *("index", place.images, "--model", f"local-dir:{place.model}", "--db", db),
        *("--units", "linear", "--json"),
    )
    assert indexed.document["units"] == 3
    explain = ("explain", first_failure(run, db), "--db", db, "--out", tmp_path / "out", "--json")

    assert len(run(*explain).document["filters"]) == 2
    refused = run(*explain, "--top", 3)
    assert (refused.code, refused.err) == (
        2,
        "failsearch: top 3: boost between 1 and 2 of the 3 units\n",
    )
