"""What a user gets wrong, each answered with one line that names it."""

import shlex
import shutil
from pathlib import Path

import pytest

from .conftest import Place, Run

MISTAKES = {
    "no database": ("info", "--db", "nowhere.lancedb"),
    "no data": ("index", "nowhere", "--model", "resnet18", "--db", "{tmp}/new.lancedb"),
    "unknown model": ("index", "{images}", "--model", "resnetty", "--db", "{tmp}/new.lancedb"),
    "wrong classes": (
        "index",
        "{birds}",
        "--model",
        "local-dir:{model}",
        "--db",
        "{tmp}/n.lancedb",
    ),
    "unknown sample": ("search", "nobody", "--db", "{db}"),
    "unknown column": ("failures", "--db", "{db}", "--filter", "colour=red"),
    "bad filter": ("failures", "--db", "{db}", "--filter", "confidence"),
    "bad sort": ("failures", "--db", "{db}", "--sort", "nothing"),
    "hostile filter": ("failures", "--db", "{db}", "--filter", "loss>1; DROP TABLE samples"),
    "unknown mode": ("repair", "--mode", "m999", "--db", "{db}"),
    "nothing to repair": ("repair", "--db", "{db}"),
    "unknown repair": ("repair", "show", "r999", "--db", "{db}"),
    "no patch": ("patch", "apply", "{tmp}/no.safetensors", "{model}"),
    "no image": ("search", "--image", "{tmp}/no.png", "--label", "cross", "--db", "{db}"),
    "no label": ("search", "--image", "{image}", "--db", "{db}"),
    "wrong label": ("search", "--image", "{image}", "--label", "cat", "--db", "{db}"),
    "bad device": ("explain", "x", "--device", "tpu", "--db", "{db}"),
    "bad box": ("explain", "x", "--mask", "1,2", "--db", "{db}"),
    "bad share": ("explain", "x", "--mask-salient", "many", "--db", "{db}"),
    "bad kind": ("audit", "--kind", "ghosts", "--db", "{db}"),
    "no model": ("index", "{images}", "--db", "{tmp}/new.lancedb"),
    "unknown option": ("search", "x", "--nope"),
    "unknown command": ("serch", "x"),
    "no partitions": ("build-ann", "--partitions", "0", "--db", "{db}"),
    "no number": ("search", "x", "-k", "ten", "--db", "{db}"),
    "bad among": ("search", "x", "--among", "some", "--db", "{db}"),
    "bad k": ("search", "x", "-k", "0", "--db", "{db}"),
    "label without image": ("search", "x", "--label", "cross", "--db", "{db}"),
    "out without ids": ("search", "x", "--out", "{tmp}/x.parquet", "--db", "{db}"),
    "negative seed": ("modes", "--seed", "-1", "--db", "{db}"),
    "unknown mode to show": ("modes", "m99", "--db", "{db}"),
    "two ways to get modes": ("modes", "--stored", "--replace", "--db", "{db}"),
    "negative limit": ("modes", "--limit", "-1", "--db", "{db}"),
    "no input size": (
        *("index", "{images}", "--model", "local-dir:{model}", "--db", "{tmp}/n.lancedb"),
        *("--input-size", "0"),
    ),
    "montage of a batch": ("search", "--ids-from", "-", "--montage", "x.png", "--db", "{db}"),
    "an atlas of no known format": ("audit", "--atlas", "{tmp}/x.csv", "--db", "{db}"),
    "a graph into no folder": ("audit", "--graph", "{tmp}/no/x.npz", "--db", "{db}"),
    "FiftyOne into a file": ("audit", "--fiftyone", "{image}", "--db", "{db}"),
    "a montage of nothing": (
        *("audit", "--kind", "filters", "--montage", "{tmp}/x.png", "--db", "{db}"),
    ),
    "no findings to keep": ("audit", "--top", "0", "--db", "{db}"),
    "a repaired model into a file": ("repair", "--mode", "m1", "--out", "{image}", "--db", "{db}"),
    "pictures into a file": ("explain", "x", "--out", "{image}", "--db", "{db}"),
    "tables into no folder": ("repair", "table", "--markdown", "{tmp}/no/x.md", "--db", "{db}"),
    "an export without a name": ("failures", "--export", "", "--db", "{db}"),
    "an export of no known format": ("failures", "--export", "{tmp}/x.xlsx", "--db", "{db}"),
    "an export into an index": ("failures", "--export", "{db}", "--db", "{db}"),
    "FiftyOne into an index": ("audit", "--fiftyone", "{db}", "--db", "{db}"),
    "a montage into an index": ("modes", "--montage", "{db}/modes.png", "--db", "{db}"),
    "an export into no folder": ("failures", "--export", "{tmp}/no/x.csv", "--db", "{db}"),
    "a report into no folder": ("report", "{tmp}/no/x.html", "--db", "{db}"),
    "patched weights of no known format": (
        *("patch", "apply", "{tmp}/p.safetensors", "{model}", "--out", "{tmp}/x"),
    ),
    "an option before the command that it is for": ("repair", "--db", "{db}", "search", "m1"),
    "an audit against itself": ("audit", "--against", "{db}", "--db", "{db}"),
    "an audit against for no leaks": (
        *("audit", "--kind", "labels", "--against", "{db}", "--db", "{db}"),
    ),
    **{
        f"{option} for no labels": ("audit", "--kind", "causes", option, "--db", "{db}")
        for option in ("--deep", "--relabel", "--forget")
    },
    "no candidates": ("repair", "search", "m1", "--budget", "0", "--db", "{db}"),
    "no class map": (
        *("index", "{images}", "--model", "local-dir:{model}", "--db", "{tmp}/n.lancedb"),
        *("--class-map", "{tmp}/no.csv"),
    ),
}


