"""What the pages show and the API answers."""

import csv
import errno
import html
import io
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from indexer.durability import disk_errors
from indexer.store import Store
from search.listing import list_samples
from search.modes import read_modes
from search.neighbours import search
from search.snapshot import snapshot
from tests.support.arrays import index_of_arrays

from .conftest import HOSTILE, Connect, finished, make_hostile_index

HTML = {"accept": "text/html"}


def test_overview_counts(client: TestClient) -> None:
    found = client.get("/api/overview").json()
    assert (found["samples"], found["failures"]) == (120, 48)
    assert [pair["count"] for pair in found["pairs"]] == [24, 24]
    assert client.get("/", headers=HTML).text.count("shade-10") == 2


def test_the_gallery_agrees_with_the_library(client: TestClient, hostile_index: Path) -> None:
    store = Store.open(hostile_index)
    expected = list_samples(store, filters=["confidence>0.5"], sort="confidence")
    shown = client.get("/api/failures?filter=confidence>0.5&sort=confidence").json()
    assert [row["id"] for row in shown["failures"]] == [sample.id for sample in expected]
    assert shown["total"] == expected.total


@pytest.mark.parametrize(
    ("expression", "count"),
    [("speed>0.5", 5), ("speed!=1", 4), ("taken>2024-01-02T00:00:00", 4), ("taken<=2024-01-02", 5)],
)
def test_gaps_and_zones_are_filtered_alike_everywhere(
    connect: Connect, tmp_path: Path, expression: str, count: int
) -> None:
    evening = datetime(2024, 1, 1, 22, tzinfo=timezone(timedelta(hours=2)))
    store = index_of_arrays(
        tmp_path / "gaps.lancedb",
        raw=np.random.default_rng(0).lognormal(-3, 1, (9, 4)).astype(np.float32),
        logits=np.eye(2, dtype=np.float32)[np.ones(9, int)],
        labels=np.zeros(9, int),
        names=("cat", "dog"),
        metadata={
            "speed": [float("nan")] * 4 + [1.0] * 5,
            "taken": [evening + timedelta(hours=row) for row in range(9)],
        },
    )
    expected = list_samples(store, filters=[expression])
    shown = connect(store.path).get("/api/failures", params={"filter": expression}).json()
    assert shown["total"] == expected.total == count
    assert {row["id"] for row in shown["failures"]} == {sample.id for sample in expected}


def test_the_gallery_pages_and_sorts_by_id(client: TestClient) -> None:
    first = client.get("/api/failures?among=all&sort=id").json()
    second = client.get("/api/failures?among=all&sort=id&page=2").json()
    ids = [row["id"] for row in (*first["failures"], *second["failures"])]
    assert ids == sorted(ids)
    assert len(set(ids)) == 120
    assert client.get("/api/failures?page=999").json()["page"] == 1


@pytest.mark.parametrize(
    ("query", "status"),
    [("sort=nothing", 400), ("filter=x", 400), ("filter=confidence>x", 400), ("page=0", 422),
     ("among=some", 422), ("mode=m99", 404)],
)  # fmt: skip
def test_bad_questions_get_one_line(client: TestClient, query: str, status: int) -> None:
    answer = client.get(f"/api/failures?{query}")
    assert answer.status_code == status
    assert "\n" not in answer.json()["detail"]
    page = client.get(f"/failures?{query}", headers=HTML)
    assert page.status_code == status
    assert page.headers["content-type"].startswith("text/html")
    assert answer.json()["detail"] in html.unescape(page.text)


def test_exports_hold_everything_that_is_shown(client: TestClient) -> None:
    for form, read in (
        ("csv", lambda data: list(csv.DictReader(io.StringIO(data.decode())))),
        ("parquet", lambda data: pq.read_table(io.BytesIO(data)).to_pylist()),
    ):
        answer = client.get("/api/failures/export", params={"form": form, "mode": "m1"})
        assert "attachment" in answer.headers["content-disposition"]
        rows = read(answer.content)
        assert len(rows) == 24
        assert {row["mode"] for row in rows} == {"m1"}


