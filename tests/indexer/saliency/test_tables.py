"""Models that compute something from their weights before they look at the images."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indexer.errors import UnsupportedLayerError
from indexer.saliency import tally
from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.layout import profile_layout
from indexer.saliency.reference import reference_profiles, self_check
from tests.support.saliency import randomize, relative_error, small_batch

TOKENS, WIDTH, HEADS = 16, 6, 2


class Net(nn.Module):
    """Tokens [B, 16, 6] of 2x2 patches, a `mix` that tests override, and a pooled head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, WIDTH, 2, stride=2)
        self.grid = nn.Linear(2, 5)
        self.out = nn.Linear(5, HEADS, bias=False)
        self.place = nn.Linear(4, WIDTH)
        self.fc = nn.Linear(WIDTH, 10)
        self.register_buffer("coordinates", torch.randn(1, 3, 3, 2))
        self.register_buffer("index", torch.randint(9, (TOKENS * TOKENS,)))
        self.register_buffer("constants", torch.randn(1, TOKENS, 4))

    def bias(self) -> Tensor:
        """Position biases [heads, 16, 16], as Swin V2 makes them."""
        table = self.out(F.relu(self.grid(self.coordinates), inplace=True)).view(-1, HEADS)
        return 16 * torch.sigmoid(table[self.index].view(TOKENS, TOKENS, HEADS).permute(2, 0, 1))

    def mix(self, x: Tensor) -> Tensor:
        return x.tanh()

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.mix(self.embed(images).flatten(2).mT).mean(1))


def heads(x: Tensor) -> Tensor:
    """[B, tokens, 6] -> [B, heads, tokens, 3]."""
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class Biased(Net):
    def mix(self, x):
        q = heads(x)
        logits = q @ q.mT + self.bias().unsqueeze(0)
        return joined(logits.softmax(3) @ q)


class Windows(Net):
    """Two windows of each image, the same biases for both."""

    def mix(self, x):
        q = heads(torch.stack([x, x.flip(1) * 2], 1).flatten(0, 1))
        logits = q @ q.mT
        logits += self.bias()
        return joined(logits.softmax(3) @ q).unflatten(0, (-1, 2)).sum(1)


class Masked(Net):
    def mix(self, x):
        return joined(F.scaled_dot_product_attention(*[heads(x)] * 3, attn_mask=self.bias()))


class SharedBias(Net):
    """One table in two layers, once as an argument by position."""

    def mix(self, x):
        bias = self.bias()[None]
        x = joined(F.scaled_dot_product_attention(*[heads(x)] * 3, bias))
        return joined(F.scaled_dot_product_attention(*[heads(x)] * 3, attn_mask=bias))


class Small(Net):
    """Tables with fewer dimensions and sizes than what they meet, in other operations than sums."""

    def mix(self, x):
        scale = self.place(self.constants[0, :1])[0]
        shift = self.out(self.grid(self.coordinates)).mean()
        return x.mul(scale) / shift - torch.sub(shift, x).sin()


class Pixels(Net):
    """A table meets the images before any layer."""

    def forward(self, images):
        return super().forward(images + self.bias().mean(0)[:8, :8])


class Repeated(Net):
    """Positions by a convolution over a constant map, repeated for each image, as in XCiT."""

    def mix(self, x):
        maps = F.conv2d(self.constants.mT.unsqueeze(3), self.place.weight[..., None, None])
        positions = maps.flatten(2).mT.repeat(len(x), 1, 1)
        positions += x
        return positions.tanh()


class Prepended(Net):
    """A token that was computed without the images."""

    def mix(self, x):
        token = self.place(self.constants[:, :1]).expand(len(x), -1, -1)
        return torch.cat([token, x], 1).tanh()


class Expanded(Net):
    """The constants are expanded before the layer, as in ConViT."""

    def mix(self, x):
        return (x + self.place(self.constants.expand(len(x), -1, -1)).relu()).tanh()


class Made(Net):
    """The constants are made for as many images, as in EdgeNeXt."""

    def mix(self, x):
        maps = torch.ones(len(x), TOKENS, 4, dtype=x.dtype).cumsum(1)
        weight = self.place.weight[..., None, None]
        return (x + F.conv2d(maps.mT.unsqueeze(3).sin(), weight).flatten(2).mT).tanh()


