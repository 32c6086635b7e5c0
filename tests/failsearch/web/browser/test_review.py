"""The review queue in the hands of a person."""

import csv
from typing import TYPE_CHECKING

import pytest

from search.audit.decisions import read_decisions

from ..conftest import HOSTILE
from .conftest import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_suspects_are_reviewed_by_keyboard(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address + "/audit")
    page.locator(".finding:focus").wait_for()
    for count, key in enumerate("1fx"):
        page.keyboard.press(key)
        page.locator(".decided").nth(count).wait_for()
    assert page.locator("#left").inner_text() == "0"
    decisions = read_decisions(hostile.store)
    assert [decisions[f"r{row}"]["verdict"] for row in range(3)] == [
        "wrong label", "fine", "not an image",
    ]  # fmt: skip
    assert decisions["r0"]["right_name"] == HOSTILE[1]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("b")  # a change of mind: the last decision counts
    page.wait_for_selector(".verdict:has-text('ambiguous')")
    assert read_decisions(hostile.store)["r1"]["verdict"] == "ambiguous"


def test_leaving_by_keys_decides_nothing(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address + "/audit")
    page.locator(".finding:focus").wait_for()
    page.keyboard.press("g")
    page.keyboard.press("f")
    page.wait_for_url("**/failures")
    assert read_decisions(hostile.store) == {}


def test_another_class_is_named_and_the_manifest_corrected(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address + "/audit")
    other = page.locator(".other input").first
    other.fill("never mind")
    other.press("Escape")
    assert page.locator(".finding").first.evaluate("one => one === document.activeElement")
    assert other.input_value() == ""
    other.fill("no such class")
    other.press("Enter")
    page.wait_for_selector("#notices div:has-text('needs the class that is right')")
    other.fill(HOSTILE[3])
    other.press("Enter")
    page.wait_for_selector(".verdict:has-text('wrong label')")
    with page.expect_download() as saved:
        page.click("text=Corrected manifest")
    with saved.value.path().open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert rows["r0"]["label"] == HOSTILE[3]
    assert rows["r0"]["original_label"] == HOSTILE[0]
