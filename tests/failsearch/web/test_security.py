"""What a page on the internet, or a visitor with bad intentions, could send."""

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from failsearch.web.security import ACCESS_COOKIE, TOKEN_HEADER
from tests.support.pictures import encode, picture, png_header

from .conftest import HOST, HOSTILE, Connect

PAGES = ("/", "/failures", "/modes", "/modes/m1", "/search", "/search?id=r0", "/audit", "/repairs",
         "/map", "/sample?id=r0", "/nowhere")  # fmt: skip
HTML = {"accept": "text/html"}


def refused(response, status: int) -> None:
    """Check the one error shape, and that it tells nothing of the inside."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"title", "detail", "status"}
    assert problem["status"] == status
    assert "Traceback" not in problem["detail"]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_the_headers(client: TestClient, page: str) -> None:
    headers = client.get(page, headers=HTML).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("page", PAGES)
def test_no_page_needs_inline_script_or_style(client: TestClient, page: str) -> None:
    text = client.get(page, headers=HTML).text
    assert "<script>" not in text
    assert " style=" not in text
    assert "javascript:" not in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1:80", "", "["])
def test_a_rebinding_host_is_refused(client: TestClient, host: str) -> None:
    refused(client.get("/", headers={"host": host}), 421)
    assert client.get("/", headers=HTML | {"host": host}).status_code == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", f"http://{HOST}.evil.example"])
def test_a_foreign_origin_is_refused(client: TestClient, origin: str) -> None:
    refused(client.post("/api/job/stop", headers={"origin": origin}), 403)
    refused(client.get("/api/overview", headers={"origin": origin}), 403)


def test_a_post_needs_the_token_of_the_page(client: TestClient) -> None:
    assert client.post("/api/job/stop").status_code == 200
    for token in ("", "wrong", "ü"):
        header = {TOKEN_HEADER.encode(): token.encode("latin-1")}
        refused(client.post("/api/job/stop", headers=header), 403)


def test_an_access_token_is_asked_once(connect: Connect, hostile_index: Path) -> None:
    client = connect(hostile_index, access_token="secret")
    refused(client.get("/failures"), 401)
    refused(client.get("/failures?token=wrong"), 401)
    answer = client.get("/failures?label=a&token=secret", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/failures?label=a"
    cookie = answer.headers["set-cookie"]
    assert ACCESS_COOKIE in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert client.get("/failures").status_code == 200


def test_without_the_token_a_browser_gets_a_page_that_tells_nothing(
    connect: Connect, hostile_index: Path
) -> None:
    client = connect(hostile_index, access_token="secret")
    paths = ("/", "/failures?token=wrong", "/sample?id=r0", "/modes/m1", "/nowhere")
    answers = [client.get(path, headers=HTML) for path in paths]
    assert {answer.status_code for answer in answers} == {401}
    (page,) = {answer.text for answer in answers}  # whatever there is at the address
    assert "Open the address that failsearch serve printed" in page
    inside = (client.headers[TOKEN_HEADER], "secret", hostile_index.name, "resnet", "href", "src=")
    assert not any(word in page for word in inside)
    for answer in answers:
        assert answer.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers
    refused(client.get("/api/overview", headers=HTML), 401)
    refused(client.get("/static/app.css", headers={"accept": "text/css"}), 401)


def test_other_refusals_are_pages_for_a_browser(client: TestClient) -> None:
    for headers, status in (({"host": "evil.example"}, 421), ({"origin": "null"}, 403)):
        answer = client.get("/", headers=HTML | headers)
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/html")
        assert ("failsearch serve printed" in answer.text) == (status == 421)
        assert client.headers[TOKEN_HEADER] not in answer.text
        assert "120 images" not in answer.text


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/..%5capp.py",
     "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/repairs/..%2f..", "/modes/..%5c.."],
)  # fmt: skip
def test_no_address_leads_out(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code in (400, 404)
    assert "import" not in response.text


@pytest.mark.parametrize("id", ["../../etc/passwd", "/etc/passwd", "..\\..", "r0'--", "\0", "%"])
def test_ids_are_looked_up_and_never_opened(client: TestClient, id: str) -> None:
    for path in ("/image", "/thumbnail", "/api/sample", "/api/explanation"):
        refused(client.get(path, params={"id": id}), 404)
    refused(client.get(f"/api/repairs/{'..%2f..'}/patch"), 404)


def test_oversized_bodies_are_refused(connect: Connect, hostile_index: Path) -> None:
    client = connect(hostile_index, max_body=1000)
    address = "/api/search?label=x"
    refused(client.post(address, content=b"x" * 1001), 413)
    chunks = (b"x" * 400 for _ in range(4))  # announces no length
    refused(client.post(address, content=chunks), 413)
    refused(client.post(address, content=b"", headers={"content-length": "-1"}), 400)


def test_bad_bodies_are_refused(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    for body in (b"", b"{", b"[]", b"null", b'{"id": 1}', b'{"id": "\\ud800", "name": "x"}'):
        refused(client.post("/api/modes/rename", content=body, headers=headers), 422)
    deep = b"[" * 100_000
    assert client.post("/api/modes/rename", content=deep, headers=headers).status_code in (400, 422)
    refused(client.post("/api/modes/rename", json={"id": "r0' OR 1=1", "name": "x"}), 404)


def test_uploads_are_decoded_by_an_allow_list(connect: Connect, model_index: Path) -> None:
    client = connect(model_index)
    bad = {
        "a bomb": png_header(60_000, 60_000),
        "no image": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
        "cut": encode(picture())[:50],
    }
    for data in bad.values():
        refused(client.post("/api/search?label=cross", content=data), 400)
    refused(client.post("/api/search?label=cross", content=b""), 400)
    refused(client.post("/api/search?label=nothing", content=encode(picture())), 400)


@pytest.mark.parametrize("page", ["/", "/failures", "/modes", "/sample?id=r0", "/search?id=r0"])
def test_hostile_names_stay_text(client: TestClient, page: str) -> None:
    text = client.get(page).text
    assert "<img src=x" not in text
    assert "</script> " not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_hostile_names_survive_as_filters(client: TestClient) -> None:
    for name in HOSTILE:
        counted = client.get("/api/failures", params={"label": name, "among": "all"}).json()
        assert counted["total"] > 0
        shown = client.get("/api/failures", params={"filter": f"camera={name}"}).json()
        assert {row["meta_camera"] for row in shown["failures"]} == {name}


def test_errors_of_pages_are_pages(client: TestClient) -> None:
    answer = client.get("/sample", params={"id": HOSTILE[0]}, headers=HTML)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "<img src=x" not in answer.text


def test_the_description_lists_only_the_api(client: TestClient) -> None:
    document = client.get("/api/openapi.json").json()
    assert all(path.startswith(("/api/", "/image", "/thumbnail")) for path in document["paths"])
    assert "sql" not in json.dumps(document).lower()
