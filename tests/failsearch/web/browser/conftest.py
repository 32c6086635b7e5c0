"""A real Chromium, and the app behind a real socket."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvicorn

from failsearch.web.app import create_app
from failsearch.web.security import Guard
from failsearch.web.server import _listen
from indexer.store import Store
from search.audit.report import AuditReport, Finding, write_findings
from search.modes import form_mode

from ..conftest import HOSTILE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Server:
    """The app behind a real socket, stopped at the end or in the middle of a test."""

    def __init__(self, database: Path) -> None:
        listening = _listen("127.0.0.1", 0)
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        self.database = database
        self.address = f"http://{host}"
        app = create_app(database, Guard(frozenset({host})))
        # A second for open connections to close: one left open would take requests after the end.
        config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],))
        self._thread.start()

    @property
    def store(self) -> Store:
        """The database, opened as another process would."""
        return Store.open(self.database)

    def stop(self) -> None:
        """Stop answering."""
        self._server.should_exit = True
        self._thread.join(20)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    """A page on which an error in a script, or a dialog that nobody expected, fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(120_000)
    opened, errors = context.new_page(), []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("dialog", lambda dialog: errors.append(f"dialog {dialog.message}"))
    yield opened
    context.close()
    assert errors == []


@pytest.fixture
def hostile(own_index: Path) -> Iterator[Server]:
    """An index whose names are hostile, with three suspects to review."""
    findings = [
        Finding("labels", 1 - row / 10, f"r{row}", (f"r{row}", "r60", "r64"), "looks wrong",
                label_name=HOSTILE[0], suggested_name=HOSTILE[1], suggested_probability=0.9)
        for row in range(3)
    ]  # fmt: skip
    write_findings(Store.open(own_index), AuditReport(tuple(findings), ("labels",)))
    server = Server(own_index)
    yield server
    server.stop()


@pytest.fixture
def asked(model_index: Path, tmp_path: Path) -> Iterator[Server]:
    """An index with a model, whose failures are one mode, large enough to be repaired."""
    server = Server(Path(shutil.copytree(model_index, tmp_path / "own.lancedb")))
    failures = server.store.read(["id"], "NOT correct")["id"].to_pylist()
    form_mode(server.store, failures)
    yield server
    server.stop()
