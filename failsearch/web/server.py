"""Starting the app: address, access and the browser's first page."""

import ipaddress
import re
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from indexer.errors import SettingError

from .app import create_app
from .security import Guard

HTTP_PORT = 80
"""The port that browsers leave out of an address."""

_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


def serve(
    database: Path, *, host: str, port: int, token: bool, allow_hosts: Sequence[str] = ()
) -> None:
    """Serve one index until interrupted.

    Args:
        database: folder of a finished index.
        host: address to listen on; anything but loopback needs `token`.
        port: 0 for a free one.
        token: ask every visitor for a secret that is printed at the start.
        allow_hosts: further names that visitors use, under any port: those of a tunnel, a proxy or
            the machine around a container; anything but loopback needs `token`.

    Raises:
        SettingError: a public address without a token, a name that is none, or a port that is
            taken.
        StoreError: there is no finished index.
    """
    allowed = [_host_name(name) for name in allow_hosts]
    for name in (host, *allowed):
        if not token and not _is_loopback(name):
            raise SettingError(
                f"{name} can be reached from other machines: add --token, or keep to 127.0.0.1"
            )
    with _listen(host, port) as listening:
        port = listening.getsockname()[1]
        access = secrets.token_urlsafe(24) if token else None
        guard = Guard(_hosts(host, port), names=frozenset(allowed), access_token=access)
        app = create_app(database, guard)
        address = f"http://{_bracketed(host)}:{port}/"
        print(f"failsearch at {address}{f'?token={access}' if access else ''}", file=sys.stderr)
        config = uvicorn.Config(app, log_level="warning", server_header=False, date_header=False)
        uvicorn.Server(config).run(sockets=[listening])


def _hosts(host: str, port: int) -> frozenset[str]:
    """Return what the Host header may say where a server listens on `host` and `port`."""
    names = {name.lower() for name in _names(host)}
    hosts = {f"{name}:{port}" for name in names}
    return frozenset(hosts | names if port == HTTP_PORT else hosts)


def _names(host: str) -> set[str]:
    """Return the host names under which a server that listens on `host` may be addressed."""
    names = {_bracketed(host), "localhost", "127.0.0.1", "[::1]"}
    if host in ("0.0.0.0", "::"):
        machine = socket.gethostname()
        names |= {machine, socket.getfqdn(machine)}
        with suppress(OSError, UnicodeError):  # a container's own name need not resolve
            found = socket.getaddrinfo(machine, None)
            names |= {_bracketed(str(address[0])) for *_, address in found}
    return names


def _host_name(text: str) -> str:
    """Return a name of `--allow-host` as the Host header has it, or raise SettingError."""
    name = text.lower()
    with suppress(ValueError):
        return _bracketed(str(_address(name)))
    if len(name) > 253 or not _HOST_NAME.fullmatch(name):
        raise SettingError(
            f"{text!r} is no host name: give --allow-host the name alone, without http:// and port"
        )
    return name


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that a host is, in brackets or not; raises ValueError for a name."""
    return ipaddress.ip_address(host[1:-1] if host[:1] + host[-1:] == "[]" else host)


def _is_loopback(host: str) -> bool:
    try:
        return _address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, or asyncio leaves Nagle's algorithm on, which costs 40 ms an answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # From here on a browser that comes early waits, where it would have been refused.
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise SettingError(f"cannot listen on {host}:{port} ({reason}): try --port 0") from error
    return listening
