"""The map of the failures."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import search.map
from indexer.errors import StoreError
from indexer.schema import SAMPLES
from indexer.store import Store
from search.map import CACHE_FILE, TRIES, arrange, failure_map, known_map
from search.modes.evidence import Evidence
from search.modes.settings import ModeSettings
from tests.search.modes.conftest import NAMES, planted_arrays
from tests.support.arrays import index_of_arrays


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return index_of_arrays(tmp_path / "db", names=NAMES, **planted_arrays())


def test_planted_causes_lie_apart(store: Store) -> None:
    found = failure_map(store)
    place = dict(zip(found.ids, found.places, strict=True))
    causes = [np.stack([place[f"r{row}"] for row in range(c * 40, c * 40 + 40)]) for c in range(3)]
    centres = np.stack([np.median(cause, 0) for cause in causes])
    for number, cause in enumerate(causes):
        distances = np.linalg.norm(cause[:, None] - centres, axis=2)
        assert (distances.argmin(1) == number).mean() > 0.9


def test_a_map_is_kept_until_the_samples_change(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = failure_map(store)
    monkeypatch.setattr(search.map, "arrange", None)
    again = failure_map(store)
    assert again.ids == first.ids
    assert np.array_equal(again.places, first.places)
    (kept,) = (store.path / "cache").glob(f"*/{CACHE_FILE}")
    whole = kept.read_bytes()
    for damaged in (b"damaged", b"", whole[: len(whole) // 2]):
        kept.write_bytes(damaged)
        with pytest.raises(TypeError):  # arranged anew
            failure_map(store)


@pytest.mark.parametrize("additions", [2, TRIES])
def test_a_map_is_of_one_version(
    store: Store, monkeypatch: pytest.MonkeyPatch, additions: int
) -> None:
    gather, tries = search.map.gather, []

    def gather_while_samples_are_added(store: Store, settings: ModeSettings) -> Evidence:
        evidence = gather(store, settings)
        tries.append(evidence)
        if len(tries) <= additions:
            copy_sample(store, f"new{len(tries)}")
        if len(tries) == 1:
            raise KeyError("new1")  # as where it came between two passes
        return evidence

    monkeypatch.setattr(search.map, "gather", gather_while_samples_are_added)
    if additions == TRIES:
        with pytest.raises(StoreError, match="change while they are read"):
            failure_map(store)
        return
    found = failure_map(store)
    assert {"new1", "new2"} < set(found.ids)
    known = known_map(store)
    assert known is not None
    assert known.ids == found.ids


def copy_sample(store: Store, name: str) -> None:
    """Add a failure of the index again under another id."""
    row = store.table(SAMPLES).search().where("id = 'r0'").to_arrow()
    row = row.set_column(row.schema.get_field_index("id"), "id", pa.array([name]))
    store.append_samples(row.to_reader())


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_few_failures_have_places(count: int) -> None:
    features = np.eye(8, dtype=np.float32)[:count]
    places = arrange(features if count else np.empty((0, 0), np.float32))
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()


def test_many_failures_are_placed_among_the_arranged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.map, "FITTED", 40)
    random = np.random.default_rng(0)
    kinds = np.repeat([0, 1], 50)
    features = random.normal(0, 0.1, (100, 8)).astype(np.float32)
    features[:, 0] += 5 * kinds
    places = arrange(features)
    first, second = places[kinds == 0].mean(0), places[kinds == 1].mean(0)
    nearer = np.linalg.norm(places - first, axis=1) < np.linalg.norm(places - second, axis=1)
    assert (nearer == (kinds == 0)).mean() > 0.95
