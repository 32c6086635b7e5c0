"""Models that use their weights in unusual ways, and the engine's manners."""

import copy

import pytest
import torch
import torch.nn.functional as F
from timm.layers import ScaledStdConv2d, StdConv2d
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from indexer.errors import ModelError, SettingError, UnsupportedLayerError
from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.kernels import finish
from indexer.saliency.layout import profile_layout
from indexer.saliency.reference import ReferenceEngine, reference_profiles, self_check
from tests.support.saliency import randomize, relative_error, small_batch, small_model


class Net(nn.Module):
    """A stem of the test's choice, a pooled head, and a `body` that tests override."""

    def __init__(self, *stem: nn.Module, width: int = 6):
        super().__init__()
        self.stem = nn.Sequential(*stem)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.fc = nn.Linear(width, 10)

    def body(self, x):
        return F.relu(self.conv(x))

    def forward(self, x):
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


class Twice(Net):
    def body(self, x):
        return self.conv(F.relu(self.conv(x)))


class TwiceMixed(Net):
    """Once as it is, once standardized."""

    def body(self, x):
        weight = self.conv.weight - self.conv.weight.mean((1, 2, 3), keepdim=True)
        return self.conv(F.relu(F.conv2d(x, weight, padding=1)))


class Functional(Net):
    def body(self, x):
        return F.conv2d(input=x, weight=self.conv.weight, stride=2, padding="valid")


class InPlace(Net):
    def body(self, x):
        return F.relu_(self.conv(F.relu_(x)).mul_(2))


class Unused(Net):
    def body(self, x):
        return F.relu(x)


class DeadBranch(Net):
    """Both uses run, the loss depends on one."""

    def body(self, x):
        self.conv(x)
        return self.conv(x)


class Crops(Net):
    """Two crops of each image go through one convolution as one batch, sample-major."""

    def body(self, x):
        crops = torch.stack([x, x.flip(3) * 2], 1).flatten(0, 1)
        return F.relu(self.conv(crops)).view(len(x), 2, *x.shape[1:]).sum(1)


class PointwiseCrops(Net):
    """Two crops and the image go through a strided 1x1 convolution of standardized weights."""

    def __init__(self, *stem):
        super().__init__(*stem)
        self.conv = StdConv2d(6, 6, 1, stride=2)

    def body(self, x):
        crops = torch.stack([x, x.flip(3) * 2], 1).flatten(0, 1)
        return self.conv(crops).relu().unflatten(0, (-1, 2)).sum(1) + self.conv(x)


class Concatenated(Net):
    """One call with a weight made of two unit weights."""

    def body(self, x):
        weight = torch.cat([self.conv.weight, self.stem[0].weight.repeat(1, 2, 1, 1)])
        left, right = F.conv2d(x, weight, padding=1).chunk(2, 1)
        return left + 2 * right.abs()


class Frozen(Net):
    def __init__(self, *stem):
        super().__init__(*stem)
        self.stem.requires_grad_(False)


def conv(**options):
    return nn.Conv2d(3, 6, options.pop("kernel_size", 3), **options)


CASES = {
    "plain": lambda: Net(conv()),
    "used twice": lambda: Twice(conv()),
    "used twice, once derived": lambda: TwiceMixed(conv()),
    "functional": lambda: Functional(conv()),
    "in-place": lambda: InPlace(conv()),
    "unused": lambda: Unused(conv()),
    "dead branch": lambda: DeadBranch(conv()),
    "crops": lambda: Crops(conv(padding=1)),
    "pointwise crops": lambda: PointwiseCrops(conv(padding=1)),
    "concatenated": lambda: Concatenated(conv()),
    "frozen": lambda: Frozen(conv()),
    "reflect": lambda: Net(conv(padding=2, padding_mode="reflect")),
    "circular": lambda: Net(conv(padding=1, padding_mode="circular", stride=2)),
    "same, even kernel": lambda: Net(conv(kernel_size=4, padding="same")),
    "same, even kernel, dilated": lambda: Net(conv(kernel_size=(2, 3), padding="same", dilation=3)),
    "large stride": lambda: Net(conv(kernel_size=4, stride=4)),
    "StdConv2d": lambda: Net(StdConv2d(3, 6, 3, bias=True)),
    "ScaledStdConv2d": lambda: Net(ScaledStdConv2d(3, 6, 3)),
    "weight_norm": lambda: Net(parametrizations.weight_norm(conv())),
    "spectral_norm": lambda: Net(parametrizations.spectral_norm(conv())),
    "grouped": lambda: Net(conv(), nn.Conv2d(6, 12, 3, groups=3), nn.Conv2d(12, 6, 1, groups=2)),
    "preprocessing": lambda: Net(nn.ReflectionPad2d(1), nn.Dropout(), nn.AvgPool2d(2), conv()),
}


def build(case):
    torch.manual_seed(0)
    return randomize(CASES[case]()).eval().double()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("aggregation", ["filter", "layer"])
