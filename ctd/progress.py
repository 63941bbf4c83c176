"""Progress bars, which some callers hide."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm


def bar(shown: bool = True, **options: Any) -> tqdm:
    """A progress bar; one that is shown still follows TQDM_DISABLE, which `disable=False` would overrule.

    options: of tqdm.
    """
    return tqdm(**options) if shown else tqdm(**options, disable=True)
