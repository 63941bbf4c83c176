"""A Sphinx extension of one rule: a vendored script is loaded by the pages that use it, not by all of them.

Jupyter Book adds every `.js` file below `_static` to every page; MathJax weighs 2 MB, and `mathjax_path` already
adds it where a page has math.
"""

from typing import Any


def drop_vendored(app: Any, config: Any) -> None:
    config.html_js_files = [script for script in config.html_js_files if not str(script).startswith("vendor/")]


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", drop_vendored)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
