"""Gradients of profile scores by the image equal plain double backward and finite differences."""

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from indexer.errors import ModelError, SettingError, UnsupportedLayerError
from indexer.saliency import input_space
from indexer.saliency.input_space import profile_gradient
from indexer.saliency.layout import profile_layout
from indexer.saliency.matching import (
    Standardizer,
    boosted_distance,
    boosted_entries,
    matching_distance,
)

ZOO = {
    "resnet18": {},
    "resnet50": {},
    "mobilenetv3_small_050": {},
    "convnext_atto": {},
    "vit_tiny_patch16_224": {"img_size": 32},
    "nf_resnet26": {},  # its weights are derived from parameters
}


def _standardizer(units: int, signed: bool = False) -> Standardizer:
    generator = torch.Generator().manual_seed(5)
    mean = 1e-3 * torch.rand(units, generator=generator, dtype=torch.float64)
    deviation = 1e-4 + 1e-3 * torch.rand(units, generator=generator, dtype=torch.float64)
    return Standardizer(mean, deviation, signed)


def _oracle(model: nn.Module, layout, image: Tensor, label: int, signed: bool = False) -> Tensor:
    """The definition: one image, all weights, create_graph, top 10 boosted a hundredfold."""
    image = image[None].clone().requires_grad_()
    weights = dict(model.named_parameters())
    weights = [weights[layer.parameter].requires_grad_() for layer in layout.layers]
    with sdpa_kernel(SDPBackend.MATH):
        loss = F.cross_entropy(model(image), torch.tensor([label]))
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        raw = torch.cat([g.flatten(1).abs().mean(1) for g in gradients])
        standardize = _standardizer(len(raw), signed)
        profile = (raw - standardize.mean) / standardize.deviation
        profile = profile if signed else profile.abs()
        boosted = profile.detach().clone()
        boosted[boosted.topk(10).indices] *= 100
        distance = 1 - profile @ boosted / (profile.norm() * boosted.norm())
        return torch.autograd.grad(distance, image)[0][0]


@pytest.mark.parametrize("name", ZOO)
def test_equals_double_backward_in_float64(name: str, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **ZOO[name]).eval().double()
    layout = profile_layout(model, "linear" if name.startswith("vit") else "conv")
    images, labels = torch.rand(2, 3, 32, 32, dtype=torch.float64), torch.tensor([1, 5])
    found = profile_gradient(
        model, layout, images, labels, boosted_distance(_standardizer(len(layout)))
    ).gradients
    # torch has no second derivative of its fused hardsigmoid
    monkeypatch.setattr(F, "hardsigmoid", lambda x, inplace=False: F.relu6(x + 3) / 6)
    for image, label, gradient in zip(images, labels.tolist(), found, strict=True):
        expected = _oracle(model, layout, image, label)
        assert expected.norm() > 0
        assert (gradient - expected).norm() <= 1e-10 * expected.norm()


def _smooth_net() -> nn.Sequential:
    torch.manual_seed(1)
    return (
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 8, 3, stride=2), nn.Softplus(),
            nn.Flatten(), nn.Linear(8 * 9, 5),
        )
        .eval()
        .double()
    )  # fmt: skip


def _smooth_case(samples: int = 2):
    model = _smooth_net()
    torch.manual_seed(2)
    images = torch.rand(samples, 3, 8, 8, dtype=torch.float64)
    labels = torch.arange(samples) % 5
    return model, profile_layout(model, "all"), images, labels


@pytest.mark.parametrize("signed", [False, True])
def test_equals_finite_differences(signed: bool):
    model, layout, images, labels = _smooth_case()
    standardize = _standardizer(len(layout), signed)
    target = torch.rand(1, len(layout), dtype=torch.float64)
    objective = matching_distance(standardize, target)
    found = profile_gradient(model, layout, images, labels, objective)
    direction = torch.randn_like(images)
    step = 1e-6

    def shifted(distance: float) -> Tensor:
        moved = images + distance * direction
        return profile_gradient(model, layout, moved, labels, objective).values

    numeric = (shifted(step) - shifted(-step)) / (2 * step)
    exact = (found.gradients * direction).sum((1, 2, 3))
    torch.testing.assert_close(exact, numeric, rtol=1e-6, atol=1e-9)


def test_boosted_distance_is_the_distance_to_a_fixed_target():
    model, layout, images, labels = _smooth_case()
    standardize = _standardizer(len(layout))
    boosted = profile_gradient(
        model, layout, images, labels, boosted_distance(standardize, top=3, boost=7.0)
    )
    target = standardize(boosted.profiles)
    target.scatter_(1, target.topk(3).indices, 7 * target.topk(3).values)
    matching = profile_gradient(
        model, layout, images, labels, matching_distance(standardize, target)
    )
    torch.testing.assert_close(boosted.values, matching.values)
    torch.testing.assert_close(boosted.gradients, matching.gradients)


def test_chosen_columns_replace_the_top():
    model, layout, images, labels = _smooth_case()
    standardize = _standardizer(len(layout))
    top = (
        standardize(
            profile_gradient(
                model, layout, images[:1], labels[:1], boosted_distance(standardize)
            ).profiles
        )
        .topk(4)
        .indices[0]
    )
    by_rank = boosted_distance(standardize, top=4)
    by_name = boosted_distance(standardize, columns=top.tolist())
    first = profile_gradient(model, layout, images[:1], labels[:1], by_rank)
    second = profile_gradient(model, layout, images[:1], labels[:1], by_name)
    torch.testing.assert_close(first.gradients, second.gradients)


