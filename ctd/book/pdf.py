"""The book as one PDF: all pages of a built site in the order of its contents, printed by a headless Chromium.

Notes: the pages are put into one document, so that links between them stay links and MathJax is loaded once. What is
folded on the site is open in print, because paper has nothing to click.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ctd.book.finish import MATHJAX
from ctd.cache import atomic

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FRONT = "intro.html"
PRINTED = "print.html"  # inside the site, while it is printed
SCREEN_ONLY = ".headerlink, .ctd-buttons, .ctd-downloads, script"
WIDTH, MARGIN = 210, 16  # of a page of A4, in millimetres
PIXELS = 96 / 25.4  # a millimetre in a browser
FOOT = '<div style="font-size: 8px; width: 100%; text-align: center"><span class="pageNumber"></span></div>'
STYLE = """
@page { size: A4 }
html { font-size: 13px }
body { background: #fff; color: #000 }
.ctd-page { break-before: page }
.ctd-page:first-of-type { break-before: auto }
.ctd-page h1 { display: block !important }
.ctd-page :is(h1, h2, h3, caption, summary) { break-after: avoid }
.ctd-page :is(div, details, pre, table, section) { break-inside: auto !important }
.ctd-page :is(.ctd-card, figure, picture, img, tr) { break-inside: avoid !important }
.ctd-page :is(details, pre, .math) { overflow: visible !important }
.ctd-page pre { font-size: 0.8rem }
.ctd-page :is(td, th) { overflow-wrap: break-word }
.ctd-page .ctd-breaks :is(td, th) { overflow-wrap: anywhere }
.ctd-page .ctd-contents { columns: 2; padding: 0 }
"""
# Tables and formulas that are too wide become smaller, down to half; then the words of tables break.
FIT = """width => {
  for (const wide of document.querySelectorAll('table, mjx-container')) {
    const room = width - wide.getBoundingClientRect().left
    const needs = Math.max(wide.getBoundingClientRect().width, wide.scrollWidth)
    if (needs <= room + 1) continue
    wide.style.zoom = Math.max(0.5, (room - 2) / needs)
    if (needs > 2 * room) wide.classList.add('ctd-breaks')
  }
}"""
CUT = """width => [...document.querySelectorAll('.ctd-page *')].filter(node => {
  if (!(node instanceof HTMLElement)) return false
  const box = node.getBoundingClientRect()
  const right = Math.max(box.right, box.left + node.scrollWidth * (node.currentCSSZoom ?? 1))
  const hides = getComputedStyle(node).overflowX !== 'visible' && node.scrollWidth > node.clientWidth + 1
  return box.width && (right > width + 1 || hides && node.clientWidth)
}).map(node => node.outerHTML.slice(0, 120))"""


def make_pdf(site: Path, out: Path) -> Path:
    """Print a built book.

    site: folder of its pages.
    out: the PDF; its folder is made.
    Raises FileNotFoundError where there is no book, RuntimeError where no Chromium is installed, or where something is
    wider than a page and would be cut.
    """
    from playwright.sync_api import sync_playwright

    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if executable is None:
        raise RuntimeError(f"no browser to print with: install one of {', '.join(BROWSERS)}")
    page = site / PRINTED
    page.write_text(one_document(site), encoding="utf-8")
    try:
        with sync_playwright() as playwright, atomic(out) as scratch:
            chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
            width = int((WIDTH - 2 * MARGIN) * PIXELS)
            sheet = chromium.new_page(color_scheme="light", viewport={"width": width, "height": 1000})
            sheet.set_default_timeout(600_000)
            sheet.emulate_media(media="print")
            sheet.goto(page.resolve().as_uri())
            sheet.evaluate("async () => { await window.MathJax?.startup?.promise }")
            sheet.evaluate(FIT, width)
            if cut := sheet.evaluate(CUT, width):
                raise RuntimeError(f"{len(cut)} parts of the book are wider than a page, such as {cut[-1]}")
            side, end = f"{MARGIN}mm", f"{MARGIN + 2}mm"
            sheet.pdf(
                path=scratch, format="A4", print_background=True, outline=True, tagged=True,
                margin={"top": side, "bottom": end, "left": side, "right": side},
                display_header_footer=True, header_template="<span></span>", footer_template=FOOT,
            )  # fmt: skip
            chromium.close()
    finally:
        page.unlink()
    return out


def one_document(site: Path) -> str:
    """All pages of a site as one page of HTML, to be read in its folder.

    Raises FileNotFoundError where there is no book.
    """
    from bs4 import BeautifulSoup

    def read(name: str) -> Any:
        return BeautifulSoup((site / name).read_text(encoding="utf-8"), "html.parser")

    if not (site / FRONT).is_file():
        raise FileNotFoundError(f"{site} holds no book: make it with ctd book")
    front = read(FRONT)
    names = [
        FRONT,
        *(link["href"] for link in front.select("nav.bd-links a.reference.internal") if link["href"] != "#"),
    ]
    parts, titles = [], {}
    for name in names:
        article = printable(read(name), name, names)
        title = article.h1.get_text(" ", strip=True) if article.h1 else name
        titles[name] = title
        parts.append(f'<section class="ctd-page bd-article" id="{anchor(name)}">{article.decode_contents()}</section>')
    styles = "".join(str(link) for link in front.head.select("link[rel=stylesheet]"))
    mathematics = next(filter(None, (_mathematics(site, name) for name in names)), "")
    announcement = front.select_one(".bd-header-announcement__content")
    banner = f"<p><strong>{announcement.get_text(strip=True)}</strong></p>" if announcement else ""
    contents = "".join(f'<li><a href="#{anchor(name)}">{title}</a></li>' for name, title in titles.items())
    return (
        f'<!doctype html><html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8">'
        f"<title>{front.title.get_text(strip=True)}</title>{styles}<style>{STYLE}</style>{mathematics}</head>"
        f'<body><main class="bd-main"><div class="bd-content"><div class="bd-article-container">{banner}{parts[0]}'
        f'<section class="ctd-page bd-article"><h1>Contents</h1><ol class="ctd-contents">{contents}</ol></section>'
        f"{''.join(parts[1:])}</div></div></main></body></html>"
    )


def printable(page: Any, name: str, names: Collection[str]) -> Any:
    """The article of a page with everything unfolded, for a document of all pages.

    page: its parsed HTML.
    name: its path in the site.
    names: of all pages; links between them lead within the document, links to other files become plain text.
    """
    article = page.select_one("article.bd-article")
    for spare in article.select(SCREEN_ONLY):
        spare.decompose()
    for fold in article.select("details"):
        fold["open"] = ""
        for prompt in fold.select("summary .collapsed"):
            prompt.decompose()
        for prompt in fold.select("summary .expanded"):
            prompt.string = prompt.get_text().removeprefix("Hide ").capitalize()
    for tag in article.select("[id]"):
        tag["id"] = anchor(name, tag["id"])
    for image in article.select("img[src]"):
        image["src"] = _in_site(name, image["src"])
        image["loading"] = "eager"
    for link in article.select("a[href]"):
        address = urlsplit(link["href"])
        if address.scheme or address.netloc:
            continue
        target = _in_site(name, address.path) if address.path else name
        if target in names:
            link["href"] = f"#{anchor(target, unquote(address.fragment))}"
        else:
            link.unwrap()
    return article


def anchor(name: str, fragment: str = "") -> str:
    """What a place on a page is called in the document of all pages."""
    return "--".join(filter(None, (re.sub(r"[^\w-]", "-", name.removesuffix(".html")), fragment)))


def _in_site(name: str, address: str) -> str:
    """A relative address on a page, seen from the site's folder."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), address))


def _mathematics(site: Path, name: str) -> str:
    """The scripts that set the mathematics of a page, as it loads them; "" for a page without."""
    scripts = MATHJAX.findall((site / name).read_text(encoding="utf-8"))
    return "".join(re.sub(r'src="([^"]+)"', lambda match: f'src="{_in_site(name, match[1])}"', tag) for tag in scripts)
