"""What holds on every page: nothing hostile runs, everything fits, keys work, losses are said."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from indexer.schema import SAMPLES
from search.audit.decisions import read_decisions

from ..conftest import HOSTILE, make_hostile_index
from .conftest import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
    [...document.body.querySelectorAll("*")]
        .filter((one) => one.getBoundingClientRect().right > innerWidth)
        .map((one) => `${one.tagName}.${one.className}`)"""
"""What sticks out of a page that is wider than its window."""

NAMELESS = re.compile(r"\s*- (link|button|textbox|combobox|checkbox|slider|img)( \[.*\])?:?$")
"""A line of the accessibility tree that has a role and no name."""

PAGES = ("/", "/failures", "/search?id=r0", "/modes", "/modes/m1", "/map", "/audit", "/repairs",
         "/sample?id=r0")  # fmt: skip


def test_hostile_names_are_shown_and_do_nothing(page: "Page", hostile: Server) -> None:
    for path in PAGES:
        page.goto(hostile.address + path)
        page.wait_for_load_state("networkidle")
        assert page.locator("main").is_visible()
    assert HOSTILE[0] in page.locator("h1").inner_text()


@pytest.mark.parametrize("width", [360, 1200, 3840])
def test_no_page_is_wider_than_the_window(page: "Page", hostile: Server, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for path in PAGES:
        page.goto(hostile.address + path)
        assert page.evaluate(WIDE) == [], path


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_end_in_an_ellipsis(page: "Page", tmp_path: Path, width: int) -> None:
    names = ("antidisestablishmentarianism" * 5, "a whole sentence, with commas " * 5, "c", "d")
    server = Server(make_hostile_index(tmp_path / "long.lancedb", names).path)
    page.set_viewport_size({"width": width, "height": 900})
    try:
        for path in (*PAGES[:5], "/sample?id=r0"):
            page.goto(server.address + path)
            assert page.evaluate(WIDE) == [], path
            heights = page.locator(".card .caption").evaluate_all(
                "cards => cards.map((one) => one.offsetHeight)"
            )
            assert max(heights, default=0) < 140, path
        card = page.locator(".card").first
        assert names[0] in (card.get_attribute("title") or "")
        assert names[1] in (card.get_attribute("title") or "")
    finally:
        server.stop()


def test_a_thousand_classes_fit(page: "Page", tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(1000))
    server = Server(make_hostile_index(tmp_path / "many.lancedb", names, 1000).path)
    try:
        page.goto(server.address)
        assert page.locator(".matrix tbody tr").count() == 24
        assert page.evaluate(WIDE) == []
        page.click(".matrix .shade-10 a")
        page.wait_for_selector("h1:has-text('24 failures')")
    finally:
        server.stop()


def test_pages_and_pictures_are_reached_by_keyboard(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address)
    for key, path in (("f", "/failures"), ("m", "/modes"), ("a", "/audit"), ("o", "/")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(hostile.address + path)
    page.goto(hostile.address + "/failures?among=all&sort=id")
    cards = page.locator(".card")
    cards.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.id") == cards.nth(1).get_attribute(
        "data-id"
    )
    page.keyboard.press("n")
    page.wait_for_url(re.compile("page=2"))
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "among"


def test_letters_can_be_switched_off_as_shortcuts(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address + "/failures?among=all&sort=id")
    page.get_by_label("Letters are shortcuts").uncheck()
    page.reload()
    for key in ("n", "/", "g", "m"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement === document.body")
    page.goto(hostile.address + "/audit")
    page.locator(".finding:focus").wait_for()
    for key in ("1", "x", "ArrowDown"):
        page.keyboard.press(key)
    assert page.locator(".finding").nth(1).evaluate("one => one === document.activeElement")
    assert read_decisions(hostile.store) == {}
    page.get_by_label("Letters are shortcuts").check()
    page.goto(hostile.address)
    page.keyboard.press("g")
    page.keyboard.press("m")
    page.wait_for_url(hostile.address + "/modes")


def test_a_lost_server_is_said(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address + "/modes/m1")
    hostile.stop()
    page.fill("input[name=name]", "another")
    page.click("form[data-edit='/api/modes/rename'] button")
    page.wait_for_selector("#notices div")
    assert "does not answer" in page.locator("#notices").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#notices div").count() == 0


def test_a_lost_original_gives_way_to_its_thumbnail(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address + "/sample?id=r0")
    page.wait_for_function("document.querySelector('.picture').src.includes('/thumbnail?')")
    page.wait_for_function("document.querySelector('.picture').naturalWidth > 0")
    assert "not where it was indexed" in (page.locator(".picture").get_attribute("title") or "")


def test_every_control_has_a_name(page: "Page", hostile: Server) -> None:
    for path in PAGES:
        page.goto(hostile.address + path)
        nameless = [
            line
            for line in page.locator("body").aria_snapshot().splitlines()
            if NAMELESS.match(line)
        ]
        assert nameless == [], path
        assert page.locator("main h1").count() == 1, path


def test_a_page_of_an_older_version_says_so(page: "Page", hostile: Server) -> None:
    page.goto(hostile.address + "/modes/m1")
    store = hostile.store
    row = store.table(SAMPLES).search().where("id = 'r119'").to_arrow()
    row = row.set_column(row.schema.get_field_index("id"), "id", pa.array(["new"]))
    store.append_samples(row.to_reader())
    page.fill("input[name=name]", "another")
    page.click("form[data-edit='/api/modes/rename'] button")
    page.wait_for_selector("#notices div:has-text('has changed since this page was loaded')")
    page.reload()
    page.wait_for_load_state("networkidle")
    page.fill("input[name=name]", "another")
    page.click("form[data-edit='/api/modes/rename'] button")
    page.wait_for_selector("h1:has-text('another')")
