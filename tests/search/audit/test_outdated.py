"""Findings about modes that were regrouped or found anew since."""

import json
import shutil
from pathlib import Path

import pytest

from indexer.store import Store
from search.audit import AuditSettings, audit, read_findings, run
from search.modes import ModeSettings, find_modes, merge_modes, read_modes, rename_mode

KINDS = ("duplicates", "causes", "filters")
COARSE = ModeSettings(resolution=0.5)


@pytest.fixture
def store(planted_index: Path, tmp_path: Path) -> Store:
    """Return a copy of its own, since modes are changed here."""
    return Store.open(shutil.copytree(planted_index, tmp_path / "own"))


def kinds_left(store: Store) -> list[str]:
    report = read_findings(store)
    return sorted(kind for kind in KINDS if report.of(kind))


def test_findings_about_modes_go_with_the_modes(store: Store) -> None:
    audit(store, AuditSettings(kinds=KINDS))
    assert kinds_left(store) == ["causes", "duplicates", "filters"]
    find_modes(store)  # the same again
    rename_mode(store, read_modes(store).modes[0].id, "seen")
    assert kinds_left(store) == ["causes", "duplicates", "filters"]
    find_modes(store, COARSE, replace_edited=True)
    assert kinds_left(store) == ["duplicates"]


def test_causes_of_other_modes_stay_where_some_are_merged(store: Store) -> None:
    found = audit(store, AuditSettings(kinds=KINDS))
    (dark,) = {finding.subject for finding in found.of("causes")}
    others = [mode.id for mode in read_modes(store).modes if mode.id != dark]
    merge_modes(store, others[:2])
    assert read_findings(store).of("causes") == found.of("causes")
    assert not read_findings(store).of("filters")
    merge_modes(store, [dark, others[0]])
    assert not read_findings(store).of("causes")


def test_a_finding_has_no_name_that_a_mode_may_lose(store: Store) -> None:
    names = {mode.name for mode in find_modes(store).modes}
    found = audit(store, AuditSettings(kinds=("causes", "filters")))
    (dark,) = {mode for finding in found.of("causes") for mode in finding.modes}
    for finding in found.findings:
        said = json.dumps([finding.reason, finding.evidence], ensure_ascii=False)
        assert not any(name in said for name in names)
    served = next(finding for finding in found.of("filters") if finding.modes)
    assert served.reason.endswith(f"serves {', '.join(served.modes)}")
    rename_mode(store, dark, "night shots")
    stored = read_findings(store)
    assert all(stored.of(kind) == found.of(kind) for kind in found.kinds)


def test_modes_that_change_during_an_audit_leave_no_findings(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = run.weak_filters

    def meanwhile(*arguments: object) -> list:
        found = look(*arguments)  # type: ignore[arg-type]
        find_modes(Store.open(store.path), COARSE)
        return found

    monkeypatch.setattr(run, "weak_filters", meanwhile)
    report = audit(store, AuditSettings(kinds=KINDS))
    assert report.kinds == KINDS
    assert {finding.kind for finding in report.findings} == {"duplicates"}
    assert kinds_left(store) == ["duplicates"]
