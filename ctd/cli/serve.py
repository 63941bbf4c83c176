"""`ctd serve`: labels for documents over HTTP, with a page to try them."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from ctd.cli.base import OWN, app
from ctd.cli.predict import Encoder, Labels, MaxTokens, ModelName, ModeOption, Shortlist, Top


@app.command(
    rich_help_panel=OWN,
    epilog="Examples:  ctd serve my-student  |  ctd serve retrieval --labels mesh  |  ctd serve organism "
    "--labels organism --port 8080",
)
def serve(
    model: ModelName = "retrieval",
    labels: Labels = "",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 8000,
    top: Top = 10,
    shortlist: Shortlist = 50,
    mode: ModeOption = None,
    max_tokens: MaxTokens = 512,
    encoder: Encoder = "",
    name: Annotated[list[str] | None, typer.Option(help="Another host name of this machine; may be repeated.")] = None,
) -> None:
    """Offer ctd predict over HTTP, as a page to try and as JSON. Ctrl-C stops it.

    Requests are answered one at a time. There is no login: anyone who reaches the port can use it.
    """
    try:
        import uvicorn

        from ctd.cli import service
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"ctd serve needs {error.name}: pip install 'ctd[serve]'") from None
    from ctd.distill import student_predictor

    with _listening(host, port) as listening:
        predictor = student_predictor.load(
            model, labels, encoder, n_labels=top, n_shortlist=shortlist, mode=mode or "", max_tokens=max_tokens
        )
        application = service.service(predictor, model, (*service.HERE, host, *(name or [])))
        typer.echo(f"http://{host}:{listening.getsockname()[1]}/ labels documents with {model}; Ctrl-C ends it")
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=2))
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            typer.echo("ended", err=True)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, taken before a model is loaded."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while")[0]
        raise OSError(f"cannot listen on {host}, port {port} ({why}): choose another --host or --port") from None
