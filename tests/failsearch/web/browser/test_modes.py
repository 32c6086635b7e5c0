"""Modes by hand: named, merged, split, drawn on the map."""

import re
from typing import TYPE_CHECKING

import pytest

from search.modes import read_modes

from .conftest import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_modes_are_renamed_split_and_merged(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address + "/modes/m1")
    page.fill("input[name=name]", "<b>mine</b>")
    page.click("text=Rename")
    page.wait_for_selector("h1:has-text('<b>mine</b>')")
    page.fill("input[name=parts]", "3")
    page.click("text=Split into parts")
    page.wait_for_selector("h1:has-text('4 failure modes')")
    boxes = page.locator(".modes input[type=checkbox]")
    for number in range(4):
        boxes.nth(number).check()
    page.click("text=Merge the ticked modes")
    page.wait_for_selector("h1:has-text('1 failure mode')")
    (mode,) = read_modes(hostile.store).modes
    assert mode.size == 48


def test_finding_modes_again_asks_before_it_replaces_edits(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address + "/modes/m1")
    page.fill("input[name=name]", "mine")
    page.click("text=Rename")
    page.wait_for_selector("h1:has-text('mine')")
    page.goto(hostile.address + "/modes")
    page.evaluate("void (confirm = () => false)")
    page.click("text=Find modes again")
    assert page.locator("[data-job]").is_hidden()
    page.evaluate("void (confirm = (text) => text.includes('by hand'))")
    page.click("text=Find modes again")
    page.wait_for_selector("body:not(:has-text('mine'))")


def test_a_lasso_becomes_a_gallery_and_a_mode(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address + "/map")
    page.click("text=Lay out the map")
    page.locator("#legend button").first.wait_for()
    box = page.locator("#map").bounding_box()
    assert box is not None
    left, top, right, bottom = (
        box["x"] + 1, box["y"] + 1, box["x"] + box["width"] - 1, box["y"] + box["height"] - 1,
    )  # fmt: skip
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    assert page.locator("#selected h2").inner_text() == "48 failures selected"
    assert page.locator("#selected .card").count() == 48
    page.click("#as-mode")
    page.wait_for_url(re.compile(r"/modes/m\d+$"))
    (mode,) = read_modes(hostile.store).modes
    assert mode.size == 48


def test_a_mode_is_picked_from_the_legend(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address + "/map")
    page.click("text=Lay out the map")
    page.locator("#legend button").first.wait_for()
    page.goto(hostile.address + "/map?mode=m2")
    assert page.locator("#legend [aria-pressed=true]").get_attribute("data-mode") == "m2"
    assert page.locator("#selected h2").inner_text() == "24 failures selected"
    page.locator("#legend [aria-pressed=true]").press("Enter")
    assert page.locator("#selected").is_hidden()
    page.locator("#legend button").first.press("Enter")
    assert page.locator("#selected").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#selected").is_hidden()
    assert page.locator("#legend [aria-pressed=true]").count() == 0