def test_ten_entries_are_boosted_or_all_but_one_of_a_short_profile():
    assert [boosted_entries(None, units) for units in (2, 8, 10, 11, 12, 5000)] == [
        *(1, 7, 9, 10, 10, 10)
    ]
    boosted_distance(_standardizer(8))
    assert boosted_entries(7, 8) == 7
    for top, units in ((8, 8), (0, 8), (-1, 8), (10, 8)):
        with pytest.raises(SettingError, match=f"top {top}: boost between 1 and 7 of the 8 units"):
            boosted_entries(top, units)
    with pytest.raises(SettingError, match="a single unit"):
        boosted_entries(None, 1)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=15)
@given(
    padding=st.sampled_from(["same", "valid", 0, 1, (2, 1)]),
    kernel=st.sampled_from([1, 2, 3, (3, 2)]),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    in_place=st.booleans(),
    twice=st.booleans(),
)
def test_batches_agree_with_single_images_and_plain_autograd(
    padding, kernel, dilation, groups, in_place, twice
):
    """Geometry, groups, in-place activations and reused layers, with three images at once."""
    torch.manual_seed(3)
    conv = nn.Conv2d(4, 4, kernel, padding=padding, dilation=dilation, groups=groups)
    activation = nn.ReLU(inplace=in_place)
    body = [conv, activation, conv, activation] if twice else [conv, activation]
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), *body, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    model = model.eval().double()
    layout = profile_layout(model, "all")
    images, labels = torch.rand(3, 3, 11, 12, dtype=torch.float64), torch.tensor([0, 2, 1])
    objective = boosted_distance(_standardizer(len(layout)), top=10)
    together = profile_gradient(model, layout, images, labels, objective)
    for b in range(3):
        expected = _oracle(model, layout, images[b], int(labels[b]))
        torch.testing.assert_close(together.gradients[b], expected, rtol=1e-9, atol=1e-12)


class _Windows(nn.Module):
    """Folds positions into the batch dimension, as window attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 6)
        self.conv = nn.Conv2d(3, 2, 2)
        self.head = nn.Linear(6 * 16 + 2 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        tiles = F.unfold(x, 2, stride=2).mT.reshape(-1, 12)  # [B * 16, 12]
        maps = self.conv(tiles.reshape(-1, 3, 2, 2))  # [B * 16, 2, 1, 1]
        parts = [self.inner(tiles).tanh().reshape(len(x), -1), maps.tanh().reshape(len(x), -1)]
        return self.head(torch.cat(parts, dim=1))


def test_layers_that_fold_positions_into_the_batch():
    torch.manual_seed(4)
    model = _Windows().eval().double()
    layout = profile_layout(model, "all")
    images, labels = torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.tensor([3, 0])
    found = profile_gradient(
        model, layout, images, labels, boosted_distance(_standardizer(len(layout)), top=10)
    ).gradients
    for image, label, gradient in zip(images, labels.tolist(), found, strict=True):
        torch.testing.assert_close(gradient, _oracle(model, layout, image, label))


def test_large_batches_go_in_pieces(monkeypatch: pytest.MonkeyPatch):
    model, layout, images, labels = _smooth_case(samples=5)
    objective = boosted_distance(_standardizer(len(layout)))
    whole = profile_gradient(model, layout, images, labels, objective)
    size = sum(8 * weight.numel() for name, weight in model.named_parameters() if "weight" in name)
    monkeypatch.setattr(input_space, "DIRECTIONS_BUDGET", 2 * size)
    pieces = profile_gradient(model, layout, images, labels, objective)
    torch.testing.assert_close(pieces.gradients, whole.gradients)
    torch.testing.assert_close(pieces.logits, whole.logits)


def test_layerwise_profiles():
    model, _, images, labels = _smooth_case()
    layout = profile_layout(model, "all", "layer")
    objective = boosted_distance(_standardizer(len(layout)), top=1)
    found = profile_gradient(model, layout, images, labels, objective)
    assert found.profiles.shape == (2, 3)
    assert found.gradients.abs().sum() > 0


def test_leaves_the_model_as_it_was():
    model, layout, images, labels = _smooth_case()
    model[0].weight.requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    with torch.no_grad():
        profile_gradient(
            model, layout, images, labels, boosted_distance(_standardizer(len(layout)))
        )
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert images.grad is None


def test_refuses_train_mode():
    model, layout, images, labels = _smooth_case()
    model.train()
    with pytest.raises(ModelError, match="eval"):
        profile_gradient(
            model, layout, images, labels, boosted_distance(_standardizer(len(layout)))
        )


class _OnceFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (1 - x.tanh().square())


class _Once(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _OnceFunction.apply(x)


def test_names_the_layer_without_a_second_derivative():
    model = nn.Sequential()
    model.add_module("stem", nn.Conv2d(3, 4, 3))
    model.add_module("block", nn.Sequential(nn.ReLU(), _Once()))
    model.add_module("tail", nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 3)))
    model.eval()
    layout = profile_layout(model, "all")
    images, labels = torch.rand(1, 3, 8, 8), torch.tensor([0])
    with pytest.raises(UnsupportedLayerError, match=r"block\.1 \(_Once\)"):
        profile_gradient(
            model, layout, images, labels, boosted_distance(_standardizer(len(layout)), top=3)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top 0"),
        ({"top": 9}, "top 9"),
        ({"top": 2, "boost": 1.0}, r"boost 1\.0"),
        ({"columns": ()}, "columns"),
        ({"columns": (2, 9)}, "0 to 8"),
    ],
)
def test_refuses_what_cannot_be_boosted(options, message):
    with pytest.raises(SettingError, match=message):
        boosted_distance(_standardizer(9), **options)
