"""What the audit pages show and take."""

import csv
import io
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

import failsearch
from failsearch.report import write_report
from indexer.store import Store
from search.audit.report import AuditReport, Finding, write_findings
from search.modes import read_modes
from search.modes.stored import write_modes

from .conftest import HOSTILE, Connect, finished

HTML = {"accept": "text/html"}


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


def test_findings_that_are_not_kept_are_counted(
    connect: Connect, own_index: Path, tmp_path: Path
) -> None:
    report = AuditReport((found("labels"),), ("labels", "filters"), {"labels": 1234, "filters": 0})
    write_findings(Store.open(own_index), report)
    client = connect(own_index)
    page = client.get("/audit?kind=labels", headers=HTML).text
    assert 'Wrong labels <span class="soft">1,234</span>' in page
    assert "1,234 were found; these are the first 1." in page
    assert client.get("/api/audit?kind=labels").json()["total"] == 1234
    write_report(failsearch.open(own_index), tmp_path / "report.html")
    assert ">and 1,233 more</p>" in (tmp_path / "report.html").read_text()


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
