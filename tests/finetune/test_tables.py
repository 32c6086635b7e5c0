"""The paper's tables on a small index."""

import dataclasses

import numpy as np
import pytest
import torch

from finetune.population import open_population
from finetune.table_results import PLAIN, TableSettings, change_row
from finetune.tables import eligible_groups, repair_tables, zeroed
from indexer.errors import SettingError

SETTINGS = TableSettings(
    samples=2,
    many=4,
    changes=4,
    share=0.3,
    neighbours=5,
    fraction=0.05,
    seeds=3,
    sweep=(1e-3, 1e-1),
)


def test_groups_share_the_pair_of_their_first(small_index):
    population, _ = open_population(small_index.store)
    groups = eligible_groups(small_index.store, population, SETTINGS)
    pairs = population.labels * 3 + population.predictions
    shares = [(pairs[group[1:]] == pairs[group[0]]).mean() for group in groups]
    assert groups
    assert min(shares) >= 0.3
    assert shares == sorted(shares, reverse=True)


def test_tables_hold_every_arm_and_draw_their_text(small_index):
    before = small_index.store.read(["id", "prediction"])
    tables = repair_tables(small_index.store, SETTINGS)
    assert len({(label, prediction) for _, label, prediction in tables.chosen}) == 2
    assert {(row.arm, row.lr) for row in tables.steps} == {
        ("salient", 1e-3),
        ("random", 1e-3),
        ("least", 1e-3),
        ("all", 1e-4),
    }
    assert {(row.arm, row.lr) for row in tables.sweep} >= {
        (arm, lr) for arm in ("salient", "all") for lr in (1e-3, 1e-1)
    }
    assert all(0 <= row.neighbours_corrected <= 5 for row in tables.steps + tables.many)
    assert [row.arm for row in tables.switched_off] == ["salient", "random", "least"]
    assert [row.arm for row in tables.changes] == ["salient", "random", "least", "all"]
    for row in tables.changes:
        assert row.samples == 4
        assert row.low <= row.mean <= row.high
        assert row.smallest <= row.mean <= row.largest
    markdown = tables.to_markdown()
    assert "ΔA in points over 4 samples" in markdown
    assert "| salient, 0.001 |" in markdown
    assert tables.to_json()["settings"]["neighbours"] == 5
    assert small_index.store.read(["id", "prediction"]).equals(before)


def test_all_filters_at_a_large_step_change_more_than_the_salient_ones(small_index):
    rows = repair_tables(small_index.store, SETTINGS).sweep
    changes = {
        arm: np.mean([abs(r.accuracy_change or 0) for r in rows if (r.arm, r.lr) == (arm, 1e-1)])
        for arm in ("salient", "all")
    }
    assert changes["all"] >= changes["salient"]


def test_switched_off_filters_give_nothing(small_index):
    population, _ = open_population(small_index.store)
    layer = population.layout.layers[0]
    with zeroed(population, np.array([1])).applied(population.model) as model:
        outputs = []
        hook = model.get_submodule(layer.name).register_forward_hook(
            lambda module, inputs, output: outputs.append(output)
        )
        with torch.inference_mode():
            model(population.inputs.batch(np.array([0])))
        hook.remove()
    assert outputs[0][:, 1].abs().max() == pytest.approx(0)
    assert outputs[0][:, 0].abs().max() > 0


def test_a_plain_gradient_step_stands_beside_adams(small_index):
    tables = repair_tables(small_index.store, dataclasses.replace(SETTINGS, samples=0))
    corrected = {row.arm: row.neighbours_corrected for row in tables.many}
    assert corrected[PLAIN] <= corrected["salient"]
    assert tables.to_markdown().startswith("Mean K over 4 samples")


def test_where_all_samples_are_scored_the_change_is_that_of_the_step(small_index):
    one = dataclasses.replace(SETTINGS, samples=1, changes=1, scored_seeds=1, nearest=36)
    tables = repair_tables(small_index.store, one)
    counted = {row.arm: row.accuracy_change for row in tables.steps}
    found = {row.arm: row.mean for row in tables.changes}
    assert found == pytest.approx(counted)


def test_the_interval_of_several_changes_is_students():
    row = change_row("random", 1e-3, [0.0, 0.01, 0.02])
    assert (row.mean, row.smallest, row.largest) == (pytest.approx(0.01), 0.0, 0.02)
    assert row.high - row.mean == pytest.approx(4.302653 * 0.01 / 3**0.5)
    assert change_row("random", 1e-3, [0.01]).low == 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": -1},
        {"many": 0},
        {"changes": -1},
        {"drawn": 0},
        {"neighbours": 1},
        {"share": 2.0},
        {"sweep": (0.0,)},
    ],
)
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(SettingError):
        TableSettings(**wrong)
