"""The last touch to the pages that Jupyter Book has set: light, and readable for everybody.

Notes: the theme loads all of FontAwesome as a script to draw a dozen icons, and MathJax on pages without mathematics.
The icons that a page shows are put into it as SVG, and what it does not need is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

SCRIPT = Path("_static/scripts/fontawesome.js")
TEXTS = Path("_static/search_texts.js")
ICON = re.compile(r'<(i|span) class="([^"]*\bfa[sr]?\b[^"]*|[^"]*\bfa-solid\b[^"]*)"([^>]*)>\s*</\1>')
FONTAWESOME = re.compile(r'<script[^>]*src="[^"]*scripts/fontawesome\.js[^"]*"[^>]*></script>')
MATHJAX = re.compile(r'<script>window\.MathJax = .*?</script>|<script[^>]*src="[^"]*mathjax[^"]*"[^>]*></script>')


def finish(site: Path) -> None:
    """Finish every page of a built book, in place, and give its search the texts to quote from."""
    search_texts(site)
    shapes = icons(site / SCRIPT)
    for page in site.rglob("*.html"):
        if "_static" not in page.relative_to(site).parts:
            page.write_text(finished(page.read_text(encoding="utf-8"), shapes), encoding="utf-8")
    for spare in [site / SCRIPT, *site.glob("_static/**/*.map")]:
        spare.unlink(missing_ok=True)


def search_texts(site: Path) -> None:
    """Write the text of every page as a script that the search page loads.

    A browser refuses to fetch pages that lie on the disk, so the search could not quote from them.
    """
    search = site / "search.html"
    if not search.is_file():
        return
    from bs4 import BeautifulSoup

    texts = {}
    for page in sorted(site.rglob("*.html")):
        article = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select_one("article.bd-article")
        if article is not None and page != search:
            for spare in article.select("script, style, .headerlink, .ctd-downloads"):
                spare.decompose()
            texts[page.relative_to(site).as_posix()] = " ".join(article.get_text(" ").split())
    (site / TEXTS).write_text(f"window.ctdTexts = {json.dumps(texts, ensure_ascii=False)}\n", encoding="utf-8")
    tag = f'<script src="{TEXTS.as_posix()}"></script></head>'
    search.write_text(search.read_text(encoding="utf-8").replace("</head>", tag, 1), encoding="utf-8")


def icons(script: Path) -> Callable[[str], str]:
    """The icons of FontAwesome's script: an SVG's view box and path, by name; "" for one that it lacks."""
    text = script.read_text(encoding="utf-8") if script.is_file() else ""

    @cache
    def shape(name: str) -> str:
        entry = re.search(rf'[,{{]"?{re.escape(name)}"?:\[(\d+),(\d+),\[[^\]]*\],"[0-9a-f]+","([^"]+)"\]', text)
        return f'viewBox="0 0 {entry[1]} {entry[2]}"><path d="{entry[3]}"/>' if entry else ""

    return shape


def finished(text: str, shapes: Callable[[str], str]) -> str:
    """A page without scripts that it does not need, and with names and roles that assistive technology understands."""

    def drawn(match: re.Match[str]) -> str:
        names = re.findall(r"fa-([a-z-]+)", match[2])
        shape = next((shape for name in names if (shape := shapes(name))), "")
        if not shape:
            return match[0]
        return f'<svg class="ctd-fa {match[2]}"{match[3]} aria-hidden="true" fill="currentColor" {shape}</svg>'

    text = FONTAWESOME.sub("", ICON.sub(drawn, text))
    if 'class="math' not in text:
        text = MATHJAX.sub("", text)
    text = text.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    return re.sub(r'(<div) role="list"( class="citation-list")|(<div class="citation"[^>]*) role="doc-biblioentry"',
                  lambda match: (match[1] or match[3]) + (match[2] or ""), text)  # fmt: skip
