"""`python -m ctd.cli` is `ctd`."""

from ctd.cli import app

app()