@pytest.mark.parametrize("arguments", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line_and_code_2(
    run: Run, place: Place, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    image = next(place.images.rglob("*.png"))
    birds = tmp_path / "birds"
    for name in ("jay", "wren"):
        (birds / name).mkdir(parents=True)
        shutil.copy(image, birds / name)
    words = [
        word.format(
            tmp=tmp_path,
            birds=birds,
            db=place.db,
            images=place.images,
            model=place.model,
            image=image,
        )
        for word in arguments
    ]
    ran = run(*words)
    assert ran.code == 2
    assert ran.out == ""
    assert len(ran.err.strip().splitlines()) == 1
    assert ran.err.startswith("failsearch: ")
    assert "Traceback" not in ran.err


def test_an_option_before_a_subcommand_is_named(run: Run, place: Place) -> None:
    ran = run("repair", "--db", place.db, "search", "m1")
    assert "--db stands before `search`" in ran.err
    assert "--json" in run("repair", "--json", "table", "--db", place.db).err


def test_a_class_map_that_is_not_there_is_named_once(
    run: Run, place: Place, tmp_path: Path
) -> None:
    words = ("--model", f"local-dir:{place.model}", "--db", tmp_path / "n.lancedb")
    ran = run("index", place.images, *words, "--class-map", tmp_path / "no.csv")
    assert ran.err.count("no.csv") == 1
    assert "Errno" not in ran.err


@pytest.mark.parametrize("name", ["-x/1.png", "--cat.png", "-9.png", "-a b.png"])
def test_an_id_that_begins_with_a_dash_is_told_where_to_go(
    run: Run, place: Place, name: str
) -> None:
    told = run("search", name, "--db", place.db).err
    assert told.startswith("failsearch: No such option: -")
    assert f"goes behind --: -- {shlex.quote(name)} (see" in told
    assert f"no sample {name!r}" in run("search", "--db", place.db, "--", name).err


@pytest.mark.parametrize("option", ["--nope", "-x", "--nope=a/b.png"])
def test_an_unknown_option_is_taken_for_no_id(run: Run, option: str) -> None:
    assert "behind" not in run("search", "x", option).err
