"""Batches that run in parts, on several threads at once."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from indexer.errors import ModelError, UnsupportedLayerError
from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.layout import profile_layout
from indexer.saliency.output import EngineOutput
from indexer.saliency.parts import ENOUGH, ENOUGH_ALONE, ENOUGH_PACKED, in_parts, part_count
from indexer.saliency.reference import reference_profiles
from tests.support.saliency import randomize, relative_error, small_batch

THREADS = 3
PART = 2
"""Images of a part that use the weights of the nets here often enough."""


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield THREADS
    torch.set_num_threads(before)


class Watched(nn.Module):
    """A small net that notes on which threads it ran, with how many threads of PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)
        )
        self.fc = nn.Linear(8, 10)
        self.ran: list[tuple[str, int, int]] = []

    def forward(self, x):
        thread = threading.current_thread().name
        self.ran.append((thread, torch.get_num_threads(), len(x)))
        return self.fc(self.layers(x).mean((2, 3)))


class Forked(Watched):
    """Takes another way for batches of other sizes than one, so that no BatchNorm can fold."""

    def forward(self, x):
        x = self.layers[0](x) if len(x) == 1 else self.layers[0](x) + 0
        return self.fc(self.layers[3](self.layers[2](self.layers[1](x))).mean((2, 3)))


class Short(Watched):
    """Loses a sample of every batch of four."""

    def forward(self, x):
        return super().forward(x)[: 3 if len(x) == 4 else None]


def watched(kind: type[Watched] = Watched) -> Watched:
    torch.manual_seed(0)
    return randomize(kind()).eval()  # type: ignore[return-value]


def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return small_batch(count, 32, torch.float32)


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_parts_bring_the_profiles_of_the_reference(threads: int, extra: int) -> None:
    model = watched()
    layout = profile_layout(model, "all")
    images, labels = batch(threads * PART + extra)
    output = SaliencyEngine(model, layout)(images, labels)
    sizes = [size for _, _, size in model.ran[1:]]
    assert sorted(sizes, reverse=True) == [PART + (i < extra) for i in range(threads)]
    with torch.no_grad():
        logits = model(images)
    assert relative_error(output.profiles, reference_profiles(model, images, labels, layout)) < 1e-5
    assert relative_error(output.logits, logits) < 1e-5
    assert output.embeddings is not None
    assert relative_error(model.fc(output.embeddings), logits) < 1e-5


def test_each_part_has_one_thread_and_the_caller_keeps_its_own(threads: int) -> None:
    model = watched()
    SaliencyEngine(model, profile_layout(model))(*batch(threads * PART))
    assert torch.get_num_threads() == threads
    learned, *parts = model.ran
    assert learned[1:] == (threads, 1)
    assert {count for _, count, _ in parts} == {1}
    assert all(name.startswith("profile-part") for name, _, _ in parts)
    found: list[int] = []
    late = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    late.start()
    late.join()
    assert found == [threads]


def test_batches_with_little_work_run_whole(threads: int) -> None:
    model = watched()
    SaliencyEngine(model, profile_layout(model))(*batch(threads - 1))
    assert [size for _, _, size in model.ran] == [1, threads - 1]


def test_models_that_keep_something_can_be_run_whole(threads: int) -> None:
    model = watched()
    SaliencyEngine(model, profile_layout(model), parts=False)(*batch(threads * PART))
    assert [size for _, _, size in model.ran] == [1, threads * PART]


@pytest.mark.parametrize(("packed", "enough"), [(False, ENOUGH), (True, ENOUGH_PACKED)])
def test_parts_depend_on_work_threads_and_device(
    threads: int, packed: bool, enough: tuple[int, int]
) -> None:
    once, twice = enough
    images = torch.zeros(threads * 10, 1)
    assert part_count(images, once / 10, packed) == threads
    assert part_count(images[1:], once / 10, packed) == 1
    assert part_count(images, once / 11, packed) == 1
    assert part_count(images, twice / 5, packed) == 2 * threads
    assert part_count(images[1:], twice / 5, packed) == threads
    assert part_count(images.to("meta"), twice, packed) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_one_thread_halves_batches_with_much_work(threads: int, packed: bool) -> None:
    images = torch.zeros(10, 1)
    torch.set_num_threads(1)
    assert part_count(images, ENOUGH_ALONE / 5, packed) == 2
    assert part_count(images, ENOUGH_ALONE / 6, packed) == 1
    assert part_count(images[:9], ENOUGH_ALONE / 5, packed) == 1


