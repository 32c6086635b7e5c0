"""The fast engine equals the one-image reference in float64, model by model."""

import pytest

from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.layout import profile_layout
from indexer.saliency.reference import ReferenceEngine
from tests.support.saliency import small_batch, small_model, worst_layer_error

CONVOLUTIONAL = {
    "resnet18": 32,
    "resnet50": 32,
    "resnext50_32x4d": 32,
    "densenet121": 32,
    "efficientnet_b0": 48,
    "mobilenetv3_small_100": 48,
    "regnety_002": 48,
    "convnext_atto": 48,
    "nf_resnet26": 40,
    "resnetv2_50x1_bit": 32,
    "tf_mobilenetv3_small_100": 45,
    "edgenext_xx_small": 64,
}
TRANSFORMERS = {
    "vit_tiny_patch16_224": {"img_size": 64, "depth": 4},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "window_size": 4},
    "beit_base_patch16_224": {"img_size": 32, "depth": 2},
    "swinv2_tiny_window8_256": {
        "img_size": 64,
        "window_size": 4,
        "embed_dim": 24,
        "depths": (1, 2),
        "num_heads": (2, 4),
    },
    "test_vit_relpos": {"img_size": 64},
    "convit_tiny": {"img_size": 32, "embed_dim": 12, "depth": 2, "local_up_to_layer": 1},
    "xcit_nano_12_p8_224": {"img_size": 32, "depth": 1},
}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_models_match_the_reference(name):
    model = small_model(name)
    layout = profile_layout(model, "all")
    images, labels = small_batch(3, CONVOLUTIONAL[name])
    expected = ReferenceEngine(model, layout, precision="fp64")(images, labels)
    found = SaliencyEngine(model, layout, precision="fp64")(images, labels)
    assert worst_layer_error(found.profiles, expected.profiles, layout) < 1e-10
    assert (found.logits - expected.logits).abs().max() < 1e-8 * expected.logits.abs().max()
    assert (found.embeddings - expected.embeddings).norm() < 1e-10 * expected.embeddings.norm()


@pytest.mark.parametrize("units", ["linear", "all"])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_match_the_reference(name, units):
    model = small_model(name, **TRANSFORMERS[name])
    layout = profile_layout(model, units)
    images, labels = small_batch(3, TRANSFORMERS[name]["img_size"])
    expected = ReferenceEngine(model, layout, precision="fp64")(images, labels)
    found = SaliencyEngine(model, layout, precision="fp64")(images, labels)
    assert worst_layer_error(found.profiles, expected.profiles, layout) < 1e-10
    assert found.embeddings is not None
