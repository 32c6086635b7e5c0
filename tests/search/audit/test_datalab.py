"""cleanlab's opinion merged into the findings."""

import sys
from pathlib import Path

import numpy as np
import pytest

from indexer.errors import SettingError
from indexer.store import Store
from search.audit import AuditSettings, audit, read_findings
from search.audit.exchange import cleanlab_inputs
from tests.search.audit.conftest import WRONG
from tests.search.modes.conftest import NAMES, planted_arrays
from tests.support.arrays import index_of_arrays

SETTINGS = AuditSettings(kinds=("labels", "cleanlab"), top=6)


def test_cleanlab_comments_on_suspects_and_adds_its_own(store: Store) -> None:
    pytest.importorskip("cleanlab")
    report = audit(store, SETTINGS)
    suspects = {finding.subject for finding in report.of("labels")}
    assert suspects == {f"r{row}" for row in WRONG}
    for finding in report.of("labels"):
        assert finding.evidence["cleanlab"]["is_issue"]
        assert finding.reason.endswith("of 1)")
        assert "cleanlab agrees" in finding.reason
    added = report.of("cleanlab")
    assert 0 < len(added) <= 6
    labels = [finding for finding in added if finding.evidence["issue"] == "label"]
    assert not suspects & {finding.subject for finding in labels}
    assert all(finding.suggested_name != finding.label_name for finding in labels)
    for finding in added:
        given = store.take(finding.samples, ["label_name"])["label_name"].to_pylist()
        copies = finding.evidence["issue"] == "near_duplicate"
        assert finding.copied_labels == (tuple(given) if copies else None)
    assert read_findings(store).of("cleanlab") == added
    assert report.total("cleanlab") == read_findings(store).total("cleanlab")


def test_what_cleanlab_finds_is_counted_before_the_cut(store: Store) -> None:
    pytest.importorskip("cleanlab")
    few, many = (audit(store, AuditSettings(kinds=("cleanlab",), top=top)) for top in (3, 1000))
    assert few.totals == many.totals == {"cleanlab": len(many)}
    assert len(few) == 3 < len(many)
    groups = [set(f.samples) for f in many.findings if f.evidence["issue"] == "near_duplicate"]
    for place, group in enumerate(groups):
        assert not any(other >= group for other in groups[:place])


def test_cleanlab_does_without_embeddings_and_with_a_class_missing(tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    arrays = planted_arrays()
    arrays["labels"][arrays["labels"] == 1] = 3
    bare = index_of_arrays(tmp_path / "bare", names=NAMES, **arrays)
    found = audit(bare, AuditSettings(kinds=("cleanlab",), top=9)).findings
    assert found
    assert {finding.evidence["issue"] for finding in found} == {"label"}
    assert all(finding.suggested_name != "dog" for finding in found)


def test_cleanlab_does_with_one_class_and_few_samples(tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    arrays = {name: values[:6] for name, values in planted_arrays().items()}
    arrays["labels"] = np.zeros(6, arrays["labels"].dtype)
    embeddings = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    few = index_of_arrays(tmp_path / "few", names=NAMES, embeddings=embeddings, **arrays)
    graph = cleanlab_inputs(few).knn_graph
    assert graph is not None
    assert (np.diff(graph.indptr) == 5).all()
    report = audit(few, AuditSettings(kinds=("labels", "cleanlab")))
    assert all("cleanlab" not in finding.reason for finding in report.of("labels"))
    bare = index_of_arrays(tmp_path / "bare", names=NAMES, **arrays)
    assert not audit(bare, AuditSettings(kinds=("cleanlab",))).findings


def test_a_missing_cleanlab_is_said_in_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(SettingError, match=r"pip install 'failsearch\[audit\]'"):
        audit(store, SETTINGS)
    assert audit(store, AuditSettings(kinds=("duplicates",))).findings
