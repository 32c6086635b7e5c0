"""A command line to drive in-process, and one small indexed data set for all commands."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from failsearch.cli import main
from tests.support.classifier import make_small_index


@dataclass(frozen=True)
class Ran:
    """What one command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, as the console script would."""

    def _run(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = end.value.code
        return Ran(int(code or 0), captured.out, captured.err)

    return _run


@dataclass(frozen=True)
class Place:
    """Images, a timm folder and the database made of them through the command line."""

    images: Path
    model: Path
    db: Path


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Index 240 small images of three classes."""
    folder = tmp_path_factory.mktemp("cli")
    made = make_small_index(folder, images_per_class=80)
    db = folder / "failures.lancedb"
    with pytest.raises(SystemExit) as end:
        main(["index", str(folder / "images"), "--model", f"local-dir:{made.model_folder}",
              "--db", str(db)])  # fmt: skip
    assert not end.value.code
    return Place(folder / "images", made.model_folder, db)


@pytest.fixture
def own(place: Place, tmp_path: Path) -> Place:
    """A copy of the database that a test may write to."""
    return Place(
        place.images, place.model, Path(shutil.copytree(place.db, tmp_path / "own.lancedb"))
    )
