"""Gradients that layers finish for the activations before them are those of plain autograd."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from indexer.saliency import gates
from indexer.saliency.dispatch import Dispatcher
from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.kernels import cpu
from indexer.saliency.layout import profile_layout
from indexer.saliency.products import live_tokens
from indexer.saliency.reference import reference_profiles
from tests.support.saliency import randomize, relative_error, small_batch

pytestmark = pytest.mark.skipif(not cpu.available(), reason="the CPU kernels are not built")


class Net(nn.Module):
    """Three convolutions around an activation whose consumers tests choose."""

    def __init__(self):
        super().__init__()
        self.stem, self.one = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 1)
        self.three, self.fc = nn.Conv2d(64, 64, 3, padding=1), nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.middle(self.stem(x)).mean((2, 3)))

    def middle(self, x):
        return self.one(F.relu(x))


class InPlace(Net):
    def middle(self, x):
        return self.three(x.relu_())


class TwoLayers(Net):
    def middle(self, x):
        y = torch.relu(x)
        return self.one(y) * self.three(y)


class Residual(Net):
    def middle(self, x):
        y = F.relu(x, inplace=True)
        z = F.relu(self.one(y))
        z = self.three(z)
        z += y
        return F.relu(z, True)


class SumLast(Net):
    """The sum's gradient arrives after that of the layer beside it."""

    def middle(self, x):
        y = F.relu(x)
        return self.one(F.gelu(y + x) * 1.5 + self.three(y))


class AddedToItself(Net):
    def middle(self, x):
        y = F.relu(x)
        return self.one(y + y)


class Pooled(Net):
    def middle(self, x):
        return self.one(F.max_pool2d(F.relu(x), 2))


class Stranger(Net):
    """A consumer that sends nothing."""

    def middle(self, x):
        y = F.gelu(x)
        return self.one(y) * y.sigmoid()


class Tanh(Net):
    def middle(self, x):
        return self.one(F.gelu(x, approximate="tanh"))


class Smooth(Net):
    def middle(self, x):
        return self.three(F.gelu(self.one(F.gelu(x))))


class Swish(Net):
    def middle(self, x):
        return self.three(F.silu(self.one(F.silu(x)), inplace=True))


class Hardswish(Net):
    def middle(self, x):
        return self.three(F.hardswish(self.one(F.hardswish(x)), True))


class View(Net):
    def middle(self, x):
        return self.one(F.relu(x[:, :, 1:]))


class Detached(Net):
    """A consumer outside the graph."""

    def middle(self, x):
        y = F.relu(x)
        return self.one(y) * y.detach()


KINDS = [
    Net, InPlace, TwoLayers, Residual, SumLast, AddedToItself, Pooled, Stranger, Tanh, Smooth,
    Swish, Hardswish, View, Detached,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_profiles_are_those_of_plain_autograd(kind) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    layout = profile_layout(model, "all")
    images, labels = small_batch(3, 12, torch.float32)
    expected = reference_profiles(model.double(), images.double(), labels, layout)
    output = SaliencyEngine(model.float(), layout)(images, labels)
    assert relative_error(output.profiles.double(), expected) < 2e-6
    torch.testing.assert_close(output.logits, model(images).detach())


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "mobilenetv3_small_050", "efficientnet_b0"]
)
def test_whole_models(name) -> None:
    torch.manual_seed(0)
    model = randomize(timm.create_model(name, num_classes=10)).eval()
    layout = profile_layout(model)
    images, labels = small_batch(3, 64, torch.float32)
    plain = SaliencyEngine(model, layout, dispatcher=Dispatcher(gates=False))(images, labels)
    gated = SaliencyEngine(model, layout)(images, labels)
    assert relative_error(gated.profiles, plain.profiles) < 1e-5


def test_a_residual_network_finishes_every_gradient_but_the_last(monkeypatch) -> None:
    nodes = []
    prepare = gates._Relu.prepare.__func__

    def noting(cls, ctx, factor):
        prepare(cls, ctx, factor)
        nodes.append(ctx)

    monkeypatch.setattr(gates._Relu, "prepare", classmethod(noting))
    model = randomize(timm.create_model("resnet18", num_classes=10)).eval()
    SaliencyEngine(model, profile_layout(model), fold=False)(*small_batch(2, 64, torch.float32))
    assert len(nodes) == 2 * 17
    nodes = nodes[17:]  # without the pass of one image that the plan is made from
    finished = [node.waits == 0 for node in nodes]
    # The first goes to the pooling layer, the last to the mean over the map.
    assert finished == [False, *[True] * 15, False]
    assert [node.owned for node in nodes] == [True, *[False] * 16]


def test_class_tokens_leave_the_other_tokens_out() -> None:
    g = torch.zeros(2, 9, 4)
    assert live_tokens(g) is None
    g[1, 0, 2] = 1
    g[0, 8, 1] = torch.nan
    live = live_tokens(g)
    assert live is not None
    assert live.tolist() == [0, 8]
    assert live_tokens(g.flatten(0, 1)) is None
    assert live_tokens(torch.ones(2, 9, 4)) is None
    assert live_tokens(torch.zeros(0, 9, 4)) is None


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("kernels", [True, False])
def test_transformers_of_either_pooling(pool, kernels) -> None:
    torch.manual_seed(0)
    options = {"depth": 2, "embed_dim": 64, "num_heads": 2, "global_pool": pool}
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10, **options)
    model = randomize(model).eval()
    layout = profile_layout(model, "linear")
    images, labels = small_batch(3, 64, torch.float32)
    expected = reference_profiles(model.double(), images.double(), labels, layout)
    output = SaliencyEngine(model.float(), layout, kernels=kernels)(images, labels)
    assert relative_error(output.profiles.double(), expected) < 2e-6
