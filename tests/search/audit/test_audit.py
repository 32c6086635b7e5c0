"""An audit of an index in which every kind of finding is planted."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from indexer.errors import SettingError, StoreError
from indexer.store import Store
from search.audit import KINDS, AuditReport, AuditSettings, Finding, audit, read_findings
from search.audit.duplicates import duplicates
from search.audit.pictures import Pictures
from search.audit.report import write_findings
from tests.search.audit.conftest import CONFLICT, EXACT, NEAR, WRONG
from tests.search.conftest import make_index
from tests.search.modes.conftest import NAMES, planted_arrays
from tests.support.arrays import index_of_arrays


def test_wrong_labels_come_first_with_the_right_label(store: Store) -> None:
    found = audit(store, AuditSettings(kinds=("labels",), top=6)).findings
    assert {finding.subject for finding in found} == {f"r{row}" for row in WRONG}
    for finding in found:
        assert (finding.label_name, finding.suggested_name) == ("truck", "ship")
        assert finding.suggested_probability is not None
        assert finding.suggested_probability > 0.9
        assert "nearest images are ship" in finding.reason
        assert finding.evidence["neighbours"]["labels"]["ship"] >= 12
        assert finding.evidence["profile"]["confusions"]
        assert finding.subject not in finding.samples[1:]


def test_the_profile_under_the_suggested_label_is_evidence(store: Store) -> None:
    asked: list[tuple[Sequence[str], np.ndarray]] = []

    def relabel(ids: Sequence[str], labels: np.ndarray) -> np.ndarray:
        asked.append((ids, labels))
        return np.full((len(ids), 60), -0.25, np.float32)

    settings = AuditSettings(kinds=("labels",), top=3)
    for finding in audit(store, settings, relabel=relabel).findings:
        assert finding.evidence["profile"]["under_suggested"] == 0.25
        assert "0.25 as ship" in finding.reason
    assert [NAMES[label] for label in asked[0][1]] == ["ship"] * 3


def test_duplicates_are_found_and_conflicts_come_first(store: Store) -> None:
    found = audit(store, AuditSettings(kinds=("duplicates",))).findings
    groups = [finding.samples for finding in found]
    pairs = (CONFLICT[::-1], EXACT, NEAR)  # the suspect comes first
    assert groups == [tuple(f"r{row}" for row in pair) for pair in pairs]
    assert [finding.evidence["exact"] for finding in found] == [True, True, False]
    assert "but labelled" in found[0].reason
    assert "nearly identical" in found[2].reason


def test_of_copies_only_a_label_of_another_copy_is_suggested(store: Store) -> None:
    conflict, *equal = audit(store, AuditSettings(kinds=("duplicates",))).findings
    names = store.take([f"r{row}" for row in CONFLICT], ["label_name"])["label_name"].to_pylist()
    assert (conflict.suggested_name, conflict.label_name) == tuple(names)
    assert conflict.copied_labels == (names[1], names[0])
    assert conflict.reason.startswith(f"r{CONFLICT[1]} and r{CONFLICT[0]} are identical")
    assert f"the model finds {names[0]} likelier" in conflict.reason
    for finding in equal:
        assert (finding.suggested_name, finding.label_name) == (None, None)


@pytest.mark.parametrize(
    ("labels", "believed", "suspect", "right", "why"),
    [
        ("cat dog", (0.9, 0.02), "b", "cat", "finds cat likelier, 90 % against 2 %"),
        ("cat dog", (0.02, 0.9), "a", "dog", "finds dog likelier, 90 % against 2 %"),
        ("cat dog dog", (0.9, 0.1, 0.1), "a", "dog", "labelled cat, dog: 2 of 3 are dog"),
        ("cat dog cat ship", (0.9, 0.2, 0.9, 0.1), "d", "cat", "cat, dog, ship: 2 of 4 are cat"),
        ("cat cat dog dog", (0.5, 0.3, 0.6, 0.4), "b", "dog", "dog likelier, 50 % against 40 %"),
        ("cat cat cat", (0.1, 0.2, 0.3), "a", None, "all labelled cat"),
    ],
)
def test_the_suggestion_is_that_of_most_copies_or_else_of_the_model(
    labels: str, believed: tuple[float, ...], suspect: str, right: str | None, why: str
) -> None:
    names = labels.split()
    ids = tuple("abcd"[: len(names)])
    same = np.zeros(len(ids), np.uint64)
    pictures = Pictures(
        ids, (b"one",) * len(ids), np.zeros((len(ids), 768), np.uint8), same, same, np.empty((0, 0))
    )
    (found,) = duplicates(
        pictures, dict(zip(ids, names, strict=True)), dict(zip(ids, believed, strict=True)), 0.95
    )
    assert (found.subject, found.suggested_name) == (suspect, right)
    assert found.samples[0] == suspect
    assert set(found.samples) == set(ids)
    assert found.label_name == (None if right is None else names[ids.index(suspect)])
    assert found.copied_labels == tuple(names[ids.index(sample)] for sample in found.samples)
    assert why in found.reason


@pytest.fixture
def copied(planted_index: Path, tmp_path: Path) -> Store:
    """A copy, so that findings about the original beside it stay out of other tests."""
    return Store.open(shutil.copytree(planted_index, tmp_path / "copied"))


def test_leaks_name_the_twin_in_the_other_index(copied: Store, planted_index: Path) -> None:
    other = Store.open(planted_index)
    found = audit(copied, AuditSettings(kinds=("duplicates",), top=1000), against=other).findings
    leaked = {finding.subject for finding in found if finding.kind == "leaks"}
    assert leaked == set(copied.read(["id"])["id"].to_pylist())
    conflicts = [f for f in found if f.kind == "leaks" and "labelled" in f.reason]
    assert {finding.subject for finding in conflicts} == {f"r{CONFLICT[1]}"}


def test_leaks_come_first_and_are_counted_before_the_cut(
    copied: Store, planted_index: Path
) -> None:
    settings = AuditSettings(kinds=("labels", "duplicates"), top=2)
    suspects = len(audit(copied, AuditSettings(kinds=("labels",), top=1000)))
    report = audit(copied, settings, against=Store.open(planted_index))
    assert report.kinds == ("leaks", "labels", "duplicates")
    assert (len(report.of("leaks")), len(report.of("duplicates"))) == (2, 2)
    assert report.totals == {"leaks": copied.count(), "labels": suspects, "duplicates": 3}
    assert report.to_json()["totals"] == report.totals
    stored = read_findings(copied)
    assert stored.kinds == ("leaks", "labels", "duplicates", "causes", "filters")
    assert stored.findings == report.findings
    assert stored.totals == report.totals
    audit(copied, AuditSettings(kinds=("filters",), top=1))
    assert read_findings(copied).totals.items() > report.totals.items()


def test_how_many_filters_stand_out_does_not_depend_on_how_many_are_kept(copied: Store) -> None:
    few, many = (audit(copied, AuditSettings(kinds=("filters",), top=top)) for top in (2, 1000))
    assert few.total("filters") == many.total("filters") == len(many) > len(few) == 2
    assert few.findings == many.findings[:2]


def test_suspects_are_not_counted_where_failures_were_no_candidates(
    copied: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.audit.labels.CANDIDATES", 20)
    report = audit(copied, AuditSettings(kinds=("labels",), top=2))
    assert not report.totals
    assert report.total("labels") == 2
    assert "labels" not in read_findings(copied).totals


def test_findings_that_are_gone_are_not_counted() -> None:
    causes = tuple(Finding("causes", 1.0, mode, (), "dark") for mode in ("m1", "m2"))
    report = AuditReport(causes, ("causes",), {"causes": 7})
    assert report.without_outdated({"m2"}).totals == {"causes": 6}
    assert not report.without_outdated({"m1", "m2"}).totals
    with pytest.raises(ValueError, match="2 of 1 findings"):
        AuditReport(causes, ("causes",), {"causes": 1})


def test_the_dark_mode_and_its_metadata_are_shared_causes(store: Store) -> None:
    found = audit(store, AuditSettings(kinds=("causes",))).findings
    shared = {finding.evidence["property"]: finding for finding in found}
    assert {"brightness", "light=night"} <= set(shared)
    assert "iso" not in shared
    dark = shared["brightness"]
    assert dark.evidence["effect"] < -0.9
    assert "are dark" in dark.reason
    assert {int(sample[1:]) for sample in dark.samples} <= set(range(40))
    correct = store.take([pair["correct"] for pair in dark.evidence["pairs"]], ["correct"])
    assert all(correct["correct"].to_pylist())


def test_weak_filters_are_those_that_causes_boost(store: Store) -> None:
    found = audit(store, AuditSettings(kinds=("filters",), top=24)).findings
    columns = {store.manifest.layout.column(finding.subject) for finding in found}
    assert columns <= set(range(24))
    assert len(columns) >= 10
    best = found[0]
    assert best.evidence["modes"]
    assert best.evidence["share"] > best.evidence["expected"]
    assert best.evidence["share"] > best.evidence["share_of_correct"]
    assert best.evidence["p_value"] < 0.05 / 10


def test_one_or_two_failures_show_no_weak_filter(tmp_path: Path) -> None:
    made = make_index(tmp_path / "made.lancedb", rows=6, seed=2)
    assert made.count("NOT correct") == 2
    assert audit(made, AuditSettings(kinds=("filters",))).total("filters") == 0


def test_findings_are_stored_by_kind(store: Store) -> None:
    audit(store, AuditSettings(kinds=("duplicates",)))
    audit(store, AuditSettings(kinds=("filters",), top=2))
    stored = read_findings(store)
    assert len(stored.of("duplicates")) == 3
    assert len(stored.of("filters")) == 2
    table = audit(store, AuditSettings(kinds=("duplicates",))).to_arrow()
    assert table["rank"].to_pylist() == [1, 2, 3]
    assert json.loads(table["evidence"][0].as_py())["exact"] is True


def test_a_report_shows_itself(store: Store) -> None:
    report = audit(store, AuditSettings(kinds=("duplicates", "filters"), top=2))
    assert set(report.to_json()["findings"]) == {"duplicates", "filters"}
    assert report._repr_html_().count("<tr>") == 1 + len(report) == 1 + len(report.to_pandas())


def test_an_index_without_embeddings_or_thumbnails_is_audited(tmp_path: Path) -> None:
    bare = index_of_arrays(tmp_path / "bare", names=NAMES, **planted_arrays())
    report = audit(bare)
    assert report.of("labels")
    assert not report.of("duplicates")
    assert not report.of("causes")
    assert "nearest" not in report.of("labels")[0].reason


def test_an_index_without_failures_is_audited(tmp_path: Path) -> None:
    arrays = planted_arrays()
    arrays["labels"] = arrays["logits"].argmax(1)
    report = audit(index_of_arrays(tmp_path / "clean", names=NAMES, **arrays))
    assert not report.of("labels")
    assert not report.of("filters")


def test_no_audit_yet_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="failsearch audit"):
        read_findings(index_of_arrays(tmp_path / "new", names=NAMES, **planted_arrays()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kinds": ("ghosts",)},
        {"kinds": ()},
        {"kinds": ("labels", "labels")},
        {"top": 0},
        {"similarity": 1.5},
        {"effect": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(SettingError):
        AuditSettings(**wrong)


def test_findings_check_themselves() -> None:
    with pytest.raises(ValueError, match="needs a kind"):
        Finding("", 1.0, "a", (), "because")
    with pytest.raises(ValueError, match="one line"):
        Finding("labels", 1.0, "a", (), "because\nof")
    weak, strong = (Finding("labels", score, "a", (), "why") for score in (0.1, 0.9))
    with pytest.raises(ValueError, match="not ordered"):
        AuditReport((weak, strong), KINDS)
    with pytest.raises(ValueError, match="not asked for"):
        AuditReport((weak,), ("causes",))


def test_findings_of_a_later_version_are_read(store: Store) -> None:
    audit(store, AuditSettings(kinds=("duplicates",)))
    later = Finding("ghosts", 1.0, "r0", ("r0",), "it is haunted")
    write_findings(store, AuditReport((later,), ("ghosts",)))
    report = read_findings(store)
    assert report.kinds == (*KINDS, "ghosts")
    assert report.of("ghosts") == (later,)
    assert report.of("duplicates")
