"""Consent to the code that an index names, from the command line and in the web app."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from failsearch.web.app import create_app
from failsearch.web.security import TOKEN_HEADER, Guard

from .conftest import Place, Run

FACTORY = """
from pathlib import Path

import timm

Path(__file__).with_name("ran").touch()

def make():
    return timm.create_model({spec!r}, pretrained=True)
"""


@pytest.fixture
def module(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that makes the model of the small index, with nothing trusted yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.setenv("FAILSEARCH_TRUST_MODEL", "0")
    made = tmp_path / f"factory_of_{tmp_path.name}.py"
    made.write_text(FACTORY.format(spec=f"local-dir:{place.model}"))
    yield made
    sys.modules.pop(made.stem, None)


@pytest.fixture
def shared(own: Place, module: Path) -> Path:
    """An index as somebody else hands it on: its manifest names the module."""
    manifest = own.db / "manifest.json"
    document = json.loads(manifest.read_text())
    document["model"].update(spec=f"{module.stem}:make", folder=str(module.parent))
    manifest.write_text(json.dumps(document))
    return own.db


def a_sample(run: Run, db: Path) -> str:
    listing = run("failures", "--limit", "1", "--db", db, "--json").document
    return listing["failures"][0]["id"]


def test_a_strangers_index_runs_its_module_only_when_told_to(
    run: Run, shared: Path, module: Path, tmp_path: Path
) -> None:
    command = ("explain", a_sample(run, shared), "--db", shared, "--out", tmp_path / "out")

    refused = run(*command)

    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert f"{module.stem!r} from {module.parent}" in refused.err
    assert not module.with_name("ran").exists()
    assert run("--trust-model", *command).code == 0
    assert module.with_name("ran").exists()


def test_the_module_that_one_indexed_with_needs_no_further_word(
    run: Run, place: Place, module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(module.parent)
    db = tmp_path / "mine.lancedb"
    assert run("index", place.images, "--model", f"{module.stem}:make", "--db", db).code == 0
    monkeypatch.chdir("/")

    done = run("explain", a_sample(run, db), "--db", db, "--out", tmp_path / "out")

    assert done.code == 0, done.err


def test_the_pages_say_what_would_be_imported_and_import_nothing(
    shared: Path, module: Path
) -> None:
    guard = Guard(frozenset({"127.0.0.1:8765"}))
    headers = {TOKEN_HEADER: guard.form_token}
    app = create_app(shared, guard)
    with TestClient(app, base_url="http://127.0.0.1:8765", headers=headers) as client:
        answer = client.post("/api/model")

    assert answer.status_code == 400
    assert f"{module.stem!r} from {module.parent}" in answer.json()["detail"]
    assert not module.with_name("ran").exists()
