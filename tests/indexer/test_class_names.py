"""Class names that models bring."""

import pytest
from torch import nn

from indexer.class_names import model_class_names


def test_imagenet_models_bring_words_and_synsets():
    model = nn.Module()
    model.pretrained_cfg = {"num_classes": 1000}  # type: ignore[assignment]

    names, (synsets,) = model_class_names(model, 1000)

    assert names is not None
    assert (names[0], synsets[0]) == ("tench", "n01440764")
    assert len(set(names)) == 1000
    assert {name for name in names if name.startswith("crane")} == {
        "crane (n02012849)",
        "crane (n03126707)",
    }
    assert model_class_names(model, 10) == (None, ())


@pytest.mark.parametrize("names", [["a", "b"], {0: "a", 1: "b"}, {"0": "a", "1": "b"}])
def test_names_of_the_config_come_in_any_form(names):
    model = nn.Module()
    model.pretrained_cfg = {"label_names": names}  # type: ignore[assignment]

    assert model_class_names(model, 2) == (("a", "b"), ())
    assert model_class_names(model, 3) == (None, ())
