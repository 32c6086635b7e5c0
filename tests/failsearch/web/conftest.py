"""Indexes to serve: one of arrays with hostile names, and one with a real model and images."""

import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from failsearch.web.app import create_app
from failsearch.web.security import TOKEN_HEADER, Guard
from indexer.store import Store
from search.modes import ModeSettings, find_modes
from tests.support.arrays import index_of_arrays
from tests.support.classifier import make_small_index

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "\"double\" 'single' &amp; </script>",
    "\u202eright to left \u05d0\u05d1",
    "🚀 = cmd|' /C calc'!A0",
)
HOST = "127.0.0.1:8765"
SAMPLES, UNITS = 120, 24

Connect = Callable[..., TestClient]


def thumbnail(seed: int) -> bytes:
    """Return a small JPEG of one colour."""
    colour = tuple(np.random.default_rng(seed).integers(0, 256, 3).tolist())
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def make_hostile_index(path: Path, names: tuple[str, ...] = HOSTILE, n: int = SAMPLES) -> Store:
    """Make an index whose first 48 samples fail in two planted ways."""
    random = np.random.default_rng(0)
    raw = random.lognormal(-3, 0.5, (n, UNITS)).astype(np.float32)
    labels = np.arange(n) % len(names)
    predictions = labels.copy()
    for cause in range(2):
        rows = slice(24 * cause, 24 * cause + 24)
        labels[rows], predictions[rows] = cause, cause + 1
        raw[rows, 6 * cause : 6 * cause + 6] *= 8
    logits = random.normal(0, 0.1, (n, len(names))).astype(np.float32)
    logits[np.arange(n), predictions] += 5
    store = index_of_arrays(
        path,
        raw=raw,
        logits=logits,
        labels=labels,
        names=names,
        thumbnails=[thumbnail(row) for row in range(n)],
        metadata={"camera": [HOSTILE[row % 4] for row in range(n)]},
    )
    find_modes(store, ModeSettings(resolution=1.0))
    return store


@pytest.fixture(scope="session")
def hostile_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that is only read."""
    return make_hostile_index(tmp_path_factory.mktemp("web") / "hostile.lancedb").path


@pytest.fixture
def own_index(hostile_index: Path, tmp_path: Path) -> Path:
    """A copy that may be written to."""
    return Path(shutil.copytree(hostile_index, tmp_path / "own.lancedb"))


@pytest.fixture(scope="session")
def model_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with images and a model that can be asked."""
    store = make_small_index(tmp_path_factory.mktemp("model"), images_per_class=16).store
    find_modes(store, ModeSettings(min_size=2, min_support=0.0))
    return store.path


@pytest.fixture(scope="session")
def failure(model_index: Path) -> dict:
    """A misclassified sample of that index."""
    rows = Store.open(model_index).read(["id", "label_name", "prediction_name", "correct"])
    return next(row for row in rows.to_pylist() if not row["correct"])


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open a client of an index, with the headers of its own pages unless told otherwise."""
    clients = []

    def _connect(database: Path, **options: object) -> TestClient:
        guard = Guard(frozenset({HOST}), **options)  # type: ignore[arg-type]
        client = TestClient(
            create_app(database, guard),
            base_url=f"http://{HOST}",
            headers={TOKEN_HEADER: guard.form_token},
            raise_server_exceptions=False,
        )
        clients.append(client)
        return client

    yield _connect
    for client in clients:
        client.close()


def finished(client: TestClient) -> dict:
    """Wait for the job behind the pages to end, and return it."""
    deadline = time.monotonic() + 120
    while (job := client.get("/api/job").json()["job"])["active"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return job


@pytest.fixture
def client(connect: Connect, hostile_index: Path) -> TestClient:
    return connect(hostile_index)