@pytest.mark.parametrize("case", CASES)
def test_unusual_uses_match_the_reference(case, aggregation):
    model = build(case)
    layout = profile_layout(model, "all", aggregation)
    images, labels = small_batch(4, 12)
    expected = reference_profiles(model, images, labels, layout)
    output = SaliencyEngine(model, layout, precision="fp64")(images, labels)
    assert relative_error(output.profiles, expected) < 1e-12
    torch.testing.assert_close(output.logits, model(images).detach())


def test_unused_weights_are_zero_and_described_so():
    model = build("unused")
    engine = SaliencyEngine(model, profile_layout(model), precision="fp64")
    assert engine.describe()[1] == ("conv", "open", "no batch seen yet")
    profiles = engine(*small_batch(2, 12)).profiles
    assert profiles[:, :6].all()
    assert not profiles[:, 6:].any()
    assert engine.describe()[1] == ("conv", "zero", "the loss does not depend on it")


def test_a_model_without_any_use_of_its_units_has_zero_profiles():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 10)).eval()
    model[0].spare = nn.Conv2d(3, 3, 1).eval()
    layout = profile_layout(model)
    images, labels = small_batch(2, 4, torch.float32)
    assert not SaliencyEngine(model, layout)(images, labels).profiles.any()
    assert not reference_profiles(model, images, labels, layout).any()


