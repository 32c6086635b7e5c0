"""Models by timm name, checkpoint and folder; what is refused; and the digest of weights."""

import json

import pytest
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from indexer.errors import IncompatibleIndexError, ModelError, StoreError
from indexer.indexed_model import load_indexed_model
from indexer.models import load_model, save_timm_directory, weights_digest
from indexer.transforms import TransformOverrides
from tests.support.models import ARCHITECTURE, manifest_of

SMALL = "test_resnet.r160_in1k"


def test_a_checkpoint_sets_the_number_of_classes(checkpoint):
    loaded = load_model(ARCHITECTURE, checkpoint=checkpoint)

    assert loaded.num_classes == 3
    assert not loaded.model.training
    assert loaded.architecture == ARCHITECTURE
    assert loaded.checkpoint == str(checkpoint)
    assert loaded.class_names is None
    assert torch.equal(loaded.model.state_dict()["fc.bias"], load_file(checkpoint)["fc.bias"])


def test_weights_lie_as_convolutions_read_them(checkpoint):
    model = load_model(ARCHITECTURE, checkpoint=checkpoint).model

    weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "state_dict_ema"])
def test_wrappers_of_training_loops_come_off(tmp_path, checkpoint, prefix, wrapper):
    state = {f"{prefix}{name}": value for name, value in load_file(checkpoint).items()}
    content = state if wrapper is None else {wrapper: state, "epoch": 3}
    torch.save(content, tmp_path / "weights.pth")

    loaded = load_model(ARCHITECTURE, checkpoint=tmp_path / "weights.pth")

    assert loaded.digest == load_model(ARCHITECTURE, checkpoint=checkpoint).digest


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / "made-by-the-pickle"), "w")

    torch.save({"weight": Hostile()}, tmp_path / "bad.pth")

    message = r"cannot be read as a checkpoint .*; save model.state_dict\(\)$"
    with pytest.raises(ModelError, match=message):
        load_model(ARCHITECTURE, checkpoint=tmp_path / "bad.pth")
    assert not (tmp_path / "made-by-the-pickle").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04broken"])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_without_weights_is_refused(tmp_path, content, suffix):
    file = tmp_path / f"weights.{suffix}"
    file.write_bytes(content)

    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        load_model(ARCHITECTURE, checkpoint=file)


def test_a_checkpoint_of_something_else_is_refused(tmp_path, checkpoint):
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "log.pth")
    with pytest.raises(ModelError, match="holds no state dictionary"):
        load_model(ARCHITECTURE, checkpoint=tmp_path / "log.pth")
    with pytest.raises(ModelError, match="no such checkpoint"):
        load_model(ARCHITECTURE, checkpoint=tmp_path / "gone.pth")
    (tmp_path / "notes.pth").write_text("export PATH=/bin\n")
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        load_model(ARCHITECTURE, checkpoint=tmp_path / "notes.pth")
    state = load_file(checkpoint)
    state["extra"] = state.pop("conv1.0.weight") if "conv1.0.weight" in state else torch.zeros(1)
    state["fc.bias"] = torch.zeros(9)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"does not fit the model: .*unexpected.*fc\.bias \(9,\)"):
        load_model(ARCHITECTURE, checkpoint=tmp_path / "other.safetensors")


def test_a_wrong_number_of_classes_names_both(checkpoint):
    with pytest.raises(ModelError, match="has 3 classes, 10 are expected"):
        load_model(ARCHITECTURE, checkpoint=checkpoint, num_classes=10)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet18x", "no model 'resnet18x': did you mean resnet18"),
        ("zzz", "see timm.list_models"),
        ("resnet18.no_such_tag", "it has resnet18"),
        ("models/mine", "write local-dir:models/mine for a folder or hf-hub:models/mine"),
        ("local-dir:/no/such/folder", "no such model folder: /no/such/folder"),
        (ARCHITECTURE + "3", "did you mean test_resnet"),
    ],
)
def test_an_unknown_model_is_one_line_with_a_way_out(spec, message):
    with pytest.raises(ModelError, match=message):
        load_model(spec)


def test_a_path_is_told_from_a_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine.safetensors").touch()
    (tmp_path / ARCHITECTURE).mkdir()
    with pytest.raises(ModelError, match="write local-dir:mine for a folder"):
        load_model("mine")
    with pytest.raises(ModelError, match="is a file: give its architecture with --model and it"):
        load_model("mine.safetensors")
    with pytest.raises(ModelError, match="no such checkpoint"):  # the name comes first
        load_model(ARCHITECTURE, checkpoint=tmp_path / "none.pth")


