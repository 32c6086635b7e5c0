"""Models that are a function or class of the user's own module."""

import importlib.util
import sys

import pytest
import torch

from indexer.errors import ModelError
from indexer.indexed_model import load_indexed_model
from indexer.models import load_model, save_timm_directory
from indexer.trust import remember
from tests.support.models import manifest_of
from tests.support.pictures import noise


@pytest.fixture(autouse=True)
def _own_search_path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module in the current folder with factories of several kinds."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        """
import torch
from torch import nn

class Net(nn.Module):
    class_names = ("cat", "dog")

    def __init__(self, channels=3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.stem(x).mean((2, 3)))

def gray():
    model = Net(1)
    model.pretrained_cfg = {"input_size": (1, 20, 24), "mean": (0.2, 0.4, 0.6), "crop_pct": 1.0}
    return model

def needs(argument):
    return Net()

def fails():
    raise RuntimeError("no weights\\nhere")

def pair():
    class Pair(Net):
        def forward(self, x):
            return super().forward(x), x
    return Pair()

def number():
    return 3

def wide():
    return Net(7)

class Standardized(Net):
    def forward(self, x):
        deviation = self.stem.weight.view(4, -1).std(dim=1)
        return super().forward(x / deviation.mean())

ready = Net()
"""
    )
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_ones_own_module_is_found_in_the_current_folder(own_module):
    loaded = load_model(f"{own_module}:Net")

    assert loaded.class_names == ("cat", "dog")
    assert loaded.transform_config["input_size"] == [3, 224, 224]
    assert loaded.architecture == f"{own_module}:Net"


def test_ones_own_module_is_found_again_from_another_folder(own_module, tmp_path, monkeypatch):
    remember(f"{own_module}:Net", str(tmp_path))
    load_model(f"{own_module}:Net")  # importing the module draws random weights, too
    torch.manual_seed(3)
    loaded = load_model(f"{own_module}:Net")
    monkeypatch.chdir("/")
    torch.manual_seed(3)

    assert load_indexed_model(manifest_of(loaded, ("x", "y"))).digest == loaded.digest


def test_ones_own_module_is_saved_as_a_checkpoint(own_module, tmp_path):
    loaded = load_model(f"{own_module}:Net")

    saved = save_timm_directory(loaded.model, loaded, tmp_path / "out")

    assert load_model(saved.spec, checkpoint=saved.checkpoint).digest == loaded.digest


def test_ones_own_module_may_count_on_how_its_weights_lie(own_module):
    loaded = load_model(f"{own_module}:Standardized")

    assert loaded.model.stem.weight.is_contiguous()


def test_a_gray_model_gets_gray_images(own_module):
    loaded = load_model(f"{own_module}:gray")

    assert loaded.transform_config["input_size"] == [1, 20, 24]
    assert loaded.transform_config["mean"] == pytest.approx([0.4])
    assert loaded.transform(noise()).shape == (1, 20, 24)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("missing", "has no 'missing'"),
        ("needs", "must be callable without arguments, it asks for argument"),
        ("fails", r"fails with RuntimeError: no weights here \(.*:\d+\)"),
        ("pair", "is no classifier: one image gives tuple"),
        ("number", "returns int, not a torch.nn.Module"),
        ("ready", "is no function"),
        ("wide", "takes images of 7 channels"),
    ],
)
def test_a_wrong_factory_is_one_line(own_module, attribute, message):
    with pytest.raises(ModelError, match=message):
        load_model(f"{own_module}:{attribute}")


def test_a_module_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModelError, match=r"no module named 'nowhere_to_be_found' in /.*, nor is one installed"
    ):
        load_model("nowhere_to_be_found:build")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nowhere_to_be_found", r"No module named 'nowhere_to_be_found' \(/.*:1\)$"),
        ("def build(:", r"SyntaxError: invalid syntax \(.*, line 1\)$"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_the_place(
    monkeypatch, tmp_path, code, message
):
    monkeypatch.chdir(tmp_path)
    name = f"unimportable_{len(code)}"
    (tmp_path / f"{name}.py").write_text(code)
    with pytest.raises(ModelError, match=message):
        load_model(f"{name}:build")


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.exit('usage: train.py DATA')",
        "import argparse\nargparse.ArgumentParser().parse_args(['--nothing-known'])",
        "def build():\n    raise SystemExit(0)",
    ],
)
def test_a_script_that_ends_the_program_is_one_line(monkeypatch, tmp_path, code):
    monkeypatch.chdir(tmp_path)
    name = f"script_{len(code)}"
    (tmp_path / f"{name}.py").write_text(code)
    with pytest.raises(ModelError, match=f"guard what {name} does as a script with if __name__"):
        load_model(f"{name}:build")


def test_a_factory_without_a_signature_is_called(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unsigned.py").write_text("build = type")
    with pytest.raises(ModelError, match="unsigned:build fails with TypeError: type"):
        load_model("unsigned:build")


def test_two_folders_with_a_module_of_one_name_are_not_confused(tmp_path):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "namesake.py").write_text(
            f"import timm\nfolder = {folder!r}\n"
            "def make():\n    return timm.create_model('test_resnet', num_classes=2)\n"
        )
    load_model("namesake:make", folder=tmp_path / "first")
    load_model("namesake:make", folder=tmp_path / "first")

    with pytest.raises(
        ModelError, match=r"namesake is imported from /.*/first/namesake.py already, so /.*/second/"
    ):
        load_model("namesake:make", folder=tmp_path / "second")
    assert sys.modules["namesake"].folder == "first"


def test_a_module_is_told_from_one_of_python(tmp_path):
    (tmp_path / "queue.py").write_text("def make():\n    return None")
    with pytest.raises(ModelError, match=r"queue is imported from /.* already"):
        load_model("queue:make", folder=tmp_path)


def test_a_package_of_the_folder_is_its_own(tmp_path):
    package = tmp_path / "a_package_of_nets"
    (package / "deep").mkdir(parents=True)  # without __init__.py
    (package / "deep" / "net.py").write_text(
        "import timm\ndef make():\n    return timm.create_model('test_resnet', num_classes=2)\n"
    )

    assert load_model("a_package_of_nets.deep.net:make", folder=tmp_path).num_classes == 2


def test_what_else_is_in_the_folder_takes_no_ones_place(tmp_path):
    (tmp_path / "this.py").write_text("raise RuntimeError('not the one of Python')")
    (tmp_path / "late_help.py").write_text("two = 2")
    (tmp_path / "late_net.py").write_text(
        """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        from late_help import two
        return self.head(x).mean((two, 3))
"""
    )

    assert load_model("late_net:Net", folder=tmp_path).num_classes == 2
    this = importlib.util.find_spec("this")
    assert this is not None
    assert this.origin != str(tmp_path / "this.py")
