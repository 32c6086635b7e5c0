"""Repairs beside the modes of today: named and linked only where the mode is still the same."""

from html import unescape
from pathlib import Path

import pytest

import failsearch
from failsearch.report import write_report
from indexer.store import Store
from search.modes import ModeSettings, find_modes, merge_modes, read_modes, rename_mode, split_mode
from tests.support.repairs import record_mode_repair

from .conftest import Connect

HTML = {"accept": "text/html"}
CHANGES = {
    "anew": lambda store: find_modes(store, ModeSettings(neighbours=3, min_support=0.0)),
    "merged": lambda store: merge_modes(store, ["m1", "m2"], name="both"),
    "split": lambda store: split_mode(store, "m1"),
}
EARLIER = "An earlier mode"


def report_of(store: Store, folder: Path) -> str:
    """Return the part of the report that is about repairs."""
    write_report(failsearch.open(store.path), folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text[text.index("<h2>Repair r2") :]


def test_a_repair_follows_its_mode_to_another_name(
    connect: Connect, own_index: Path, tmp_path: Path
) -> None:
    store = Store.open(own_index)
    record_mode_repair(store, read_modes(store).mode("m1"))
    record_mode_repair(store, read_modes(store).mode("m1"), in_vain=True)
    client = connect(own_index)
    assert client.get("/api/repairs").json()["repairs"][0]["mode"] == "m1"
    rename_mode(store, "m1", "night <shots>")
    assert "night &lt;shots&gt;</bdi>" in client.get("/repairs", headers=HTML).text
    page = client.get("/repairs/r1", headers=HTML).text
    assert '<a href="/modes/m1"><bdi>night &lt;shots&gt;</bdi></a>' in page
    assert EARLIER not in page
    page = unescape(client.get("/repairs/r2", headers=HTML).text)
    assert """data-body='{"max_drop": 1.0, "mode": "m1"}'""" in page
    assert "Repair r1" in client.get("/modes/m1", headers=HTML).text
    assert "Repair r1" not in client.get("/modes/m2", headers=HTML).text
    assert "of <bdi>night &lt;shots&gt;</bdi>" in report_of(store, tmp_path)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_a_repair_of_an_earlier_mode_is_no_repair_of_its_successor(
    connect: Connect, own_index: Path, tmp_path: Path, change: str, named: bool
) -> None:
    store = Store.open(own_index)
    mode = read_modes(store).mode("m1")
    record_mode_repair(store, mode, named=named)
    record_mode_repair(store, mode, named=named, in_vain=True)
    title = mode.name if named else "m1"
    client = connect(own_index)
    assert "Repair r1" in client.get("/modes/m1", headers=HTML).text
    CHANGES[change](store)
    assert read_modes(store).mode("m1").samples != mode.samples
    assert "Repair r1" not in client.get("/modes/m1", headers=HTML).text
    rows = unescape(client.get("/repairs", headers=HTML).text)
    assert rows.count(f'>{title}</bdi> <span class="soft">earlier mode</span>') == 2
    for repair in ("r1", "r2"):
        page = client.get(f"/repairs/{repair}", headers=HTML).text
        assert EARLIER in page
        assert 'href="/modes/m1"' not in page
        assert "data-start" not in page
    assert "of an earlier mode, <bdi>" in report_of(store, tmp_path)
    reports = client.get("/api/repairs").json()["repairs"]
    assert [(one["mode"], one["title"]) for one in reports] == 2 * [(None, title)]
