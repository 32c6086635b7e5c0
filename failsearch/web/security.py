"""What keeps the local app local: host, origin, token, body size and response headers.

A page on the internet can make a browser send requests to loopback. Checking `Host` defeats DNS
rebinding, checking `Origin` defeats cross-site posts, and the form token defeats what is left.
"""

import hmac
import secrets
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem_response
from .templating import is_page_request, render_refusal

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
TOKEN_HEADER = "x-failsearch-token"
ACCESS_COOKIE = "failsearch-access"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_WAY_IN = "open the address that failsearch serve printed"


@dataclass(frozen=True)
class Guard:
    """What a server accepts.

    Attributes:
        hosts: values of the Host header that are answered, with port.
        names: host names that are answered under any port, which tunnels and containers change.
        access_token: asked of every request when the server listens beyond loopback; else None.
        form_token: asked of every request that changes something.
        max_body: bytes of a request body.
    """

    hosts: frozenset[str]
    names: frozenset[str] = frozenset()
    access_token: str | None = None
    form_token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    max_body: int = 32 * 2**20

    def answers(self, host: str) -> bool:
        """Return whether a request with this Host header is for this server."""
        name, _, port = host.rpartition(":")
        known = host.lower() if not port.isdecimal() else name.lower()
        return host.lower() in self.hosts or known in self.names


class GuardMiddleware:
    """Refuses what the guard does not accept and sets the security headers on every answer."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self.app = app
        self.guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_security_headers(send)
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await _answer(request, *refusal)(scope, receive, send)
            return
        if self.guard.access_token is not None and "token" in request.query_params:
            await _remember(request, self.guard.access_token)(scope, receive, send)
            return
        await self.app(scope, _BoundedBody(receive, self.guard.max_body), send)

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        headers = request.headers
        if not self.guard.answers(headers.get("host", "")):
            return 421, f"{_WAY_IN}, or start it with --allow-host and the name that you used"
        if not self._has_access(request):
            return 401, f"{_WAY_IN}: it carries the access token"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != headers["host"].lower():
            return 403, "requests from another site are refused"
        if request.method not in SAFE_METHODS and not self._same_secret(
            headers.get(TOKEN_HEADER), self.guard.form_token
        ):
            return 403, f"the {TOKEN_HEADER} header is missing or old: reload the page"
        return _body_refusal(headers, self.guard.max_body)

    def _has_access(self, request: Request) -> bool:
        token = self.guard.access_token
        given = request.query_params.get("token") or request.cookies.get(ACCESS_COOKIE)
        return token is None or self._same_secret(given, token)

    @staticmethod
    def _same_secret(given: str | None, expected: str) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), expected.encode())


def _answer(request: Request, status: int, detail: str) -> Response:
    respond = render_refusal if is_page_request(request) else problem_response
    return respond(status, detail)


def _remember(request: Request, token: str) -> RedirectResponse:
    """Keep the access token in a cookie and lead to the address without it."""
    address = request.url.remove_query_params("token")
    answer = RedirectResponse(address.path + (f"?{address.query}" if address.query else ""), 303)
    answer.set_cookie(ACCESS_COOKIE, token, httponly=True, samesite="strict")
    return answer


def _body_refusal(headers: Headers, limit: int) -> tuple[int, str] | None:
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        return 400, "the Content-Length header is not a number"
    if int(length) > limit:
        return 413, f"the request has {length} bytes, the limit is {limit}"
    return None


class BodyTooLargeError(Exception):
    """A body sent in chunks outgrew the limit while it was being read."""


class _BoundedBody:
    """Counts the bytes of a body, because chunked requests announce no length."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self.receive = receive
        self.left = limit

    async def __call__(self) -> Message:
        message = await self.receive()
        self.left -= len(message.get("body", b""))
        if self.left < 0:
            raise BodyTooLargeError
        return message


def _with_security_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            secure(MutableHeaders(scope=message))
        await send(message)

    return sending


def secure(headers: MutableHeaders) -> None:
    """Set the security headers of an answer."""
    headers["content-security-policy"] = CONTENT_SECURITY_POLICY
    headers["x-content-type-options"] = "nosniff"
    headers["referrer-policy"] = "no-referrer"
    headers["cross-origin-opener-policy"] = "same-origin"
    headers["cross-origin-resource-policy"] = "same-origin"
    headers.setdefault("cache-control", "no-store")
