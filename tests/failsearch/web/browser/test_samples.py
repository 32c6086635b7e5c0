"""Pages that ask the model: heat-map, brush, paste, an image of one's own, repairs."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from failsearch.web import jobs
from finetune.records import list_repairs
from tests.support.pictures import encode, picture

from .conftest import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_a_brush_moves_the_probabilities(page: "Page", asked: Server, failure: dict) -> None:
    page.goto(f"{asked.address}/sample?{urlencode({'id': failure['id']})}")
    page.click("#explain")
    page.wait_for_selector("#tools:not([hidden])")
    box = page.locator(".brush").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    page.wait_for_selector("#answer table")
    assert "random place" in page.locator("#answer").inner_text()
    page.click("#paste")
    page.wait_for_selector("#answer .gallery img")
    page.locator("#opacity").fill("0")
    assert page.locator(".heat").evaluate("node => getComputedStyle(node).opacity") == "0"


def test_the_hottest_pixels_are_brushed_without_a_pointer(
    page: "Page", asked: Server, failure: dict
) -> None:
    page.goto(f"{asked.address}/sample?{urlencode({'id': failure['id']})}")
    page.focus("#explain")
    page.keyboard.press("Enter")
    page.wait_for_selector("#tools:not([hidden])")
    page.focus("#salient")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer table")
    page.click("#clear")
    assert page.locator("#answer").is_hidden()


def test_an_image_is_dropped_and_its_neighbours_come(
    page: "Page", asked: Server, tmp_path: Path
) -> None:
    file = tmp_path / "thirty megapixels.png"
    file.write_bytes(encode(picture(size=(6000, 5000))))
    page.goto(asked.address + "/search")
    page.set_input_files("#file", file)
    page.fill("#label", "cross")
    page.click("#by-image button")
    page.wait_for_selector("#results .card")
    page.fill("#label", "no such class")
    page.click("#by-image button")
    page.wait_for_selector("#notices div:has-text('no such class')")


def test_several_liked_ones_are_searched_for(page: "Page", asked: Server, failure: dict) -> None:
    page.goto(f"{asked.address}/search?{urlencode({'id': failure['id']})}")
    page.locator(".like").first.click()
    page.locator(".neighbours .card").nth(1).focus()
    page.keyboard.press("l")
    page.click("text=Search by the 2 I like")
    page.wait_for_selector("h2:has-text('What these have in common')")
    assert page.locator("#results .panel").first.locator(".card").count() == 3


def test_a_mode_is_repaired_behind_the_page(page: "Page", asked: Server) -> None:
    page.goto(asked.address + "/repairs")
    page.locator("[data-start]").first.click()
    page.wait_for_url(re.compile("/repairs/r1$"))
    assert page.locator("h2:has-text('Verdict: it')").is_visible()
    assert page.locator("tr:has-text('control: random filters')").is_visible()
    assert page.locator(".card:has-text('never seen')").count() > 0
    with page.expect_download() as saved:
        page.click("text=Download the patch")
    assert saved.value.suggested_filename == "r1.patch.safetensors"
    page.goto(asked.address + "/repairs")
    assert page.locator("tr:has-text('r1')").is_visible()


def test_a_repair_is_stopped(page: "Page", asked: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = jobs._Tracker.advance

    def wait_for_the_stop(tracker: jobs._Tracker, count: int) -> None:
        while tracker._job.state == "running":  # the repair would be done in seconds
            time.sleep(0.01)
        advance(tracker, count)

    monkeypatch.setattr(jobs._Tracker, "advance", wait_for_the_stop)
    page.goto(asked.address + "/repairs")
    page.locator("[data-start]").first.click()
    page.wait_for_selector("#job:not([hidden]) [data-job-step]")
    page.click("[data-job-stop]")
    page.wait_for_selector("[data-job-step]:has-text('nothing was changed')")
    assert list_repairs(asked.store) == []
