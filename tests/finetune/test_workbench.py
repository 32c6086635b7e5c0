"""The search for a repair: what it learns from, what it may change, what the guard refuses."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from finetune.guard import boundary_width, soft_accuracy
from finetune.rescore import rescore
from finetune.splits import DISCOVER, GUARD, HELD_OUT, split
from finetune.training import Lesson, Recipe, train_retaining
from finetune.workbench import (
    ModeRepairSettings,
    Task,
    candidates,
    choose,
    gather_evidence,
    mode_gradient,
    search,
    selected_targets,
    train_selection,
)
from indexer.errors import SettingError
from tests.support.populations import tiny_model, tiny_population

SETTINGS = ModeRepairSettings(
    max_weights=0.5, lr=3e-2, retentions=(0.5, 1.0, 100.0), steps=20, budget=2, max_drop=0.1
)


@pytest.fixture
def task() -> Task:
    """A population whose failures of one label are the mode."""
    torch.manual_seed(0)
    model = tiny_model().train()
    population = tiny_population(150, model=model.eval())
    images = population.inputs.batch(np.arange(150))
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 150)
    tinted = images + torch.from_numpy(labels).view(-1, 1, 1, 1) * 0.6
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(25):
        optimizer.zero_grad()
        F.cross_entropy(model(tinted), torch.from_numpy(labels)).backward()
        optimizer.step()
    with torch.inference_mode():
        logits = model(tinted).numpy()
    population = dataclasses.replace(
        population, labels=labels, logits=logits, inputs=type(population.inputs)(tinted)
    )
    parts = split(population.ids, labels * 3 + population.predictions)
    return Task(population, population.failures, parts)


def test_discover_teaches_and_guard_chooses_and_held_out_plays_no_part(task):
    lesson = task.lesson
    for rows in (lesson.failures, lesson.near, lesson.right):
        assert set(task.parts[rows]) == {DISCOVER}
    assert set(task.parts[task.guard]) == {GUARD}
    mine = task.failures(GUARD)
    assert task.guard[: len(mine)].tolist() == mine.tolist()
    assert set(task.guard.tolist()) == set(np.flatnonzero(task.parts == GUARD))

    # Whatever held-out labels, images and profiles are, the winner is the same.
    population = task.population
    labels = population.labels.copy()
    winner, tried = search(task, SETTINGS)
    held_out = population.inputs.batch(np.arange(150)).clone()
    held_out[torch.from_numpy(task.held_out)] = 0
    altered = dataclasses.replace(population, inputs=type(population.inputs)(held_out))
    again, _ = search(Task(altered, task.mode, task.parts), SETTINGS)
    assert len(tried) == 2
    assert (winner is None) == (again is None)
    if winner is not None and again is not None:
        assert winner.describe() == again.describe()
    assert (population.labels == labels).all()


def test_a_winner_keeps_within_the_limit_and_fixes_something(task):
    winner, tried = search(task, SETTINGS)
    assert winner is not None
    assert winner.fixed > 0
    assert winner.drop <= SETTINGS.max_drop
    logits = rescore(task.population, {"winner": winner.edit}, task.guard)["winner"]
    labels = task.population.labels[task.guard]
    mine = winner.mode_failures
    assert winner.fixed == (logits[:mine].argmax(1) == labels[:mine]).sum()
    assert choose(tried, max_drop=min(one.drop for one in tried) - 1e-9) is None
    before = task.population.logits[task.guard].argmax(1) == labels
    after = logits.argmax(1) == labels
    assert winner.counted_drop == pytest.approx(before.mean() - after.mean())
    width = boundary_width(task.population.logits[task.guard])
    expected = soft_accuracy(task.population.logits[task.guard][mine:], labels[mine:], width)
    expected -= soft_accuracy(logits[mine:], labels[mine:], width)
    assert winner.elsewhere == pytest.approx(expected)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ({20, 10, 5}, [20, 10, 5]),
        ({5}, [20, 10, 5]),
        ({40, 80}, [20, 10, 5, 40]),
        (set(), [20, 10, 5, 40, 80]),
    ],
)
def test_retention_is_strengthened_where_guard_allows_nothing(task, monkeypatch, allowed, expected):
    def train(task, evidence, name, recipe, settings):
        drop = -0.1 if recipe.retention in allowed else 0.5
        return dataclasses.replace(one, recipe=recipe, drop=drop)

    one = search(task, SETTINGS)[1][0]
    monkeypatch.setattr("finetune.workbench.train_candidate", train)
    settings = dataclasses.replace(SETTINGS, retentions=(40.0, 10.0, 20.0, 80.0, 5.0), budget=5)
    tried = candidates(task, gather_evidence(task, ()), "salient", settings)
    assert [candidate.recipe.retention for candidate in tried] == expected
    few = dataclasses.replace(settings, budget=2)
    tried = candidates(task, gather_evidence(task, ()), "salient", few)
    assert [candidate.recipe.retention for candidate in tried] == expected[:2]


def test_the_cheapest_of_those_that_fix_nearly_most_within_the_limit_wins(task):
    one = search(task, SETTINGS)[1][0]
    figures = [(30, 0.2, 0.3), (20, 0.0, 0.2), (19, -0.1, 0.1), (12, -0.2, 0.0), (0, -0.3, 0.0)]
    tried = [
        dataclasses.replace(one, fixed=fixed, drop=drop, elsewhere=elsewhere)
        for fixed, drop, elsewhere in figures
    ]
    for limit, expected in ((0.2, 0), (0.1, 2), (-0.05, 2), (-0.15, 3), (-0.25, None)):
        assert choose(tried, limit) is (None if expected is None else tried[expected])


def test_no_repair_is_an_answer(task):
    hopeless = dataclasses.replace(SETTINGS, lr=1e-9)
    winner, tried = search(task, hopeless)
    assert winner is None
    assert tried


def test_retention_holds_the_outputs_of_samples_that_are_right(task):
    targets = {"3.weight": torch.arange(6)}
    drift = {}
    for retention in (0.0, 100.0):
        recipe = Recipe(lr=0.02, retention=retention, steps=20)
        edit = train_retaining(task.population, targets, task.lesson, recipe)
        logits = rescore(task.population, {"edit": edit}, task.lesson.right)["edit"]
        drift[retention] = np.abs(logits - task.population.logits[task.lesson.right]).mean()
    assert drift[100.0] < drift[0.0] / 2


def test_training_repeats_with_its_seed_and_leaves_the_model_alone(task):
    before = {name: value.clone() for name, value in task.population.model.state_dict().items()}
    recipe = Recipe(steps=3, failures=4, kept=5)
    targets = {"0.weight": torch.tensor([1])}
    first, second = (
        train_retaining(task.population, targets, task.lesson, recipe) for _ in range(2)
    )
    assert torch.equal(first.rows[0].after, second.rows[0].after)
    after = task.population.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_step_in_parts_is_the_same_step(task, monkeypatch):
    recipe = Recipe(steps=1, failures=4, kept=5, retention=10.0)
    targets = {"0.weight": torch.arange(4), "3.weight": torch.arange(6)}
    whole = train_retaining(task.population, targets, task.lesson, recipe)
    seen = []
    task.population.model.register_forward_hook(lambda *called: seen.append(len(called[2])))
    monkeypatch.setattr("finetune.training.PIXELS", 2 * 64)
    parts = train_retaining(task.population, targets, task.lesson, recipe)
    assert max(seen) == 2
    for one, other in zip(whole.rows, parts.rows, strict=True):
        torch.testing.assert_close(one.after, other.after)


def test_a_mode_without_correct_samples_beside_it_still_trains(task):
    nothing = np.empty(0, np.int64)
    lesson = Lesson(task.lesson.failures, nothing, nothing)
    recipe = Recipe(steps=2)
    assert train_retaining(task.population, {"6.weight": torch.arange(3)}, lesson, recipe).rows


@pytest.mark.parametrize("name", ["salient", "contrastive", "gradient", "random", "least"])
def test_every_selection_keeps_within_its_budget_of_weights(task, name):
    evidence = gather_evidence(task, (name,))
    columns, targets = selected_targets(task, evidence, name, SETTINGS)
    weights = dict(task.population.model.named_parameters())
    used = sum(weights[n][rows].numel() for n, rows in targets.items())
    assert columns
    assert used <= 0.5 * sum(p.numel() for p in weights.values())


def test_last_and_all_take_what_they_take(task):
    evidence = gather_evidence(task, ())
    columns, targets = selected_targets(task, evidence, "last", SETTINGS)
    assert columns is None
    assert list(targets) == ["6.weight"]
    columns, _ = selected_targets(task, evidence, "all", SETTINGS)
    assert columns == tuple(range(10))


def test_the_modes_gradient_is_autograds(task):
    population, rows = task.population, task.lesson.failures
    weight = dict(population.model.named_parameters())["3.weight"]
    logits = population.model(population.inputs.batch(rows))
    loss = F.cross_entropy(logits, torch.from_numpy(population.labels[rows]))
    (gradient,) = torch.autograd.grad(loss, weight)
    expected = gradient.abs().flatten(1).mean(1)
    np.testing.assert_allclose(mode_gradient(task)[4:], expected, rtol=1e-4)


def test_all_filters_and_the_last_layer_take_steps_that_change_as_much(task):
    evidence = gather_evidence(task, ())
    recipe = Recipe(lr=1e-3, steps=1)
    parameters = sum(p.numel() for p in task.population.model.parameters())
    for name in ("last", "all"):
        _, edit = train_selection(task, evidence, name, recipe, SETTINGS)
        step = max(float((one.after - one.before).abs().max()) for one in edit.rows)
        assert step == pytest.approx(1e-3 * (0.5 * parameters / edit.weights) ** 0.5, rel=0.01)


def test_a_mode_that_cannot_be_split_is_refused(task):
    rows = task.mode[task.parts[task.mode] == HELD_OUT]
    with pytest.raises(SettingError, match="choose a larger mode"):
        Task(task.population, rows, task.parts)


@pytest.mark.parametrize(
    "wrong",
    [{"selections": ("best",)}, {"max_weights": 0.0}, {"max_drop": -1.0}, {"budget": 0}],
)
def test_settings_outside_their_range_are_named(wrong):
    with pytest.raises(SettingError):
        ModeRepairSettings(**wrong)
