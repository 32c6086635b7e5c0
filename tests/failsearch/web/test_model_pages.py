"""Pages that ask the model: heat-map, brush, paste and search by an image."""

import base64
import shutil
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

import failsearch
from failsearch.indexing import add
from failsearch.web.routes.samples import unpack_mask
from indexer.errors import SettingError
from tests.support.classifier import NAMES, SIDE
from tests.support.pictures import encode, picture

from .conftest import Connect


@pytest.fixture
def asked(connect: Connect, model_index: Path) -> TestClient:
    return connect(model_index)


def packed(region: np.ndarray) -> dict:
    """Return a mask as the page sends it."""
    text = base64.b64encode(np.packbits(region)).decode()
    return {"mask": text, "height": region.shape[0], "width": region.shape[1]}


def square(side: int = SIDE) -> np.ndarray:
    region = np.zeros((side, side), bool)
    region[4:9, 5:9] = True
    return region


def test_an_explanation_has_view_and_heat(asked: TestClient, failure: dict) -> None:
    found = asked.get("/api/explanation", params={"id": failure["id"]}).json()
    assert (found["width"], found["height"]) == (SIDE, SIDE)
    assert found["view"].startswith("data:image/png;base64,")
    assert found["heat"].startswith("data:image/png;base64,")
    assert found["label_name"] == failure["label_name"]


def test_a_mask_moves_probabilities_beside_its_controls(asked: TestClient, failure: dict) -> None:
    for fill in ("blur", "mean", "noise", "inpaint"):
        body = {"id": failure["id"], "fill": fill, **packed(square())}
        found = asked.post("/api/mask", json=body).json()
        assert [row["region"] for row in found["regions"]] == ["brush", "least salient", "random"]
        assert found["area"] == pytest.approx(20 / SIDE**2)
        for row in found["regions"]:
            assert sum(row["after"].values()) == pytest.approx(1)


def test_a_region_is_pasted(asked: TestClient, failure: dict) -> None:
    body = {"id": failure["id"], "onto": failure["label_name"], **packed(square())}
    found = asked.post("/api/paste", json=body).json()
    assert found["wrong"] == failure["prediction_name"]
    assert [row["region"] for row in found["regions"]] == ["brush", "least salient", "random"]
    assert found["pictures"][0]["picture"].startswith("data:image/png")


def test_masks_that_make_no_sense_are_refused(asked: TestClient, failure: dict) -> None:
    bad = (
        packed(np.zeros((SIDE, SIDE), bool)),
        packed(np.ones((SIDE, SIDE), bool)),
        packed(square(32)),
        {"mask": "no base64!", "width": SIDE, "height": SIDE},
        {"mask": "AAAA", "width": SIDE, "height": SIDE},
    )
    for mask in bad:
        assert asked.post("/api/mask", json={"id": failure["id"], **mask}).status_code == 400
    body = {"id": failure["id"], "onto": "nothing", **packed(square())}
    assert asked.post("/api/paste", json=body).status_code == 400


def test_masks_keep_their_orientation() -> None:
    region = np.zeros((3, 5), bool)
    region[1, 4] = region[2, 0] = True
    assert np.array_equal(unpack_mask(**_named(region)), region)
    with pytest.raises(SettingError):
        unpack_mask("", 3, 5)


def _named(region: np.ndarray) -> dict:
    sent = packed(region)
    return {"text": sent["mask"], "width": sent["width"], "height": sent["height"]}


def test_an_image_of_ones_own_is_searched_for(asked: TestClient) -> None:
    for data in (encode(picture()), encode(picture(size=(6000, 5000)), "JPEG")):
        found = asked.post(f"/api/search?label={NAMES[0]}&k=3", content=data).json()
        assert found["query"]["label_name"] == NAMES[0]
        assert len(found["neighbours"]) == 3


def test_an_image_that_was_added_meanwhile_is_shown(
    connect: Connect, model_index: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(model_index, tmp_path / "own.lancedb"))
    client = connect(own)
    before = client.get("/api/failures?among=all").json()["failures"][0]["id"]
    assert client.get("/image", params={"id": before}).status_code == 200
    (tmp_path / "more" / NAMES[0]).mkdir(parents=True)
    picture().save(tmp_path / "more" / NAMES[0] / "new.png")
    add(failsearch.open(own), tmp_path / "more")
    added = {"id": f"{NAMES[0]}/new.png"}
    for address in ("/image", "/api/explanation"):
        assert client.get(address, params=added).status_code == 200


def test_an_image_is_shown_whole(asked: TestClient, failure: dict) -> None:
    answer = asked.get("/image", params={"id": failure["id"]})
    assert answer.headers["content-type"] == "image/png"
