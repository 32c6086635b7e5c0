"""What the pages show and the API answers."""

import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

import failsearch
from failsearch.report import write_report
from indexer.durability import disk_errors
from indexer.store import Store
from search.audit.report import AuditReport, Finding, write_findings
from search.listing import list_samples
from search.modes import read_modes
from search.modes.stored import write_modes
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


def test_decisions_are_stored_and_exported(connect: Connect, own_index: Path) -> None:
    client = connect(own_index)

    def decide(id: str, verdict: str, right: str | None = None) -> int:
        body = {"id": id, "verdict": verdict, "right": right}
        return client.post("/api/audit/decide", json=body).status_code

    assert decide("r0", "fine") == 200
    assert decide("r0", "wrong label", HOSTILE[1]) == 200
    assert decide("r1", "not an image") == 200
    assert decide("r2", "ambiguous") == 200
    assert decide("r3", "wrong label") == 400
    assert decide("r3", "wrong label", HOSTILE[0]) == 400
    assert decide("r3", "whatever") == 400
    assert decide("r999", "fine") == 404
    answer = client.get("/api/audit/manifest.csv")
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(answer.content.decode()))}
    assert len(rows) == 119
    assert "r1" not in rows
    assert rows["r0"]["label"] == HOSTILE[1]
    assert rows["r0"]["original_label"] == HOSTILE[0]
    assert rows["r2"]["label"] == HOSTILE[0]
    assert len(client.get("/api/audit").json()["decisions"]) == 3


def found(kind: str, subject: str = "r0", samples: tuple[str, ...] = ("r0", "r1")) -> Finding:
    return Finding(kind, 0.9, subject, samples, f"<b>seen</b> by {kind}")


def test_findings_of_every_kind_are_shown(
    connect: Connect, own_index: Path, tmp_path: Path
) -> None:
    kinds = ("labels", "cleanlab", "images", "ghosts")
    findings = [found(kind) for kind in kinds]
    findings.append(found("images", "grayscale"))
    write_findings(Store.open(own_index), AuditReport(tuple(findings), kinds))
    client = connect(own_index)
    assert ">Image checks <" in client.get("/audit", headers=HTML).text
    for kind in kinds:
        page = client.get(f"/audit?kind={kind}", headers=HTML).text
        assert f"&lt;b&gt;seen&lt;/b&gt; by {kind}" in page
        # An image that is dark has no better label; whether it is an image at all can be said.
        assert ('data-verdict="wrong label"' in page) == (kind != "images")
        assert page.count('data-verdict="not an image"') == 1
        assert client.get(f"/api/audit?kind={kind}").json()["findings"]
    assert "<code>grayscale</code>" in client.get("/audit?kind=images", headers=HTML).text
    assert client.get("/audit?kind=unheard-of", headers=HTML).status_code == 400
    assert "choose labels" in client.get("/api/audit?kind=unheard-of").json()["detail"]
    write_report(failsearch.open(own_index), tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text()
    for title in ("Wrong labels", "cleanlab", "Image checks", "ghosts"):
        assert f"<h2>Audit: {title}</h2>" in report


def test_for_copies_only_labels_of_copies_are_offered(connect: Connect, own_index: Path) -> None:
    store = Store.open(own_index)

    def offered(kind: str, labels: list[str], suggested: str | None = None) -> list[str]:
        copies = replace(found(kind), evidence={"labels": labels}, suggested_name=suggested)
        write_findings(store, AuditReport((copies,), (kind,)))
        page = connect(own_index).get(f"/audit?kind={kind}", headers=HTML).text
        assert 'data-verdict="fine"' in page
        return [unescape(name) for name in re.findall(r'data-right="([^"]*)"', page)]

    given, other, third = HOSTILE[0], HOSTILE[2], HOSTILE[3]  # r0 is predicted as HOSTILE[1]
    for kind in ("duplicates", "cleanlab"):
        assert offered(kind, [given, given]) == []
        assert offered(kind, [given, other, given]) == [other]
        assert offered(kind, [given, "no class of this index"]) == []
    assert offered("duplicates", [given, other, third, third], third) == [third, other]
    assert offered("images", [given, other]) == []


def test_an_audit_can_ask_cleanlab(connect: Connect, own_index: Path) -> None:
    for extra in ("cleanlab", "cleanvision", "datasets"):
        pytest.importorskip(extra)
    client = connect(own_index)
    assert 'data-start="/api/audit/run?cleanlab=true"' in client.get("/audit", headers=HTML).text
    assert client.post("/api/audit/run?cleanlab=true").status_code == 202
    # This index is of arrays: there are no originals for the image checks to look at.
    assert "arrays" in finished(client)["error"]
    assert client.post("/api/audit/run").status_code == 202
    assert finished(client)["address"] == "/audit"


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


def test_what_was_looked_for_in_vain_is_not_offered_as_new(
    connect: Connect, own_index: Path
) -> None:
    store = Store.open(own_index)
    modes = read_modes(store)
    cause = found("causes", modes.modes[0].id, modes.modes[0].samples[:2])
    write_findings(store, AuditReport((cause,), ("causes",)))
    client = connect(own_index)
    page = client.get("/audit", headers=HTML).text
    assert modes.modes[0].name in unescape(page)
    write_modes(store, replace(modes, modes=(), ungrouped=failing_ids(store)))
    page = client.get("/audit?kind=causes", headers=HTML).text
    assert "Nothing of this kind was found" in page
    assert "or the modes have changed since" in page
    assert "not been audited" not in page
    page = client.get("/modes", headers=HTML).text
    assert "too few, or too different" in page
    assert "Find modes again" in page


def test_findings_about_modes_go_by_the_names_of_today(
    connect: Connect, own_index: Path, tmp_path: Path
) -> None:
    store = Store.open(own_index)
    mode = read_modes(store).modes[0]
    weak = replace(found("filters", "layer:3"), evidence={"modes": [{"id": mode.id}]})
    # A sample may have the id of a mode.
    findings = (found("causes", mode.id, mode.samples[:2]), weak, found("ghosts", mode.id))
    write_findings(store, AuditReport(findings, ("causes", "filters", "ghosts")))
    client = connect(own_index)
    assert client.post("/api/modes/rename", json={"id": mode.id, "name": "seen"}).status_code == 200
    page = client.get("/audit?kind=causes", headers=HTML).text
    assert f'<a href="/modes/{mode.id}"><bdi>seen</bdi></a>' in page
    page = client.get("/audit?kind=filters", headers=HTML).text
    assert f'These modes: <a href="/modes/{mode.id}">{mode.id} <bdi>seen</bdi></a>' in page
    assert "seen</bdi>" not in client.get("/audit?kind=ghosts", headers=HTML).text
    write_report(failsearch.open(own_index), tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text()
    assert report.count("<b><bdi>seen</bdi></b>: ") == 1
    assert f"These modes: {mode.id} <bdi>seen</bdi></p>" in report


def failing_ids(store: Store) -> tuple[str, ...]:
    """Return the ids of all failures."""
    return tuple(store.read(["id"], "NOT correct")["id"].to_pylist())


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
