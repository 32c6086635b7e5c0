"""Starting the app: address, access and the browser's first page."""

import ipaddress
import secrets
import socket
import sys
from pathlib import Path

import uvicorn

from indexer.errors import SettingError

from .app import create_app
from .security import Guard


def serve(database: Path, *, host: str, port: int, token: bool) -> None:
    """Serve one index until interrupted.

    Args:
        database: folder of a finished index.
        host: address to listen on; anything but loopback needs `token`.
        port: 0 for a free one.
        token: ask every visitor for a secret that is printed at the start.

    Raises:
        SettingError: a public address without a token, or a port that is taken.
        StoreError: there is no finished index.
    """
    if not _is_loopback(host) and not token:
        raise SettingError(
            f"{host} can be reached from other machines: add --token, or keep to 127.0.0.1"
        )
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    names = {f"{name.lower()}:{port}" for name in _names(host)}
    access = secrets.token_urlsafe(24) if token else None
    app = create_app(database, Guard(hosts=frozenset(names), access_token=access))
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    print(f"failsearch at {address}{f'?token={access}' if access else ''}", file=sys.stderr)
    config = uvicorn.Config(app, log_level="warning", server_header=False, date_header=False)
    uvicorn.Server(config).run(sockets=[listening])


def _names(host: str) -> set[str]:
    """Return the host names under which a server that listens on `host` may be addressed."""
    names = {f"[{host}]" if ":" in host else host, "localhost", "127.0.0.1", "[::1]"}
    if host in ("0.0.0.0", "::"):
        machine = socket.gethostname()
        names |= {machine, socket.getfqdn(machine)}
        for _, _, _, _, address in socket.getaddrinfo(machine, None):
            names.add(f"[{address[0]}]" if ":" in str(address[0]) else str(address[0]))
    return names


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
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
