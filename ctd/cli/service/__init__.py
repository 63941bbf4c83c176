"""A predictor behind HTTP: one page to try it, and the same answers as JSON.

Notes: the page shows documents, labels and traces as text, never as markup, and its policy forbids any script but its
own. Requests that name another host are refused, so that a page elsewhere cannot reach a service on this machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ctd.data.documents import Document
from ctd.reasoning import predictions_file
from ctd.reasoning.predictor import Predictor

STATIC = Path(__file__).parent / "static"
LONGEST = 200_000  # characters of a document
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
HERE = ("localhost", "127.0.0.1")

Text = Annotated[str, Field(min_length=1, max_length=LONGEST)]


class Documents(BaseModel):
    """What is asked.

    documents: texts, at most one batch of `ctd predict`.
    """

    documents: Annotated[list[Text], Field(min_length=1, max_length=predictions_file.AT_ONCE)]


def service(predictor: Predictor, model: str, hosts: tuple[str, ...] = HERE) -> FastAPI:
    """The application.

    predictor: labels the documents, one request at a time.
    model: its name, for the page.
    hosts: names of this machine that a request may use.
    """
    app = FastAPI(title=f"ctd: labels by {model}", docs_url=None, redoc_url=None)  # those pages load from other hosts
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    _guard(app)
    _refuse_in_one_line(app)
    _answer(app, predictor, model)
    return app


def _guard(app: FastAPI) -> None:
    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def _refuse_in_one_line(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][1:])) or "the request"
        return JSONResponse({"detail": f"{place}: {first['msg']}"}, 422)

    @app.exception_handler(ValueError)
    async def refuse_value(request: Request, error: ValueError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)


def _answer(app: FastAPI, predictor: Predictor, model: str) -> None:
    turn = Lock()

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/about")
    def about() -> dict[str, Any]:
        """The model, the number of labels, and the settings."""
        return {
            "model": model,
            "n_label_space": len(predictor.space),
            "n_labels": predictor.n_labels,
            "n_shortlist": predictor.n_shortlist,
            "mode": predictor.asked if predictor.teacher else "",
        }

    @app.post("/label")
    def label(request: Documents) -> list[dict[str, Any]]:
        """A line of `ctd predict` for each document, in their order."""
        documents = [Document(str(row), text) for row, text in enumerate(request.documents)]
        with turn:
            batches = predictions_file.records(predictor, documents, total=len(documents))
            return [line for batch in batches for line in batch]
