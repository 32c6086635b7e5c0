"""An index that names a module runs it only with the consent of whoever opens it."""

import dataclasses
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from indexer.errors import UntrustedModelError
from indexer.indexed_model import load_indexed_model
from indexer.models import load_model
from indexer.trust import TRUST_MODEL, remember, require_trust, trust_all
from tests.support.models import manifest_of

EVIL = """
from pathlib import Path

Path(__file__).with_name("ran").touch()

def make():
    raise RuntimeError("too late")
"""


@pytest.fixture
def configuration(tmp_path, monkeypatch):
    """A configuration folder in which nothing is trusted yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    return tmp_path / "configuration" / "failsearch"


def test_the_module_that_a_strangers_index_names_is_not_imported(
    configuration, tmp_path, checkpoint
):
    shared = tmp_path / "shared.lancedb"
    shared.mkdir()
    (shared / "evil.py").write_text(EVIL)
    own = manifest_of(load_model("test_resnet", checkpoint=checkpoint))
    manifest = dataclasses.replace(
        own, model={**own.model, "spec": "evil:make", "folder": str(shared)}
    )

    with pytest.raises(UntrustedModelError) as refusal:
        load_indexed_model(manifest)

    assert not (shared / "ran").exists()
    assert "evil" not in sys.modules
    assert f"'evil' from {shared}" in str(refusal.value)
    assert TRUST_MODEL in str(refusal.value)
    assert "--trust-model" in str(refusal.value)


def test_without_a_folder_it_is_the_current_one(configuration, tmp_path, checkpoint, monkeypatch):
    monkeypatch.chdir(tmp_path)
    remember("own:make", str(tmp_path))
    own = manifest_of(load_model("test_resnet", checkpoint=checkpoint))
    manifest = dataclasses.replace(own, model={**own.model, "spec": "evil:make", "folder": None})

    with pytest.raises(UntrustedModelError, match=f"from {tmp_path} "):
        load_indexed_model(manifest)


def test_what_this_user_named_is_trusted_in_that_folder_alone(configuration, tmp_path):
    remember("own:make", str(tmp_path))
    remember("own:make", str(tmp_path))

    require_trust("own:make", str(tmp_path))
    for spec, folder in (("own:other", tmp_path), ("own:make", tmp_path / "elsewhere")):
        with pytest.raises(UntrustedModelError):
            require_trust(spec, str(folder))
    noted = (configuration / "trusted-models.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in noted] == [["own:make", str(tmp_path)]]


def test_only_the_user_may_write_what_is_trusted(configuration):
    umask = os.umask(0)
    try:
        remember("own:make", "/somewhere")
    finally:
        os.umask(umask)

    assert stat.S_IMODE(configuration.stat().st_mode) == 0o700
    assert stat.S_IMODE((configuration / "trusted-models.jsonl").stat().st_mode) == 0o600


def test_a_list_that_cannot_be_read_or_written_leaves_the_variable(configuration, monkeypatch):
    configuration.parent.mkdir()
    configuration.write_text("a file where the folder belongs")
    remember("own:make", "/somewhere")

    with pytest.raises(UntrustedModelError):
        require_trust("own:make", "/somewhere")
    monkeypatch.setenv(TRUST_MODEL, "0")
    with pytest.raises(UntrustedModelError):
        require_trust("own:make", "/somewhere")
    trust_all()
    require_trust("own:make", "/somewhere")


def test_damaged_lines_trust_nothing_and_harm_nothing(configuration):
    remember("own:make", "/somewhere")
    with (configuration / "trusted-models.jsonl").open("ab") as file:
        file.write(b'["evil:make"\n\xff\n')

    require_trust("own:make", "/somewhere")
    with pytest.raises(UntrustedModelError):
        require_trust("evil:make", "/somewhere")


def test_nothing_in_the_current_folder_is_taken_for_the_list(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "configuration")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    list_file = Path("configuration/failsearch/trusted-models.jsonl")
    list_file.parent.mkdir(parents=True)
    list_file.write_text('["evil:make", "/somewhere"]\n')

    with pytest.raises(UntrustedModelError):
        require_trust("evil:make", "/somewhere")
