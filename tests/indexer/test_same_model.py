"""Whether a model that has the weights of the index still computes what it did."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.datasets import ImageDataset
from indexer.errors import FailsearchWarning
from indexer.manifest import Manifest
from indexer.models import load_model
from indexer.same_model import open_model
from indexer.store import Store
from indexer.trust import remember
from tests.support.tiny_run import run

MODULE = """
import torch
from tests.support.tiny_run import CLASSES, TinyNet

class Net(TinyNet):
    class_names = CLASSES
    def forward(self, x):
        return super().forward({0})
"""


@pytest.fixture
def written(dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an index made with a module of the user's own."""
    (tmp_path / "own_net.py").write_text(MODULE.format("x"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    monkeypatch.chdir(tmp_path)
    remember("own_net:Net", str(tmp_path))
    run(dataset, tmp_path / "db", load_model("own_net:Net"))
    return Store.open(tmp_path / "db")


def edit(folder: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "own_net.py").write_text(MODULE.format(what))
    monkeypatch.delitem(sys.modules, "own_net")


def test_the_same_code_is_opened_in_silence(written: Store) -> None:
    assert open_model(written).digest == written.manifest.model["weights_digest"]


def test_other_code_with_the_same_weights_is_told(
    written: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(tmp_path, "x * 1.000001", monkeypatch)
    open_model(written)
    edit(tmp_path, "x.flip(3) + 0.5", monkeypatch)
    with pytest.warns(FailsearchWarning, match=r"its logits of 'cat.*' are off by \d+ %\): rest"):
        open_model(written)
    edit(tmp_path, "x * torch.nan", monkeypatch)
    manifest: Manifest = written.manifest
    with written.writer():
        written.publish(replace(manifest, versions={**manifest.versions, "timm": "0.1"}))
    with pytest.warns(FailsearchWarning, match=r"off by nan %\), then with timm 0\.1, now with"):
        open_model(written)


def test_nothing_is_said_where_the_image_is_gone(
    written: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(tmp_path, "x * 2", monkeypatch)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    open_model(written)