@pytest.mark.parametrize("spec", [SMALL, "hf-hub:timm/no-such-model"])
def test_without_a_network_the_way_out_is_named(monkeypatch, tmp_path, spec):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(ModelError, match="the hub cannot be reached: give --checkpoint FILE"):
        load_model(spec)


@pytest.mark.parametrize("spec", [SMALL, "hf-hub:timm/no-such-model"])
def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch, tmp_path, capfd, spec):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port of "discard"

    with pytest.raises(ModelError, match="the hub cannot be reached: give --checkpoint FILE"):
        load_model(spec)
    assert capfd.readouterr().err == ""
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("config", [None, "{", '{"no": "architecture"}', "[]"])
def test_a_folder_without_a_timm_config_is_refused(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config)

    with pytest.raises(ModelError, match=r"config"):
        load_model(f"local-dir:{tmp_path}")


def test_a_saved_model_is_read_again_by_us_and_by_timm(tmp_path, checkpoint):
    overrides = TransformOverrides(input_size=(40, 48), mean=(0.1, 0.2, 0.3), crop_mode="squash")
    loaded = load_model(ARCHITECTURE, checkpoint=checkpoint, overrides=overrides)
    named = load_indexed_model(manifest_of(loaded, ("cat", "dog", "owl")))

    saved = save_timm_directory(named.model, named, tmp_path / "out")

    again = load_model(saved.spec)
    assert again.digest == loaded.digest
    assert again.transform_config == loaded.transform_config
    assert again.class_names == ("cat", "dog", "owl")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["label_names"] == ["cat", "dog", "owl"]
    model = timm.create_model(saved.spec, pretrained=True)
    assert weights_digest(model) == loaded.digest


def test_a_state_dictionary_is_saved_in_place_of_the_models(tmp_path, checkpoint):
    loaded = load_model(ARCHITECTURE, checkpoint=checkpoint)
    state = {name: value + 1 for name, value in loaded.model.state_dict().items()}

    saved = save_timm_directory(state, loaded, tmp_path / "out")

    assert torch.equal(load_model(saved.spec).model.state_dict()["fc.bias"], state["fc.bias"])


def test_a_full_disk_is_said_where_a_model_is_saved(tmp_path, checkpoint, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: no space (os error 28)")

    monkeypatch.setattr("indexer.weights.save_file", full)
    loaded = load_model(ARCHITECTURE, checkpoint=checkpoint)
    with pytest.raises(StoreError, match="the disk is full"):
        save_timm_directory(loaded.model, loaded, tmp_path / "out")


def test_an_indexed_model_comes_back_and_changed_weights_are_refused(tmp_path, checkpoint):
    loaded = load_model(ARCHITECTURE, checkpoint=checkpoint)
    manifest = manifest_of(loaded)

    again = load_indexed_model(manifest)

    assert again.class_names == ("a", "b", "c")
    assert again.transform_config == loaded.transform_config
    state = load_file(checkpoint)
    state["fc.bias"][0] += 1
    save_file(state, checkpoint)
    with pytest.raises(IncompatibleIndexError, match="are not those that were indexed"):
        load_indexed_model(manifest)


def test_a_model_of_fixed_size_is_built_for_another(tmp_path):
    save_file(
        timm.create_model("test_vit", num_classes=4, img_size=64).state_dict(),
        tmp_path / "w.safetensors",
    )

    loaded = load_model(
        "test_vit", checkpoint=tmp_path / "w.safetensors", overrides=TransformOverrides((64, 64))
    )

    assert loaded.num_classes == 4
    assert loaded.transform_config["input_size"] == [3, 64, 64]
    with pytest.raises(ModelError, match="does not fit the model"):
        load_model("test_vit", checkpoint=tmp_path / "w.safetensors")


def test_the_digest_sees_names_shapes_types_and_values():
    def digest(**tensors):
        module = nn.Module()
        for name, value in tensors.items():
            module.register_buffer(name, value)
        return weights_digest(module)

    base = digest(a=torch.zeros(2, 3))
    assert digest(a=torch.zeros(2, 3)) == base
    others = [
        digest(b=torch.zeros(2, 3)),
        digest(a=torch.zeros(3, 2)),
        digest(a=torch.zeros(2, 3, dtype=torch.float64)),
        digest(a=torch.ones(2, 3)),
        digest(a=torch.zeros(2, 3), b=torch.tensor(1)),
    ]
    assert len({base, *others}) == 6


def test_the_digest_is_of_values_and_not_of_strides():
    module = nn.Conv2d(3, 4, 3)
    before = weights_digest(module)

    assert weights_digest(module.to(memory_format=torch.channels_last)) == before
