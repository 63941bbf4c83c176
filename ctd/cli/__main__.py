"""`python -m ctd.cli` is `ctd`."""

from ctd.cli import app

if __name__ == "__main__":
    app()