def test_a_sample_shows_what_is_known_of_it(client: TestClient, hostile_index: Path) -> None:
    found = client.get("/api/sample?id=r3").json()
    assert found["top"][0]["name"] == HOSTILE[1]
    assert found["mode"] in ("m1", "m2")
    scores = [entry["score"] for entry in found["filters"]]
    assert scores == sorted(scores, reverse=True)
    page = client.get("/sample?id=r3", headers=HTML).text
    nearest = search(Store.open(hostile_index), "r3").neighbours[0]
    assert f'data-id="{nearest.sample.id}"' in page
    assert f"{nearest.score:.3f}" in page
    assert client.get("/thumbnail?id=r3").content.startswith(b"\xff\xd8")


def test_a_lost_data_set_is_said(client: TestClient) -> None:
    answer = client.get("/image?id=r3")
    assert answer.status_code == 400
    assert "arrays" in answer.json()["detail"]


def test_search_by_one_and_by_several(client: TestClient, hostile_index: Path) -> None:
    store = Store.open(hostile_index)
    one = client.get("/api/search?id=r1&k=5").json()
    assert one["neighbours"] == search(store, "r1").to_json()["neighbours"][:5]
    several = client.get("/api/search?id=r1&id=r2").json()
    assert [sample["id"] for sample in several["query"]] == ["r1", "r2"]
    assert not {"r1", "r2"} & {row["id"] for row in several["neighbours"]}
    assert client.get("/api/search").status_code == 422


def test_a_page_of_another_version_is_refused(client: TestClient) -> None:
    version = str(client.get("/api/overview").json()["version"])
    header = "x-failsearch-version"
    assert client.get("/api/failures", headers={header: version}).status_code == 200
    answer = client.get("/api/failures", headers={header: "0"})
    assert answer.status_code == 409
    assert "reload" in answer.json()["detail"]


def test_modes_are_renamed_merged_split_and_formed(connect: Connect, own_index: Path) -> None:
    client = connect(own_index)
    assert client.get("/modes", headers=HTML).text.count('<li class="panel mode">') == 2
    renamed = client.post("/api/modes/rename", json={"id": "m1", "name": HOSTILE[0]})
    assert renamed.json()["name"] == HOSTILE[0]
    assert "<img src=x" not in client.get("/modes/m1", headers=HTML).text
    parts = client.post("/api/modes/split", json={"id": "m1", "parts": 3})
    assert parts.status_code == 200
    assert len(client.get("/api/modes").json()["modes"]) == 4
    merged = client.post("/api/modes/merge", json={"ids": ["m1", "m2"]}).json()
    assert merged["id"] == "m1"
    assert client.post("/api/modes/merge", json={"ids": ["m1"]}).status_code == 400
    formed = client.post("/api/modes/form", json={"samples": ["r0", "r30"]}).json()
    assert sorted(formed["samples"]) == ["r0", "r30"]
    stored = read_modes(Store.open(own_index))
    assert sum(mode.size for mode in stored.modes) + len(stored.ungrouped) == 48
    assert client.post("/api/modes/form", json={"samples": ["r119"]}).status_code == 404


def test_an_index_with_nothing_found_says_what_to_do(connect: Connect, own_index: Path) -> None:
    import shutil

    shutil.rmtree(own_index / "modes.lance")
    client = connect(own_index)
    assert 'data-start="/api/modes/find"' in client.get("/modes", headers=HTML).text
    assert 'data-start="/api/audit/run"' in client.get("/audit", headers=HTML).text
    assert client.get("/repairs", headers=HTML).status_code == 200
    assert client.get("/api/modes").status_code == 404


def test_an_index_without_failures_offers_nothing_to_do_about_them(
    connect: Connect, tmp_path: Path
) -> None:
    labels = np.arange(40) % 4
    index_of_arrays(
        tmp_path / "right.lancedb",
        raw=np.random.default_rng(0).lognormal(-3, 0.5, (40, 8)).astype(np.float32),
        logits=5 * np.eye(4, dtype=np.float32)[labels],
        labels=labels,
        names="abcd",
    )
    client = connect(tmp_path / "right.lancedb")
    for path, said in (
        ("/", "nothing to group"),
        ("/failures", "gets every image right"),
        ("/modes", "Nothing to group"),
        ("/map", "nothing to lay out"),
        ("/repairs", "nothing to repair"),
        ("/search", "By images of the index"),
        ("/audit", "not been audited yet"),
        ("/sample?id=r0", "recognised"),
    ):
        page = client.get(path, headers=HTML)
        assert page.status_code == 200
        assert said in page.text
        for offered in ("Find failure modes", "Lay out the map", "Search for a repair", "Try the"):
            assert offered not in page.text


