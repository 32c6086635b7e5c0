"""Which formula a race lets through."""

import pytest
import torch
from torch import Tensor

from indexer.saliency.race import Path, Race, seconds_of

X, G = torch.ones(4, 1), torch.ones(4, 1)


def rows(x: Tensor, g: Tensor) -> Tensor:
    return x * g


def failing(x: Tensor, g: Tensor) -> Tensor:
    raise RuntimeError("no C compiler\nand a long story")


def path(name: str, rowsum=rows) -> Path:
    return Path(name, "reason", rowsum)


class Clock:
    """Seconds by name, and who was measured."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.measured: list[str] = []

    def __call__(self, path: Path, x: Tensor, g: Tensor) -> float:
        self.measured.append(path.name)
        return self.seconds[path.name]


def test_the_fastest_wins_and_says_so():
    clock = Clock(a=2e-3, b=1e-3, c=3e-3)
    won = Race(clock).winner("layer", lambda: [path("a"), path("b"), path("c")], X, G, 0)
    assert won.name == "b"
    assert won.reason == "reason; fastest of 3 with 1 ms, then a with 2 ms"


def test_a_choice_holds_up_to_twice_the_batch():
    clock = Clock(a=1, b=2)
    race = Race(clock)

    def name(batch: int) -> str:
        x = torch.ones(batch, 1)
        return race.winner("layer", lambda: [path("a"), path("b")], x, x, 0).name

    assert [name(4), name(1), name(8)] == ["a", "a", "a"]
    clock.seconds["a"] = 3
    assert [name(8), name(9), name(2)] == ["a", "b", "b"]
    assert clock.measured == ["a", "b"] * 2


def test_layers_race_apart():
    race = Race(Clock(a=1, b=2, c=3))
    first = race.winner("first", lambda: [path("a"), path("c")], X, G, 0)
    second = race.winner("second", lambda: [path("c"), path("b")], X, G, 0)
    assert (first.name, second.name) == ("a", "b")


def test_who_fails_is_out():
    race = Race(Clock(b=2, c=3))
    won = race.winner("layer", lambda: [path("a", failing), path("b"), path("c")], X, G, 0)
    assert won.name == "b"
    assert won.reason.endswith("a is out: RuntimeError: no C compiler")


@pytest.mark.parametrize("wrong", [1.1, float("nan"), float("inf")])
def test_who_sums_wrongly_is_out(wrong: float):
    race = Race(Clock(a=1, b=2))
    paths = [path("a", lambda x, g: x * g * wrong), path("b")]
    won = race.winner("layer", lambda: paths, X, G, 1e-2)
    assert won.name == "b"
    assert "a is out: its sums differ" in won.reason


def test_rounding_is_no_fault():
    race = Race(Clock(a=1, b=2))
    paths = [path("a", lambda x, g: x * g * 1.001), path("b")]
    assert race.winner("layer", lambda: paths, X, G, 1e-2).name == "a"


def test_sums_that_must_vanish():
    race = Race(Clock(a=1, b=2))
    paths = [path("a", lambda x, g: x * g + 1), path("b")]
    assert race.winner("layer", lambda: paths, 0 * X, G, 1e-2).name == "b"


def test_broken_sums_are_not_the_kernels_fault():
    race = Race(Clock(a=1, b=2))
    x = X * float("nan")
    assert race.winner("layer", lambda: [path("a"), path("b")], x, G, 1e-2).name == "a"


def test_the_last_formula_may_fail_loudly():
    with pytest.raises(RuntimeError, match="no C compiler"):
        Race(Clock()).winner("layer", lambda: [path("a"), path("b", failing)], X, G, 0)


def test_deterministic_algorithms_are_not_chosen_by_time():
    clock = Clock()
    torch.use_deterministic_algorithms(True)
    try:
        won = Race(clock).winner("layer", lambda: [path("a"), path("b")], X, G, 0)
    finally:
        torch.use_deterministic_algorithms(False)
    assert won.name == "a"
    assert clock.measured == []


def test_an_empty_batch_decides_nothing():
    race = Race(Clock(a=1, b=2))
    paths = [path("a"), path("b")]
    assert race.winner("layer", lambda: paths, X[:0], G[:0], 0).name == "b"
    assert race.winner("layer", lambda: paths, X[:1], G[:1], 0).name == "a"


def test_seconds_are_measured():
    assert 0 < seconds_of(path("a"), X, G) < 1
