"""Under which names a server answers, and how one is started."""

import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from failsearch.web import server
from failsearch.web.app import create_app
from failsearch.web.security import TOKEN_HEADER, Guard
from indexer.errors import SettingError

from ..conftest import Run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Guard]:
    """Collect the guards of servers instead of starting them."""
    guards = []
    monkeypatch.setattr(server, "create_app", lambda _, guard: guards.append(guard))
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda *_, **__: None)
    return guards


def serve(**changes: Any) -> None:
    server.serve(Path("an.lancedb"), **{"host": "127.0.0.1", "port": 0, "token": False} | changes)


def asked(database: Path, guard: Guard, host: str, origin: str | None = None) -> int:
    """Return the status of a request that changes something."""
    headers = {"host": host, TOKEN_HEADER: guard.form_token}
    if origin is not None:
        headers["origin"] = origin
    client = TestClient(create_app(database, guard), cookies={})
    return client.post("/api/job/stop", headers=headers).status_code


def test_the_port_of_http_is_left_out_as_browsers_do(hostile_index: Path) -> None:
    guard = Guard(server._hosts("127.0.0.1", 80))
    for host in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.0.0.1:80"):
        assert asked(hostile_index, guard, host, f"http://{host}") == 200
    assert asked(hostile_index, guard, "localhost:81") == 421
    assert asked(hostile_index, Guard(server._hosts("127.0.0.1", 81)), "localhost") == 421


def test_further_names_are_answered_under_any_port(
    hostile_index: Path, started: list[Guard]
) -> None:
    serve(token=True, allow_hosts=["Box.Example", "localhost", "fd00::5"])
    (guard,) = started
    assert guard.names == {"box.example", "localhost", "[fd00::5]"}
    guard = Guard(guard.hosts, guard.names)  # without the token, which is not the question here
    for host in ("box.example", "box.example:9000", "localhost:9000", "[fd00::5]", "[FD00::5]:1"):
        assert asked(hostile_index, guard, host, f"https://{host}") == 200
    assert asked(hostile_index, guard, "box.example:9000", "http://box.example:3000") == 403
    for host in ("evil.box.example", "box.example.evil:80", "box.example:", "box.example:x", ":80"):
        assert asked(hostile_index, guard, host) == 421


@pytest.mark.parametrize(
    "name", ["", "*", "http://box", "box:80", "box/", "a b", "-box", "box-", "a..b", ".", "[::1",
             "box.example\n", "x" * 254]
)  # fmt: skip
def test_what_is_no_host_name_is_refused(started: list[Guard], name: str) -> None:
    with pytest.raises(SettingError, match="is no host name"):
        serve(allow_hosts=[name])
    assert not started


def test_a_name_beyond_this_machine_needs_the_token(started: list[Guard]) -> None:
    for changes in ({"host": "0.0.0.0"}, {"allow_hosts": ["box.example"]}):
        with pytest.raises(SettingError, match="--token"):
            serve(**changes)
    serve(allow_hosts=["localhost", "[::1]"])
    assert len(started) == 1


def test_a_machine_whose_name_does_not_resolve_is_served_from(
    started: list[Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(server.socket, "gethostname", lambda: "3f2a")
    monkeypatch.setattr(server.socket, "getfqdn", lambda name: name)
    monkeypatch.setattr(server.socket, "getaddrinfo", unknown)
    serve(host="0.0.0.0", token=True)
    assert any(host.startswith("3f2a:") for host in started[0].hosts)


def test_the_command_line_takes_several_names(started: list[Guard], run: Run) -> None:
    names = ("--allow-host", "one.example", "--allow-host", "two.example")
    assert run("serve", "--port", 0, "--token", *names).code == 0
    assert started[0].names == {"one.example", "two.example"}
    refused = run("serve", "--port", 0, "--allow-host", "http://one.example")
    assert refused.code == 2
    assert "without http://" in refused.err
