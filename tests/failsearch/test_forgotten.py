"""Asking a copy of the model that forgot the suspects, and the audit with it."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import failsearch
from failsearch import altered, forgotten
from failsearch.altered import PAIRS, copies
from failsearch.forgotten import Forgetting, answers
from finetune import forgetting
from finetune.inputs import TensorInputs
from indexer.errors import AuditWarning
from indexer.indexed_model import load_indexed_model
from indexer.schema import ID
from search.audit.copies import WHETHER
from tests.support.progress import Recorder

from .conftest import Place, Run


class Memory(nn.Module):
    """Three classes by the mean colour, and a place of its own to learn each image by heart."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Linear(3, 3)
        self.heart = nn.Linear(3 * 8 * 8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.colour(images.mean((2, 3))) + self.heart(images.flatten(1))


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "STEPS", 20)


def memorised() -> tuple[nn.Module, Tensor, np.ndarray, np.ndarray]:
    """Return a model that learnt all labels, images, labels given, and right labels."""
    right = np.arange(120) % 3
    given = right.copy()
    given[:6] = (right[:6] + 1) % 3
    random = torch.Generator().manual_seed(3)
    images = torch.randn(120, 3, 8, 8, generator=random) * 0.5
    images[torch.arange(120), torch.from_numpy(right)] += 0.5
    torch.manual_seed(0)
    model = Memory()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), torch.from_numpy(given)).backward()
        optimizer.step()
    return model.eval(), images, given, right


def test_wrong_labels_are_forgotten_unless_they_are_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forgetting, "LEARNING_RATE", 0.01)
    model, images, given, right = memorised()
    wrong, one = np.arange(6), torch.arange(6)
    learnt = np.ones(120, bool)
    assert (model(images[one]).argmax(1).numpy() == given[wrong]).all()
    inputs = TensorInputs(images)
    found = answers(model, inputs, given, learnt, wrong, closely=2)
    assert found is not None
    assert (found[0].argmax(1) == right[wrong]).mean() > 0.8
    with monkeypatch.context() as patch:  # as if the suspects were trained on all the same
        everything = np.arange(120)
        patch.setattr(np, "setdiff1d", lambda *_: everything)
        repeated = answers(model, inputs, given, learnt, wrong, closely=2)
    assert repeated is not None
    assert (repeated[0].argmax(1) == right[wrong]).mean() < 0.5


def test_the_likeliest_are_shown_in_all_copies(few_steps: None) -> None:
    model, images, given, _ = memorised()
    progress = Recorder()
    suspects = np.arange(100, 10, -1)
    found = answers(
        model,
        TensorInputs(images),
        given,
        np.ones(120, bool),
        suspects,
        closely=70,
        mirror=False,
        progress=progress,
    )
    assert found is not None
    assert found.shape == (1 + 2 * len(PAIRS), 90, 3)
    assert progress.told == [("Forgetting suspects", 20), ("Asking again", 90)]
    others = np.setdiff1d(np.arange(120), suspects)
    washed = forgetting.forget(model, TensorInputs(images), given, others, mirror=False).model
    with torch.no_grad():
        expected = washed(images[torch.from_numpy(suspects.copy())]).numpy()
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)
    last = copies(washed, images[torch.from_numpy(suspects[:70].copy())], len(PAIRS) - 1)
    np.testing.assert_allclose(found[-2, :70], last[0], rtol=1e-4, atol=1e-5)
    assert np.isfinite(found[1 : 2 * WHETHER : 2]).all()
    assert np.isnan(found[1 + 2 * WHETHER :, 70:]).all()


def test_mirrored_copies_that_mislead_the_copy_are_left_out(
    monkeypatch: pytest.MonkeyPatch, few_steps: None
) -> None:
    model, images, given, _ = memorised()
    monkeypatch.setattr(altered, "MIRROR_TRUST", 2.0)
    inputs, suspects = TensorInputs(images), np.arange(20)
    found = answers(model, inputs, given, np.ones(120, bool), suspects, closely=7)
    assert found is not None
    assert np.isnan(found[2::2]).all()
    assert np.isfinite(found[1 : 1 + 2 * WHETHER : 2]).all()


@pytest.mark.parametrize(("accuracy", "asked"), [(0.4, False), (0.6, True)])
def test_a_copy_that_knows_hardly_more_than_a_class_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, accuracy: float, asked: bool
) -> None:
    model, images, given, _ = memorised()
    washed = forgetting.Washed(model, accuracy)  # of a model that knows all, by chance a third
    monkeypatch.setattr(forgotten, "forget", lambda *_, **__: washed)
    inputs, suspects = TensorInputs(images), np.arange(20)
    found = answers(model, inputs, given, np.ones(120, bool), suspects, closely=7)
    assert (found is not None) == asked


def test_a_copy_that_breaks_at_the_end_says_nothing(
    monkeypatch: pytest.MonkeyPatch, few_steps: None
) -> None:
    model, images, given, _ = memorised()

    def broken(*arguments: object, **how: object) -> forgetting.Washed:
        washed = forgetting.forget(*arguments, **how)  # type: ignore[arg-type]
        next(washed.model.parameters()).fill_(float("nan"))
        return washed

    monkeypatch.setattr(forgotten, "forget", broken)
    inputs, suspects = TensorInputs(images), np.arange(20)
    assert answers(model, inputs, given, np.ones(120, bool), suspects, closely=7) is None


def test_the_command_asks_after_forgetting(run: Run, own: Place, few_steps: None) -> None:
    ran = run("audit", "--db", own.db, "--kind", "labels", "--forget", "--json")
    assert (ran.code, ran.err) == (0, "")
    suspects = ran.document["findings"]["labels"]
    asked = [f for f in suspects if f["evidence"]["after_forgetting"]]
    assert asked
    for suspect in suspects:
        count = sum(suspect["evidence"]["after_forgetting"].values())
        assert count <= 1 + 2 * len(PAIRS)
        assert ("asked again after forgetting this label" in suspect["reason"]) == (count > 0)
        assert suspect["evidence"]["altered_copies"]
    again = run("audit", "--db", own.db, "--kind", "labels", "--forget", "--json")
    assert again.document == ran.document


@pytest.mark.filterwarnings("default::indexer.errors.AuditWarning")
def test_a_copy_that_came_to_nothing_leaves_the_deep_audit(
    run: Run, own: Place, few_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("audit", "--db", own.db, "--kind", "labels", "--json")
    deep = run(*words, "--deep").document
    monkeypatch.setattr(forgetting, "LEARNING_RATE", float("inf"))
    ran = run(*words, "--forget")
    assert ran.document == deep
    (line,) = ran.err.strip().splitlines()
    assert line.startswith("failsearch: warning: a copy of the model learnt nothing")


def test_the_model_of_the_index_is_found_as_it_was(
    place: Place, tmp_path: Path, few_steps: None
) -> None:
    shutil.copytree(place.db, tmp_path / "db")
    index = failsearch.open(tmp_path / "db")
    ids = index.store.read([ID], limit=9)[ID].to_pylist()
    with warnings.catch_warnings():
        warnings.simplefilter("error", AuditWarning)
        found = Forgetting(index.store)(ids, 3, True)
    assert found is not None
    assert found.shape == (1 + 2 * len(PAIRS), 9, 3)
    load_indexed_model(index.store.manifest)  # raises where the weights are others
    assert index.audit(kinds=("labels",), forget=True).of("labels")
