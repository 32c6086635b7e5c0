"""Training of chosen rows: nothing else moves, and everything comes back."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from finetune.edits import Edit, RowEdit, classifier_targets, targets_of
from finetune.masked import MaskedTraining
from indexer.errors import ModelError
from indexer.saliency.layout import profile_layout
from tests.support.populations import tiny_model

IMAGES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 0, 1])


def adam(leaves):
    return torch.optim.Adam(leaves, lr=1e-2)


def weight(model: nn.Sequential, index: int) -> nn.Parameter:
    found = model[index].weight
    assert isinstance(found, nn.Parameter)
    return found


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def train(model: nn.Module, targets, steps: int = 3, make=adam) -> Edit:
    with MaskedTraining(model, targets, make) as training:
        for _ in range(steps):
            training.accumulate(F.cross_entropy(model(IMAGES), LABELS))
            training.step()
        return training.edit()


def test_only_the_chosen_rows_change_and_the_loss_falls():
    model = tiny_model()
    columns = np.array([1, 4, 9])  # filter 1 of the first convolution, 0 and 5 of the second
    edit = train(model, targets_of(profile_layout(model), columns, model))
    before = state_of(model)
    loss = F.cross_entropy(model(IMAGES), LABELS)
    with edit.applied(model):
        after = state_of(model)
        assert F.cross_entropy(model(IMAGES), LABELS) < loss
    changed = {
        name: (before[name] != after[name]).flatten(1).any(1).nonzero().flatten().tolist()
        for name in before
        if before[name].ndim > 1
    }
    assert changed == {"0.weight": [1], "3.weight": [0, 5], "6.weight": []}
    assert all(torch.equal(before[n], after[n]) for n in before if before[n].ndim <= 1)
    assert edit.weights == 27 + 2 * 36


def test_the_model_comes_back_bit_for_bit_even_after_an_error():
    model = tiny_model()
    weight(model, 0).requires_grad_(False)
    gradient = torch.ones_like(weight(model, 3))
    weight(model, 3).grad = gradient
    before = state_of(model)
    targets = targets_of(profile_layout(model), np.arange(10), model)

    def fail(leaves):
        class Failing(torch.optim.Adam):
            def step(self):
                super().step()
                raise ZeroDivisionError

        return Failing(leaves)

    with pytest.raises(ZeroDivisionError):
        train(model, targets, make=fail)
    assert same(before, state_of(model))
    assert weight(model, 0).requires_grad is False
    assert weight(model, 3).requires_grad is True
    assert weight(model, 3).grad is gradient
    assert weight(model, 6).grad is None


def test_one_step_of_gradient_descent_is_the_textbook_one():
    model = tiny_model()
    F.cross_entropy(model(IMAGES), LABELS).backward()
    expected = weight(model, 3).detach()[2] - 0.1 * weight(model, 3).grad[2]
    targets = {"3.weight": torch.tensor([2])}
    edit = train(model, targets, steps=1, make=lambda rows: torch.optim.SGD(rows, lr=0.1))
    torch.testing.assert_close(edit.rows[0].after[0], expected)


def test_a_batch_in_parts_is_the_whole_batch():
    model = tiny_model()
    targets = {"3.weight": torch.tensor([0, 3])}
    whole = train(model, targets, steps=1)
    with MaskedTraining(model, targets, adam) as training:
        for part in (slice(0, 2), slice(2, 5)):
            loss = F.cross_entropy(model(IMAGES[part]), LABELS[part], reduction="sum")
            training.accumulate(loss / len(LABELS))
        training.step()
        parts = training.edit()
    torch.testing.assert_close(parts.rows[0].after, whole.rows[0].after)


def test_a_model_in_training_mode_is_refused():
    model = tiny_model()
    model[1].train()
    with pytest.raises(ModelError, match="evaluation mode"):
        MaskedTraining(model, {}, adam)


def test_an_edit_reverts_exactly():
    model = tiny_model()
    before = state_of(model)
    edit = train(model, classifier_targets(model))
    edit.apply(model)
    assert not same(before, state_of(model))
    edit.revert(model)
    assert same(before, state_of(model))


def test_layer_wise_columns_stand_for_all_rows():
    model = tiny_model()
    layout = profile_layout(model, aggregation="layer")
    targets = targets_of(layout, np.array([1]), model)
    assert {name: rows.tolist() for name, rows in targets.items()} == {"3.weight": [*range(6)]}


def test_an_edit_for_another_model_is_refused():
    rows = RowEdit("3.weight", torch.tensor([0]), torch.zeros(1, 9), torch.ones(1, 9))
    with pytest.raises(ModelError, match=r"3\.weight"):
        Edit((rows,)).apply(tiny_model())


def test_rows_named_twice_are_a_mistake():
    with pytest.raises(ValueError, match="twice"):
        RowEdit("w", torch.tensor([1, 1]), torch.zeros(2, 3), torch.zeros(2, 3))
