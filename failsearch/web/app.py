"""The application: guard, static files, pages, JSON API and one shape of error."""

from pathlib import Path

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import Response

from indexer.errors import (
    AbsentError,
    DiskFullError,
    FailsearchError,
    IncompatibleIndexError,
    LockedError,
    StoreError,
    UnknownSampleError,
)

from .problems import DESCRIBED, detail_of, problem_response
from .routes import ROUTERS
from .routes.common import require_version
from .security import BodyTooLargeError, Guard, GuardMiddleware, secure
from .state import State
from .templating import is_page_request, render_problem

HERE = Path(__file__).parent
STATUS = (
    (UnknownSampleError, 404),
    (AbsentError, 404),
    (LockedError, 409),
    (IncompatibleIndexError, 409),
    (DiskFullError, 507),
    (StoreError, 500),
)
"""Of errors by their kind, the first that fits; all others are mistakes in the request."""


def create_app(database: Path, guard: Guard) -> FastAPI:
    """Return the app of one index.

    Raises:
        StoreError: there is no finished index at `database`.
    """
    app = FastAPI(
        title="failsearch",
        description="Failures of an image classifier: galleries, neighbours, modes and repairs.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        dependencies=[Depends(require_version)],
        responses=DESCRIBED,
    )
    app.state.failsearch = State(database)
    app.state.guard = guard
    app.add_middleware(GuardMiddleware, guard=guard)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    for router in ROUTERS:
        app.include_router(router)
    _handle_errors(app)
    return app


def _handle_errors(app: FastAPI) -> None:
    def answer(request: Request, status: int, detail: str) -> Response:
        if is_page_request(request):
            return render_problem(request, status, detail)
        return problem_response(status, detail)

    @app.exception_handler(FailsearchError)
    async def _(request: Request, error: FailsearchError) -> Response:
        status = next((code for kind, code in STATUS if isinstance(error, kind)), 400)
        return answer(request, status, str(error))

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        response = answer(
            request, error.status_code, detail_of(error.status_code, str(error.detail))
        )
        response.headers.update(error.headers or {})  # which methods an address takes
        return response

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return answer(request, 422, f"{where}: {first['msg']}")

    @app.exception_handler(Exception)
    async def _(request: Request, _error: Exception) -> Response:  # and the terminal shows it
        response = answer(request, 500, "the fault is not yours; the server's terminal says more")
        secure(response.headers)  # this answer is made outside the guard
        return response

    @app.exception_handler(BodyTooLargeError)
    async def _(request: Request, error: BodyTooLargeError) -> Response:
        return answer(request, 413, "the request is larger than this server takes")
