"""Characterize, then Distill: shortlisting and refining in large label spaces (arXiv:2606.06840)."""

__version__ = "0.1.0"
