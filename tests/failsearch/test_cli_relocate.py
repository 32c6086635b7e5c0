"""An index that is told where its model and data are now."""

import shutil

import pytest

import failsearch
from tests.failsearch.conftest import Place, Run


@pytest.fixture
def moved(own: Place, tmp_path) -> Place:
    """A database with a manifest that points to nothing, and where everything is now."""
    manifest = own.db / "manifest.json"
    text = manifest.read_text()
    for path in (own.images, own.model):
        text = text.replace(str(path), f"/gone/{path.name}")
    manifest.write_text(text)
    images = shutil.copytree(own.images, tmp_path / "images=new")
    model = shutil.copytree(own.model, tmp_path / "model")
    return Place(images, model, own.db)


def explained(run: Run, place: Place, out) -> int:
    listed = run("failures", "--db", place.db, "--limit", 1, "--json").document
    first = listed["failures"][0]["id"]
    return run("explain", first, "--db", place.db, "--out", out).code


def test_what_has_moved_is_found_again(run: Run, moved: Place, tmp_path) -> None:
    assert explained(run, moved, tmp_path / "before") == 2
    model = f"local-dir:{moved.model}"
    ran = run("relocate", "--db", moved.db, "--model", model, "--data", moved.images, "--json")
    assert ran.document["data"] == [str(moved.images)]
    assert ran.document["model"]["spec"] == model
    assert explained(run, moved, tmp_path / "after") == 0
    again = f"{moved.images}={moved.images}"
    assert run("relocate", "--db", moved.db, "--data", again).code == 0


def test_what_has_moved_is_told_in_python(moved: Place) -> None:
    index = failsearch.open(moved.db)
    told = index.relocate(model=f"local-dir:{moved.model}", data=moved.images)
    assert told == index.manifest == index.relocate(data=[f"{moved.images}={moved.images}"])
    assert [source["path"] for source in told.sources] == [str(moved.images)]
    failure = index.failures(limit=1).samples[0]
    assert index.explain(failure.id).id == failure.id


def test_the_way_there_is_named_where_it_is_missing(run: Run, moved: Place, tmp_path) -> None:
    listed = run("failures", "--db", moved.db, "--limit", 1, "--json").document
    first = listed["failures"][0]["id"]
    said = run("explain", first, "--db", moved.db, "--out", tmp_path / "e").err
    assert "failsearch relocate --model" in " ".join(said.split())
    assert run("relocate", "--db", moved.db, "--model", f"local-dir:{moved.model}").code == 0
    said = run("explain", first, "--db", moved.db, "--out", tmp_path / "e").err
    assert "failsearch relocate --data" in " ".join(said.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say what has moved: --model, --checkpoint or --data"),
        (("--model", "local-dir:/no/where"), "no such model folder: /no/where"),
        (("--model", "resnet10t", "--checkpoint", "{weights}"), "does not fit the model"),
        (("--data", "{other}"), "holds other data than was indexed from /gone/images"),
    ],
)
def test_what_is_something_else_changes_nothing(
    run: Run, moved: Place, tmp_path, words: tuple[str, ...], message: str
) -> None:
    other = shutil.copytree(moved.images, tmp_path / "other")
    next(other.rglob("*.png")).unlink()
    manifest = (moved.db / "manifest.json").read_bytes()
    places = {"weights": moved.model / "model.safetensors", "other": other}
    ran = run("relocate", "--db", moved.db, *(word.format(**places) for word in words))
    assert (ran.code, ran.out) == (2, "")
    assert message in " ".join(ran.err.split())
    assert (moved.db / "manifest.json").read_bytes() == manifest


def test_other_weights_are_refused(run: Run, moved: Place, tmp_path) -> None:
    weights = moved.model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    ran = run("relocate", "--db", moved.db, "--model", f"local-dir:{moved.model}")
    assert ran.code == 2
    assert "are not those that were indexed" in " ".join(ran.err.split())


def test_several_data_sets_are_told_apart(run: Run, moved: Place, tmp_path) -> None:
    model = f"local-dir:{moved.model}"
    assert run("relocate", "--db", moved.db, "--model", model, "--data", moved.images).code == 0
    more = tmp_path / "more"
    for path in sorted(moved.images.rglob("*.png"))[::40]:
        (more / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, more / path.parent.name / f"new-{path.name}")
    assert run("add", more, "--db", moved.db).code == 0
    ran = run("relocate", "--db", moved.db, "--data", more)
    assert (ran.code, "give OLD=NEW, where OLD is one of" in " ".join(ran.err.split())) == (2, True)
    moved_again = more.rename(tmp_path / "elsewhere")
    ran = run("relocate", "--db", moved.db, "--data", f"{more}={moved_again}", "--json")
    assert ran.document["data"] == [str(moved.images), str(moved_again)]
