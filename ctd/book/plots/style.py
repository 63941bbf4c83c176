"""The book's look."""

from __future__ import annotations

import seaborn as sns

STYLE = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "font.size": 10,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.hashsalt": "ctd",
}


def use_style() -> None:
    """The book's look: call once at the top of a notebook."""
    sns.set_theme(style="whitegrid", palette="colorblind", rc=STYLE)
