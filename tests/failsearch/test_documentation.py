"""Every command stands in the README and explains itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from failsearch.cli import app

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def commands(command: typer.core.TyperCommand, name: str = "failsearch") -> Iterator[tuple]:
    children = getattr(command, "commands", {})
    if not children or getattr(command, "invoke_without_command", False):
        yield name, command
    for child in children.values():
        yield from commands(child, f"{name} {child.name}")


COMMANDS = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_command_is_in_the_readme_and_has_help(name: str, command) -> None:
    assert name in README
    assert command.help
    for parameter in command.params:
        # `--help` itself is click's; everything else is ours to explain.
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"
        if getattr(parameter, "is_flag", False):
            assert parameter.metavar == "", f"{name}: {parameter.name} asks for a value"
