"""The Python API: what it accepts beside the plainest form, and what it says of the rest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import failsearch
from failsearch.index import Index
from indexer.errors import SettingError

from .conftest import Place


@pytest.fixture
def index(place: Place) -> Index:
    """The index of all commands, to read."""
    return failsearch.open(place.db)


@pytest.fixture
def own_index(own: Place) -> Index:
    """A copy of it, to write to."""
    return failsearch.open(own.db)


def test_modes_are_corrected_by_hand(own_index: Index) -> None:
    found = own_index.find_modes(min_size=3)
    assert own_index.rename_mode("m1", "night shots").mode("m1").name == "night shots"
    split = own_index.split_mode("m1")
    (new,) = {mode.id for mode in split.modes} - {mode.id for mode in found.modes}
    merged = own_index.merge_modes(iter(["m1", new]), "whole")
    assert set(merged.mode("m1").samples) == set(found.mode("m1").samples)
    assert own_index.modes == merged


def test_samples_are_given_as_what_a_listing_holds(index: Index) -> None:
    listing = index.failures(limit=2)
    one, other = listing.samples
    assert index.search(one) == index.search(one.id)
    assert index.sample(one.id) == one
    both = index.search([one.id, other.id])
    ids = np.array([one.id, other.id])
    for given in (listing, (one, other.id), ids, listing.to_arrow()["id"], iter([one, other])):
        assert index.search(given).neighbours == both.neighbours
    assert index.samples(one.id) == (one,)
    queries = [batch["query"][0].as_py() for batch in index.search_many(one.id, k=1)]
    assert queries == [one.id]


def test_an_image_is_given_as_file_picture_or_array(index: Index, place: Place) -> None:
    file = next(place.images.rglob("*.png"))
    with Image.open(file) as picture:
        pixels = np.array(picture.convert("RGB"))
    found = [index.search(image=image, label=0) for image in (file, str(file), pixels)]
    assert {result.neighbours for result in found} == {found[0].neighbours}


def test_a_lone_text_is_not_taken_apart(index: Index) -> None:
    one = index.failures(filters="label=circle")
    assert one.total == index.failures(filters=["label=circle"]).total
    found = index.search(one.samples[0], filters="label=circle")
    assert found == index.search(one.samples[0], filters=["label=circle"])


def test_an_audit_takes_one_kind_and_the_path_of_an_index(own_index: Index, place: Place) -> None:
    leaks = own_index.audit(kinds="duplicates", against=str(place.db))
    assert leaks.kinds == ("leaks", "duplicates")
    assert leaks.findings == own_index.audit(kinds=["duplicates"], against=place.db).findings


WRONG: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "a number for a sample": (lambda index, _: index.search(5), "not 5"),
    "numbers for samples": (lambda index, _: index.search([1, 2]), "not 1"),
    "no sample": (lambda index, _: index.search([]), "give the id of a sample"),
    "an unknown setting": (lambda index, one: index.search(one, kk=3), "no setting 'kk'"),
    "text for a number": (lambda index, one: index.search(one, k="3"), "k='3': k takes a whole"),
    "True for a number": (lambda index, one: index.search(one, k=True), "k=True"),
    "no word for a choice": (
        lambda index, one: index.search(one, among=1),
        "among takes 'failures' or 'all'",
    ),
    "no filter": (lambda index, one: index.search(one, filters=3), "filters=3"),
    "a list of numbers for filters": (lambda index, _: index.failures(filters=[3]), "filters=.3."),
    "an unknown setting of modes": (lambda index, _: index.find_modes(foo=1), "no setting 'foo'"),
    "no resolution": (
        lambda index, _: index.find_modes(resolution=None),
        "resolution=None: resolution takes a number",
    ),
    "half a row": (
        lambda index, _: index.failures(limit=1.5),
        "limit=1.5: limit takes a whole number or None",
    ),
    "no order": (lambda index, _: index.failures(sort=None), "sort=None: sort takes text"),
    "an unknown setting of repairs": (
        lambda index, one: index.repair(sample=one, rate=1),
        "no setting 'rate'",
    ),
    "a number for an index": (lambda index, _: index.audit(against=5), "against=5"),
    "an audit that looks deep at no labels": (
        lambda index, _: index.audit(kinds="duplicates", deep=True),
        "deep is for label suspects: add the kind labels",
    ),
    "a float image": (
        lambda index, _: index.search(image=np.zeros((8, 8, 3)), label=0),
        r"not float64 \[8, 8, 3\]",
    ),
    "a gray array": (
        lambda index, _: index.search(image=np.zeros((8, 8), np.uint8), label=0),
        r"not uint8 \[8, 8\]",
    ),
    "an empty array": (
        lambda index, _: index.search(image=np.zeros((0, 8, 3), np.uint8), label=0),
        r"not uint8 \[0, 8, 3\]",
    ),
    "no image": (lambda index, _: index.search(image=3, label=0), "not int"),
}


@pytest.mark.parametrize(("ask", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_taken_is_named(
    index: Index, ask: Callable[[Any, Any], Any], said: str
) -> None:
    one = index.failures(limit=1).samples[0].id
    with pytest.raises(SettingError, match=said):
        ask(index, one)


def test_numbers_of_numpy_are_numbers(own_index: Any) -> None:
    report = own_index.find_modes(min_size=np.int64(3), resolution=np.float32(5))
    assert own_index.modes == report
    assert len(own_index.failures(limit=np.int32(1))) == 1


def test_exports_of_no_known_form_are_refused(index: Index, tmp_path: Path) -> None:
    listing = index.failures(limit=1)
    with pytest.raises(SettingError, match="cannot tell the format"):
        index.export(listing, tmp_path / "x.foo")
    with pytest.raises(SettingError, match="should end in"):
        index.export_atlas(tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_nothing_is_exported_into_an_index(own_index: Index) -> None:
    db, listing = own_index.path, own_index.failures(limit=1)
    before = sorted(db.iterdir())
    for export in (
        lambda: own_index.export(listing, db),
        lambda: own_index.export(listing, db / "images"),
        lambda: own_index.export(listing, db / "x.csv"),
        lambda: own_index.export_fiftyone(db),
        lambda: own_index.export_atlas(db / "a.parquet"),
    ):
        with pytest.raises(SettingError, match="is an index, choose another place"):
            export()
    assert sorted(db.iterdir()) == before


def test_a_manifest_alone_is_no_index(index: Index, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    assert index.export(index.failures(limit=1), tmp_path / "x.csv") == 1
