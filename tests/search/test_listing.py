"""Lists of failures and their files."""

import csv
import errno
import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from indexer.errors import FilterError, SettingError, StoreError, UnknownSampleError
from indexer.store import Store
from search.export import export, export_folders, write_table
from search.listing import list_samples
from search.modes import Confusion, Mode, ModeReport, ModeSettings
from search.modes.stored import write_modes
from search.results import Sample

from .conftest import make_index


def test_failures_sorted_filtered_and_limited(store: Store) -> None:
    listing = list_samples(store)
    rows = store.read(["id", "loss", "correct", "label_name"]).to_pylist()
    failures = [row for row in rows if not row["correct"]]
    expected = sorted(failures, key=lambda row: (-row["loss"], row["id"]))
    assert [sample.id for sample in listing] == [row["id"] for row in expected]
    assert listing.total == len(failures)
    first = list_samples(store, limit=3, sort="speed", filters=("label!=cat",))
    chosen = [row["id"] for row in failures if row["label_name"] != "cat"]
    assert [sample.id for sample in first.samples] == chosen[:3]
    assert first.total == len(chosen)
    assert len(list_samples(store, among="all", sort="id")) == len(rows)
    assert len(list_samples(store, limit=0)) == 0


def test_members_of_a_mode_alone_are_listed(fresh: Store) -> None:
    ids = [sample.id for sample in list_samples(fresh, sort="id")]
    with pytest.raises(StoreError, match="no modes yet"):
        list_samples(fresh, mode="m1")
    form_modes(fresh, {"m1": ids[:3], "m2": ids[4:6]})
    chosen = list_samples(fresh, sort="-id", limit=2, mode="m1")
    assert [sample.id for sample in chosen] == [ids[2], ids[1]]
    assert chosen.total == 3
    with pytest.raises(UnknownSampleError, match="no mode 'm3'"):
        list_samples(fresh, mode="m3")


def test_samples_are_listed_with_their_mode(fresh: Store, tmp_path: Path) -> None:
    assert set(list_samples(fresh).to_arrow()["mode"].to_pylist()) == {None}
    ids = [sample.id for sample in list_samples(fresh, sort="id")]
    form_modes(fresh, {"m1": ids[:3], "m2": ids[4:6]})
    modes = dict.fromkeys(ids[:3], "m1") | dict.fromkeys(ids[4:6], "m2")
    for listing in (list_samples(fresh), list_samples(fresh, among="all")):
        for row in listing.to_arrow().to_pylist():
            mode = modes.get(row["id"])
            assert (row["mode"], row["mode_name"]) == (mode, mode and f"mode {mode}")
    export(list_samples(fresh), tmp_path / "f.csv")
    export(list_samples(fresh), tmp_path / "f.jsonl")
    with (tmp_path / "f.csv").open(newline="") as file:
        found = {row["id"]: row["mode"] or None for row in csv.DictReader(file)}
    lines = map(json.loads, (tmp_path / "f.jsonl").read_text().splitlines())
    assert found == {line["id"]: line["mode"] for line in lines}
    assert found == {sample: modes.get(sample) for sample in ids}


def form_modes(store: Store, members: dict[str, list[str]]) -> None:
    """Store modes with these members, named after their ids."""
    confusion = Confusion(0, 1, "cat", "dog", 1)
    modes = tuple(
        Mode(
            id=mode,
            name=f"mode {mode}",
            samples=tuple(samples),
            confusions=(replace(confusion, count=len(samples)),),
            cohesion=0.5,
            filters=(),
            exemplars=(),
            at_risk=(),
        )
        for mode, samples in members.items()
    )
    write_modes(store, ModeReport(modes, (), ModeSettings()))


def test_ties_are_ordered_by_id(store: Store) -> None:
    ids = [sample.id for sample in list_samples(store, sort="-correct")]
    assert ids == sorted(ids)
    assert [sample.id for sample in list_samples(store, sort="-id")] == sorted(ids, reverse=True)


def test_json_html_and_frames(store: Store) -> None:
    listing = list_samples(store, limit=4)
    document = json.loads(json.dumps(listing.to_json()))
    assert [item["id"] for item in document["failures"]] == [s.id for s in listing.samples]
    assert listing.to_arrow().num_rows == len(listing.to_pandas()) == 4
    page = listing._repr_html_()
    assert f"and {listing.total - 4} more" in page
    assert "it's" not in page


def test_mistakes_are_named(store: Store) -> None:
    with pytest.raises(FilterError, match="cannot sort by 'top_classes'"):
        list_samples(store, sort="top_classes")
    with pytest.raises(FilterError, match="cannot sort by 'height of it'"):
        list_samples(store, sort="height of it")
    with pytest.raises(SettingError, match="limit"):
        list_samples(store, limit=-1)


def test_files(store: Store, tmp_path: Path) -> None:
    listing = list_samples(store)
    for name in ("f.csv", "f.parquet", "f.arrow", "f.jsonl"):
        assert export(listing, tmp_path / name) == len(listing)
    assert pq.read_table(tmp_path / "f.parquet").equals(listing.table)
    assert pa.ipc.open_file(tmp_path / "f.arrow").read_all().equals(listing.table)
    lines = (tmp_path / "f.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == listing.to_json()["failures"]
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [sample.id for sample in listing]
    assert json.loads(rows[0]["top_classes"]) == list(listing.samples[0].top_classes)
    write_table(listing.table, tmp_path / "t.jsonl")
    first = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0])
    assert first["meta_weather"] == listing.samples[0].metadata["weather"]
    with pytest.raises(SettingError, match="format"):
        export(listing, tmp_path / "f.txt")
    with pytest.raises(StoreError, match="cannot write"):
        export(listing, tmp_path / "absent" / "f.csv")


@pytest.mark.parametrize("suffix", ["csv", "parquet", "arrow", "jsonl"])
def test_an_export_that_fails_leaves_the_earlier_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / f"f.{suffix}"
    path.write_text("earlier")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="the disk is full"):
        export(list_samples(store, limit=3), path)
    assert path.read_text() == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_folders_of_confused_pairs(tmp_path: Path) -> None:
    store = make_index(tmp_path / "db")
    listing = list_samples(store)

    def read(sample: Sample) -> bytes | Image.Image:
        picture = Image.new("RGB", (2, 2))
        if int(sample.id[1:]) % 2:
            return picture
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG")
        return buffer.getvalue()

    out = tmp_path / "out"
    assert export_folders(listing, out, read) == len(listing)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) == len(listing)
    assert {path.suffix for path in files} == {".jpg", ".png"}
    assert (out / "cat as dog").is_dir()
    assert len({path.parent.name for path in files}) == 6


def test_hostile_names_stay_in_their_folder(tmp_path: Path, store: Store) -> None:
    listing = list_samples(store, limit=4)
    names = ["../../x", "a/b", "a_b", ""]
    column = listing.table.schema.get_field_index("id")
    table = listing.table.set_column(column, "id", [names])
    hostile = type(listing)(table, listing.total)
    export_folders(hostile, tmp_path / "out", lambda _: b"\x89PNG")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
