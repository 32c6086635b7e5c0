"""The report as a reader opens it: from a file, without a network, and on paper."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import failsearch
from failsearch.report import write_report

from .conftest import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_a_report_opens_from_a_file_and_prints(
    page: "Page", hostile: Server, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    write_report(failsearch.open(hostile.database), out)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(out.as_uri())
    page.wait_for_load_state("networkidle")
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", out.as_uri()))] == []
    broken = "[...document.images].filter((image) => !image.naturalWidth).length"
    assert page.locator("img").count() > 4
    assert page.evaluate(broken) == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