def test_one_thread_computes_parts_itself(threads: int, monkeypatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("indexer.saliency.parts.ENOUGH_ALONE", 1)
    model = watched()
    layout = profile_layout(model, "all")
    images, labels = batch(5)
    profiles = SaliencyEngine(model, layout)(images, labels).profiles
    here = threading.current_thread().name
    assert model.ran == [(here, 1, 1), (here, 1, 3), (here, 1, 2)]
    assert relative_error(profiles, reference_profiles(model, images, labels, layout)) < 1e-5


@pytest.mark.parametrize(("count", "parts"), [(2, 4), (4, 8), (6, 6), (7, 2), (10, 4)])
def test_few_parts_run_at_once(threads: int, count: int, parts: int) -> None:
    torch.set_num_threads(count)
    assert part_count(torch.zeros(2 * count, 1), ENOUGH[0], False) == parts


def test_parts_share_the_threads(threads: int) -> None:
    torch.set_num_threads(2 * threads)
    model = watched()
    SaliencyEngine(model, profile_layout(model, "all"))(*batch(2 * threads * PART))
    assert {count for _, count, _ in model.ran[1:]} == {2}


def test_a_mistake_in_a_part_is_raised_once_all_have_ended(threads: int) -> None:
    ended = []

    def compute(images: torch.Tensor, labels: torch.Tensor) -> int:
        if labels[0] == 0:
            raise ModelError("the first part")
        ended.append(int(labels[0]))
        return 0

    with pytest.raises(ModelError, match="the first part"):
        in_parts(compute, torch.zeros(threads, 1), torch.arange(threads), threads)
    assert sorted(ended) == list(range(1, threads))


def test_mistakes_of_the_user_are_named_and_the_model_is_given_back(threads: int) -> None:
    model = watched(Short)
    engine = SaliencyEngine(model, profile_layout(model))
    with pytest.raises(ModelError, match="expected logits"):
        engine(*batch(2 * threads * 4))
    assert all(parameter.requires_grad for parameter in model.parameters())
    images, labels = batch(threads * 5)
    with pytest.raises(ModelError, match="label 77 is outside"):
        engine(images, labels.index_fill(0, torch.tensor([threads * 5 - 1]), 77))
    assert engine(images, labels).profiles.all()


def test_folding_that_fails_in_parts_is_given_up(threads: int) -> None:
    model = watched(Forked)
    layout = profile_layout(model)
    images, labels = batch(2 * threads * PART)
    engine = SaliencyEngine(model, layout)
    profiles = engine(images, labels).profiles
    assert relative_error(profiles, reference_profiles(model, images, labels, layout)) < 1e-5
    assert not any("folded" in reason for _, _, reason in engine.describe())


def test_a_caller_without_gradients_gets_profiles(threads: int) -> None:
    model = watched()
    with torch.inference_mode():
        output = SaliencyEngine(model, profile_layout(model))(*batch(threads * PART))
    assert output.profiles.all()


def test_embeddings_that_a_part_lacks_are_none() -> None:
    rows = torch.zeros(2, 3)
    whole = EngineOutput(rows, rows, rows)
    joined = EngineOutput.joined([whole, EngineOutput(rows, rows, None)])
    assert joined.embeddings is None
    assert joined.profiles.shape == (4, 3)


def test_leading_dimensions_are_checked_across_parts(threads: int) -> None:
    class Tokens(nn.Module):
        """Its linear layer sees as many rows as the larger parts have images."""

        def __init__(self) -> None:
            super().__init__()
            self.mix, self.fc = nn.Linear(3, 3), nn.Linear(3, 10)

        def forward(self, x):
            x = x.mean((2, 3))
            padded = torch.cat([x, x[:1]]) if len(x) == ENOUGH_PACKED[0] else x
            return self.fc(self.mix(padded)[: len(x)])

    model = Tokens().eval()
    engine = SaliencyEngine(model, profile_layout(model, "linear"))
    with pytest.raises(UnsupportedLayerError):
        engine(*small_batch(threads * ENOUGH_PACKED[0] + 1, 4, torch.float32))