class Everywhere(Net):
    """A weight that is used on images, on constants, and as it is."""

    def mix(self, x):
        y = F.linear(x[..., :4], self.place.weight)
        return (y + self.place(self.constants) + self.place.weight[:, 0]).tanh()


CASES = {
    kind.__name__: kind
    for kind in (
        *(Biased, Windows, Masked, SharedBias, Small, Pixels),
        *(Repeated, Prepended, Expanded, Made, Everywhere),
    )
}


def build(kind: type[Net]) -> Net:
    torch.manual_seed(0)
    return randomize(kind()).eval().double()


@pytest.mark.parametrize("batch", [1, 3, 4, 9])  # 9: as many as there are rows in the grid
@pytest.mark.parametrize("case", CASES)
def test_tables_match_the_reference(case, batch):
    model = build(CASES[case])
    layout = profile_layout(model, "all")
    images, labels = small_batch(batch, 8)
    expected = reference_profiles(model, images, labels, layout)
    engine = SaliencyEngine(model, layout, precision="fp64")
    assert relative_error(engine(images, labels).profiles, expected) < 1e-13
    assert relative_error(engine(images[:2], labels[:2]).profiles, expected[:2]) < 1e-13


@pytest.mark.parametrize("case", ["Windows", "Masked", "Expanded"])
@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-5), ("bf16", 2e-2), ("amp", 0.2)])
def test_tables_in_lower_precision(case, precision, limit):
    model = build(CASES[case])
    layout = profile_layout(model, "all")
    images, labels = small_batch(3, 8)
    expected = reference_profiles(model, images, labels, layout)
    found = SaliencyEngine(model.float(), layout, precision=precision)(images.float(), labels)
    assert relative_error(found.profiles.double(), expected) < limit


def test_memory_for_tables_is_bounded(monkeypatch):
    model = build(Biased)
    layout = profile_layout(model, "all")
    images, labels = small_batch(5, 8)
    engine = SaliencyEngine(model, layout, precision="fp64")
    expected = engine(images, labels).profiles
    sizes = []

    def counted(derived, parameter, gradients):
        sizes.append(gradients.numel())
        return original(derived, parameter, gradients)

    original = tally.pull_back
    monkeypatch.setattr(tally, "pull_back", counted)
    monkeypatch.setattr(tally, "DENSE_SCRATCH", 2 * HEADS * TOKENS**2)
    assert relative_error(engine(images, labels).profiles, expected) < 1e-13
    assert max(sizes) == 2 * HEADS * TOKENS**2


def test_layers_behind_a_table_are_described():
    model = build(Biased)
    engine = SaliencyEngine(model, profile_layout(model, "all"), precision="fp64")
    engine(*small_batch(3, 8))
    assert ("out", "dense", "shapes a table, not the images") in engine.describe()


class Product(Net):
    """A table meets the samples in an operation that is not understood."""

    def mix(self, x):
        return (self.bias().mean(0) @ x).tanh()


class HalfKnown(Net):
    """One of two uses is not understood."""

    def mix(self, x):
        bias = self.bias()[0]
        return (x + bias[:, :1] + torch.where(x > 0, bias[:, 1:2], x)).tanh()


class TokensFirst(Net):
    """The samples do not lead where they meet the table."""

    def mix(self, x):
        return (x.transpose(0, 1) + self.bias()[0, 0, :WIDTH]).transpose(0, 1).tanh()


class Overwritten(Net):
    """The table is changed after it has met the samples."""

    def mix(self, x):
        scale = self.place(self.constants)
        y = x + scale
        scale *= 2
        return (y * scale).tanh()


class Filled(Net):
    """The table takes up what comes from the images."""

    def mix(self, x):
        table = self.place(self.constants).repeat(3, 1, 1)
        table += x[:3].sum()
        return (x + table.mean(0)).tanh()


@pytest.mark.parametrize("batch", [3, 16])
@pytest.mark.parametrize("kind", [Product, HalfKnown, TokensFirst, Overwritten, Filled])
def test_tables_that_cannot_be_followed_are_refused(kind, batch):
    model = build(kind)
    engine = SaliencyEngine(model, profile_layout(model, "all"), precision="fp64")
    assert not self_check(engine, *small_batch(batch, 8)).ok
    error = RuntimeError if kind is Overwritten else UnsupportedLayerError
    with pytest.raises(error):
        engine(*small_batch(batch, 8))