@pytest.mark.parametrize("engine_type", [SaliencyEngine, ReferenceEngine])
def test_the_model_is_left_as_it_was_found(engine_type):
    model = build("frozen")
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    before = copy.deepcopy(model.state_dict())
    engine = engine_type(model, profile_layout(model), precision="fp64")
    engine(*small_batch(2, 12))
    with pytest.raises(ModelError, match="label 10"):
        engine(small_batch(2, 12)[0], torch.tensor([0, 10]))
    assert [p.requires_grad for p in model.parameters()] == [False] * 2 + [True] * 4
    assert model.conv.weight.grad.eq(1).all()
    assert model.fc.weight.grad is None
    assert not any(module._forward_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert tensor.equal(before[name])


def test_passes_work_whatever_the_callers_grad_mode():
    model = build("plain")
    engine = SaliencyEngine(model, profile_layout(model), precision="fp64")
    images, labels = small_batch(2, 12)
    expected = engine(images, labels).profiles
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert engine(images, labels).profiles.equal(expected)
            output = engine(images.clone(), labels.clone())
            assert output.profiles.equal(expected)


@pytest.mark.parametrize("engine_type", [SaliencyEngine, ReferenceEngine])
def test_an_empty_batch_has_the_usual_widths(engine_type):
    model = build("plain")
    layout = profile_layout(model)
    images, labels = small_batch(0, 12)
    output = engine_type(model, layout, precision="fp64")(images, labels)
    assert output.profiles.shape == (0, len(layout))
    assert output.logits.shape == (0, 10)
    assert output.embeddings.shape == (0, 6)


@pytest.mark.parametrize("engine_type", [SaliencyEngine, ReferenceEngine])
def test_models_that_mix_samples_are_refused(engine_type):
    model = build("plain")
    layout = profile_layout(model)
    engine = engine_type(model, layout, precision="fp64")
    model.conv.train()
    with pytest.raises(ModelError, match=r"Conv2d 'conv' is in training mode.*model\.eval\(\)"):
        engine(*small_batch(2, 12))
    with pytest.raises(ModelError, match="training mode"):
        engine_type(model, layout, precision="fp64")
    mixing = Net(conv(), nn.BatchNorm2d(6, track_running_stats=False)).eval()
    with pytest.raises(ModelError, match=r"BatchNorm2d 'stem\.1' keeps no running statistics"):
        engine_type(mixing, profile_layout(mixing))


def test_embeddings_are_the_classifiers_input():
    model = build("plain")
    images, labels = small_batch(2, 12)
    engine = SaliencyEngine(model, profile_layout(model), precision="fp64")
    features = model.body(model.stem(images)).mean((2, 3)).detach()
    torch.testing.assert_close(engine(images, labels).embeddings, features)
    model.fc = nn.Sequential(model.fc, nn.Softmax(1)).eval()
    assert engine(images, labels).embeddings is None


class TokensFirst(nn.Module):
    """Feeds a linear layer [tokens, B, features]."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.fc = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 10)

    def forward(self, x):
        tokens = self.embed(x.flatten(2).transpose(1, 2)).transpose(0, 1)
        return self.fc(F.gelu(self.mix(tokens)).mean(0))


class Transposed(Net):
    """Applies a linear weight by a plain matrix product."""

    def forward(self, x):
        return self.body(self.stem(x)).mean((2, 3)) @ self.fc.weight.T


class Dynamic(Net):
    """The weight depends on the images."""

    def body(self, x):
        return F.conv2d(x, self.conv.weight * x.mean(), padding=1)


REFUSED = {
    "samples do not lead": (lambda: TokensFirst(), "mix"),
    "matrix product": (lambda: Transposed(conv()), "fc.weight"),
    "dynamic weight": (lambda: Dynamic(conv()), "conv.weight"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_uses_that_hide_the_samples_are_refused_by_name(case):
    make, name = REFUSED[case]
    model = make().eval().double()
    layout = profile_layout(model, "all")
    images, labels = small_batch(3, 8)
    engine = SaliencyEngine(model, layout, precision="fp64")
    with pytest.raises(UnsupportedLayerError, match=name):
        engine(images, labels)
    check = self_check(engine, images, labels)
    assert not check.ok
    assert name in check.message
    assert ReferenceEngine(model, layout, precision="fp64")(images, labels).profiles.any()


def test_a_leading_dimension_that_does_not_grow_with_the_batch_is_caught():
    model = TokensFirst().eval()
    engine = SaliencyEngine(model, profile_layout(model, "linear"))
    assert not self_check(engine, *small_batch(2, 4, torch.float32)).ok
    with pytest.raises(UnsupportedLayerError, match="'mix' does not have the samples"):
        engine(*small_batch(4, 4, torch.float32))


def test_self_check_agrees_on_plain_models():
    model = build("plain").float()
    engine = SaliencyEngine(model, profile_layout(model))
    check = self_check(engine, *small_batch(3, 12, torch.float32))
    assert check.ok
    assert check.error < 1e-4
    assert "agrees" in check.message


@pytest.mark.parametrize(("precision", "limit"), [("tf32", 1e-4), ("bf16", 2e-2), ("amp", 0.1)])
def test_lower_precisions_stay_close(precision, limit):
    model = build("in-place").float()
    layout = profile_layout(model, "all")
    images, labels = small_batch(3, 12, torch.float32)
    expected = reference_profiles(model, images, labels, layout)
    output = SaliencyEngine(model, layout, precision=precision)(images, labels)
    assert output.profiles.dtype == output.logits.dtype == torch.float32
    assert relative_error(output.profiles, expected) < limit


def test_fp64_runs_on_a_copy():
    model = build("plain").float()
    layout = profile_layout(model)
    images, labels = small_batch(3, 12)
    output = SaliencyEngine(model, layout, precision="fp64")(images, labels)
    assert output.profiles.dtype == torch.float64
    assert model.conv.weight.dtype == torch.float32
    expected = reference_profiles(copy.deepcopy(model).double(), images, labels, layout)
    assert relative_error(output.profiles, expected) < 1e-12


def test_precisions_that_do_not_fit_are_refused():
    model = build("plain")
    layout = profile_layout(model)
    with pytest.raises(ModelError, match="needs float32 weights, the model has float64"):
        SaliencyEngine(model, layout)
    with pytest.raises(SettingError, match="fp16"):
        SaliencyEngine(model, layout, precision="fp16")


def test_precision_switches_are_restored():
    switch = torch.backends.cudnn.conv
    before = switch.fp32_precision
    model = build("plain").float()
    SaliencyEngine(model, profile_layout(model))(*small_batch(1, 12, torch.float32))
    assert switch.fp32_precision == before


def test_outputs_that_are_no_logits_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 10, 3)).eval()
    with pytest.raises(ModelError, match="expected logits"):
        SaliencyEngine(model, profile_layout(model))(*small_batch(2, 12, torch.float32))


class _WritesToTokens(nn.Module):
    """Adds positions to the output of a linear layer in place, as NaFlexViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.head = nn.Linear(8, 10)
        self.register_buffer("positions", torch.randn(36, 8))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images.flatten(2).transpose(1, 2))
        return self.head(tokens.add_(self.positions).relu().mean(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_linear_layers_output_may_be_written_to(dtype):
    torch.manual_seed(0)
    model = _WritesToTokens().eval().to(dtype)
    layout = profile_layout(model, "linear")
    images, labels = small_batch(3, 6, dtype)
    precision = "fp64" if dtype == torch.float64 else "fp32"
    found = SaliencyEngine(model, layout, precision=precision)(images, labels)
    assert relative_error(found.profiles, reference_profiles(model, images, labels, layout)) < 1e-5


def test_a_class_token_needs_no_compiled_kernels(monkeypatch):
    monkeypatch.setattr(finish, "load", lambda: None)
    model = small_model("vit_tiny_patch16_224", img_size=64, depth=1)
    layout = profile_layout(model, "linear")
    images, labels = small_batch(2, 64)
    found = SaliencyEngine(model, layout, precision="fp64", kernels=False)(images, labels)
    assert relative_error(found.profiles, reference_profiles(model, images, labels, layout)) < 1e-12


def test_a_failure_of_the_engine_alone_is_a_verdict(monkeypatch):
    model = small_model("test_resnet").float()
    layout = profile_layout(model)
    engine = SaliencyEngine(model, layout)

    def fail(*_: object) -> None:
        raise RuntimeError("a view is\nmodified in place")

    monkeypatch.setattr(engine, "_run", fail)
    verdict = self_check(engine, *small_batch(2, 32, torch.float32))
    assert not verdict.ok
    assert verdict.message == "the fast engine fails on this model: a view is modified in place"
