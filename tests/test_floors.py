"""The import floors: failsearch -> finetune -> search -> indexer; search is without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("indexer", "search", "finetune", "failsearch")


def imported_packages(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("floor", FLOORS)
def test_no_module_imports_a_higher_floor(floor: str) -> None:
    higher = set(FLOORS[FLOORS.index(floor) + 1 :])
    for file in sorted((ROOT / floor).rglob("*.py")):
        assert not imported_packages(file) & higher, file


def test_modes_know_nothing_of_the_audit_that_stands_on_them() -> None:
    for file in sorted((ROOT / "search" / "modes").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert "audit" not in f"{node.module}.{node.names[0].name}".split("."), file


def test_only_the_stores_files_import_lancedb() -> None:
    users = {
        str(file.relative_to(ROOT))
        for floor in FLOORS
        for file in (ROOT / floor).rglob("*.py")
        if "lancedb" in imported_packages(file)
    }
    assert users == {f"indexer/{name}.py" for name in ("nearest", "store", "tables")}


def test_search_and_the_command_line_start_without_torch() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in sorted((ROOT / "search").rglob("*.py"))
        if file.name != "__init__.py"
    ]
    code = (
        f"import importlib, sys\nfor name in {[*modules, 'failsearch', 'failsearch.cli']!r}:\n"
        "    importlib.import_module(name)\n"
        "print(*(name for name in ('torch', 'timm', 'lancedb') if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