def test_an_unknown_address_is_said_once(client: TestClient) -> None:
    page = client.get("/nonsense", headers=HTML)
    assert page.status_code == 404
    assert "<h1>Not found</h1>" in page.text
    assert page.text.lower().count("not found") == 2  # the heading and the title of the window
    assert client.get("/nonsense").json()["detail"] == "there is nothing at this address"
    assert "method" in client.post("/failures").json()["detail"]


def test_a_lost_index_is_said_on_a_page(connect: Connect, own_index: Path) -> None:
    client = connect(own_index)
    own_index.rename(own_index.with_name("elsewhere"))
    page = client.get("/", headers=HTML)
    assert page.status_code == 404
    assert "<h1>Not found</h1>" in page.text


@pytest.mark.parametrize(
    ("number", "status", "heading", "detail"),
    [
        (errno.ENOSPC, 507, "The disk is full", "make room"),
        (errno.EACCES, 500, "Something broke", "permission denied"),
    ],
)
def test_a_disk_that_refuses_is_not_taken_for_something_absent(
    connect: Connect,
    own_index: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    status: int,
    heading: str,
    detail: str,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    client = connect(own_index)
    monkeypatch.setattr("indexer.durability.os.fsync", refuse)
    answer = client.post("/api/modes/rename", json={"id": "m1", "name": "dark"})
    assert answer.status_code == status
    assert detail in answer.json()["detail"]
    monkeypatch.undo()
    monkeypatch.setattr("search.confusion.ConfusionMatrix.drawn", lambda _: refused(number))
    assert f"<h1>{heading}</h1>" in client.get("/", headers=HTML).text


def refused(number: int) -> None:
    with disk_errors(Path("an.lancedb")):
        raise OSError(number, os.strerror(number))


def test_an_index_of_a_later_version_is_said(connect: Connect, own_index: Path) -> None:
    client = connect(own_index)
    file = own_index / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 99}))
    answer = client.get("/api/overview")
    page = client.get("/", headers=HTML)
    assert answer.status_code == page.status_code == 409
    assert "upgrade failsearch" in answer.json()["detail"]
    assert "upgrade failsearch" in page.text


def test_a_fault_of_the_server_is_said(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.confusion.ConfusionMatrix.drawn", None)
    page = client.get("/", headers=HTML)
    assert page.status_code == 500
    assert "Something broke" in page.text
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_map_places_every_failure(connect: Connect, own_index: Path) -> None:
    client = connect(own_index)
    assert client.get("/api/map").status_code == 404
    assert 'data-start="/api/map/make"' in client.get("/map", headers=HTML).text
    assert client.post("/api/map/make").status_code == 202
    assert finished(client)["address"] == "/map"
    found = client.get("/api/map").json()
    assert len(found["ids"]) == len(found["x"]) == len(found["mode"]) == 48
    assert all(0 <= value <= 1 for value in (*found["x"], *found["y"]))
    assert {*found["label"], *found["prediction"]} == set(HOSTILE[:3])
    assert '<canvas id="map"' in client.get("/map", headers=HTML).text


def test_a_thousand_classes_stay_small(connect: Connect, tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(1000))
    store = make_hostile_index(tmp_path / "many.lancedb", names, 1000)
    client = connect(store.path)
    page = client.get("/", headers=HTML)
    assert "24 most confused classes" in page.text
    assert len(page.content) < 60_000
    assert client.get("/failures", headers=HTML).status_code == 200


def test_the_first_page_takes_no_database_and_no_model(hostile_index: Path) -> None:
    snapshot(Store.open(hostile_index))  # as `failsearch index` leaves it
    program = (
        "import sys; from pathlib import Path; from starlette.testclient import TestClient;"
        "from failsearch.web.app import create_app; from failsearch.web.security import Guard;"
        "app = create_app(Path(sys.argv[1]), Guard(frozenset({'testserver'})));"
        "assert TestClient(app).get('/').status_code == 200;"
        "assert not {'lancedb', 'torch', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(hostile_index)], check=True)
