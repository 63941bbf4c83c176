"""Checks of a built site: each returns its complaints, one line each, and an empty list when all is well.

A folder of HTML is read as it lies on disk; `open_pages` also opens it in a headless Chromium.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qsl, unquote, urlsplit

from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from playwright.sync_api import Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
THEMES = ("light", "dark")
WIDE, PHONE = 1440, 390  # pixels
GRAVE = ("serious", "critical")  # of what axe-core finds

# What axe-core is asked in each view, as context and options: everything once, then what can differ. Colours differ
# with the theme, names and roles with what is shown; no style gives an article other colours on a phone.
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
BESIDES_CONTRAST = {"rules": {"color-contrast": {"enabled": False}}}
AROUND_THE_ARTICLE = {"exclude": [["article"]]}
EVERYTHING = [(None, {})]
ASKED = {
    (WIDE, "light"): EVERYTHING,
    (WIDE, "dark"): [(None, COLOURS)],
    (PHONE, "light"): [(AROUND_THE_ARTICLE, COLOURS)],
    (PHONE, "dark"): [(AROUND_THE_ARTICLE, COLOURS), (None, BESIDES_CONTRAST)],
}

# What a browser fetches by itself while it shows a page; a plain <a href> is followed only by a reader.
FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
NOT_FETCHED_LINKS = {"canonical", "license", "author", "next", "prev", "search", "index", "help", "alternate"}
REMOTE = re.compile(r"^\s*(https?:|wss?:|ftp:)?//", re.IGNORECASE)
REMOTE_STYLE = re.compile(r"(?:url\(\s*|@import\s+)[\"']?\s*((?:https?:)?//[^\"')\s;]+)", re.IGNORECASE)
REMOTE_SCRIPT = re.compile(
    r"""(?:\bimport\s*\(\s*|\bfrom\s*|\bimport\s*|\bfetch\s*\(\s*|\bimportScripts\s*\(\s*|\.src\s*=\s*)["'`]((?:https?:)?//[^"'`\s]+)"""
)
# In a page's own scripts a URL of a file is as good as a request (Thebe's loader is one); in a library it is not.
REMOTE_ASSET = re.compile(r"""["'`](https?://[^"'`\s]+\.(?:js|mjs|css|woff2?)\b[^"'`\s]*)["'`]""")


def html_pages(site: Path) -> list[Path]:
    """All pages of the site; the theme leaves templates in `_static` that no reader opens."""
    return sorted(page for page in site.rglob("*.html") if "_static" not in page.relative_to(site).parts)


@cache
def parsed(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(page: Path) -> frozenset[str]:
    named = parsed(page).find_all(lambda tag: tag.has_attr("id") or (tag.name == "a" and tag.has_attr("name")))
    return frozenset(tag.get("id") or tag.get("name") for tag in named)


def targets(page: Path) -> Iterator[str]:
    """Every address that a page names in a link or loads."""
    for tag in parsed(page).find_all(True):
        for attribute in ("href", "src", "xlink:href", "poster"):
            if tag.has_attr(attribute):
                yield tag[attribute].strip()
        if tag.name == "meta" and str(tag.get("http-equiv", "")).lower() == "refresh":
            yield re.sub(r"^.*?url\s*=\s*", "", tag["content"], flags=re.IGNORECASE).strip("'\" ")


def is_redirect(page: Path) -> bool:
    return any(str(tag.get("http-equiv", "")).lower() == "refresh" for tag in parsed(page).find_all("meta"))


def broken_links(site: Path) -> list[str]:
    """Links to a file or an anchor that is not there, or that lies outside the site."""
    site, problems = site.resolve(), []
    for page in html_pages(site):
        name = page.relative_to(site)
        for target in dict.fromkeys(targets(page)):
            address = urlsplit(target)
            if address.netloc or address.scheme not in ("", "file") or target in ("", "#"):
                continue
            if address.scheme == "file" or address.path.startswith("/"):
                problems.append(f"{name}: {target} is not relative to the page")
                continue
            file = (page.parent / unquote(address.path)).resolve() if address.path else page
            if not file.is_relative_to(site):
                problems.append(f"{name}: {target} leads out of the site")
            elif not file.is_file():
                problems.append(f"{name}: {target} is missing")
            elif file.suffix == ".html" and not leads_somewhere(file, unquote(address.fragment)):
                problems.append(f"{name}: {target} has no such anchor")
    return problems


def leads_somewhere(file: Path, fragment: str) -> bool:
    """Whether a page has an anchor; the explorer has states instead, `view=map&k=50`, of a collection beside it."""
    if file.parent.name != "explorer" or not fragment:
        return not fragment or fragment in anchors(file)
    state = dict(parse_qsl(fragment, strict_parsing=True))
    return (file.parent / state.get("collection", ".")).is_dir()


def remote_resources(site: Path) -> list[str]:
    """Everything that a browser would fetch from another host: in pages, style sheets and scripts."""
    site, problems = site.resolve(), []
    for page in html_pages(site):
        name, soup = page.relative_to(site), parsed(page)
        for tag in soup.find_all(list(FETCHED)):
            for attribute in FETCHED[tag.name]:
                for address in (
                    str(tag.get(attribute, "")).split(",") if attribute == "srcset" else [tag.get(attribute)]
                ):
                    if address and REMOTE.match(address):
                        problems.append(f"{name}: <{tag.name} {attribute}> loads {address.strip()}")
        for tag in soup.find_all("link", href=True):
            if REMOTE.match(tag["href"]) and not {rel.lower() for rel in tag.get("rel", [])} <= NOT_FETCHED_LINKS:
                problems.append(f"{name}: <link rel={' '.join(tag.get('rel', []))}> loads {tag['href']}")
        styles = [tag.get_text() for tag in soup.find_all("style")]
        styles += [tag["style"] for tag in soup.find_all(style=True)]
        problems += [f"{name}: style loads {url}" for text in styles for url in REMOTE_STYLE.findall(text)]
        for script in soup.find_all("script", src=False):
            urls = REMOTE_SCRIPT.findall(script.get_text()) + REMOTE_ASSET.findall(script.get_text())
            problems += [f"{name}: script names {url}" for url in dict.fromkeys(urls)]
    for file in sorted(site.rglob("*.css")):
        text = file.read_text(encoding="utf-8")
        problems += [f"{file.relative_to(site)}: style loads {url}" for url in REMOTE_STYLE.findall(text)]
    for file in sorted(site.rglob("*.svg")):
        text = file.read_text(encoding="utf-8")
        urls = REMOTE_STYLE.findall(text) + re.findall(
            r"<(?:image|use|script)[^>]*?href=[\"']((?:https?:)?//[^\"']+)", text
        )
        problems += [f"{file.relative_to(site)}: image loads {url}" for url in urls]
    for file in sorted([*site.rglob("*.js"), *site.rglob("*.mjs")]):
        text = file.read_text(encoding="utf-8", errors="replace")
        problems += [f"{file.relative_to(site)}: script loads {url}" for url in REMOTE_SCRIPT.findall(text)]
    return problems


def bad_images(site: Path) -> list[str]:
    """Images that are missing, empty, or not the kind of file that their name says."""
    signatures = {
        ".png": b"\x89PNG\r\n",
        ".jpg": b"\xff\xd8\xff",
        ".jpeg": b"\xff\xd8\xff",
        ".gif": b"GIF8",
        ".svg": b"<",
    }
    site, problems = site.resolve(), []
    for page in html_pages(site):
        for image in parsed(page).find_all("img"):
            source = image.get("src", "")
            if source.startswith("data:") or REMOTE.match(source):
                continue
            file = page.parent / unquote(urlsplit(source).path)
            head = file.read_bytes()[:16].lstrip() if source and file.is_file() else b""
            if not head.startswith(signatures.get(file.suffix.lower(), head or b"?")):
                problems.append(
                    f"{page.relative_to(site)}: image {source or '(no source)'} is missing, empty or damaged"
                )
    return problems


def missing_feet(site: Path) -> list[str]:
    """Pages of notebooks that do not say how they were made, and a site without any notebook."""
    notebooks = html_pages(site / "notebooks")
    if not notebooks:
        return ["notebooks/: the site has no page of a notebook"]
    return [
        f"notebooks/{page.name}: no 'How this page was made' with parameters, commit and command"
        for page in notebooks
        if not (foot := parsed(page).select_one(".ctd-made"))
        or not all(word in foot.get_text() for word in ("parameters", "commit", "ctd run"))
    ]


def silent_figures(site: Path) -> list[str]:
    """Images of chapters whose alternative text is missing, or the name of a file."""
    return [
        f"notebooks/{page.name}: image {image.get('src', '')[-60:]} says {image.get('alt', '')!r}"
        for page in html_pages(site / "notebooks")
        for image in parsed(page).select("article img")
        if len(image.get("alt", "")) < 10 or re.search(r"\.(png|svg)$", image["alt"])
    ]


def bare_tables(site: Path) -> list[str]:
    """Tables of results without a caption."""
    return [
        f"notebooks/{page.name}: a table without a caption, {table.get_text(' ', strip=True)[:60]!r}"
        for page in html_pages(site / "notebooks")
        for table in parsed(page).select("table.dataframe")
        if not table.caption
    ]


def heavy_pages(site: Path, front: int = 1 << 20, chapter: int = 3 << 19) -> list[str]:
    """The front page and chapters that weigh more than so many bytes with their scripts, styles and pictures.

    A chapter with mathematics may load MathJax besides.
    """
    site, problems = site.resolve(), []
    for page in html_pages(site):
        is_chapter = page.parent.name == "notebooks"
        if not is_chapter and page.name != "intro.html":
            continue
        loaded = parsed(page).select("script[src], link[rel=stylesheet], img")
        addresses = {urlsplit(tag.get("src") or tag.get("href")).path for tag in loaded}
        paths = {(page.parent / unquote(address)).resolve() for address in addresses if "mathjax" not in address}
        weight = page.stat().st_size + sum(path.stat().st_size for path in paths if path.is_file())
        if weight > (chapter if is_chapter else front):
            problems.append(f"{page.relative_to(site)}: weighs {weight:,} bytes")
    return problems


def browser() -> str | None:
    """The path of an installed Chromium or Chrome, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def open_pages(
    site: Path,
    screenshots: Path | None = None,
    served: bool = True,
    width: int = WIDE,
    part: tuple[int, int] = (0, 1),
) -> list[str]:
    """Open every page in both themes.

    Complains about console errors, failed or off-machine requests, broken images, bad math, pages that scroll sideways
    with all parts folded or all of them open, and what axe-core finds grave with all of them open (`ASKED`).

    screenshots: a folder for one PNG a page and theme.
    served: through a web server on the loopback; else as files.
    width: of the window in pixels, WIDE or PHONE.
    part: which of how many equal parts of the pages.
    Raises RuntimeError when no Chromium is installed.
    """
    executable = browser()
    if executable is None:
        raise RuntimeError(f"no browser to open the site with: none of {', '.join(BROWSERS)} is installed")
    site, problems = site.resolve(), []
    first, step = part
    pages = [file for file in html_pages(site) if not is_redirect(file)][first::step]
    with address_of(site, served) as home, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        for theme in THEMES:
            context = chromium.new_context(color_scheme=theme, viewport={"width": width, "height": 900})
            for file in pages:
                name = file.relative_to(site).as_posix()
                page = context.new_page()
                problems += [f"{name} ({theme}): {complaint}" for complaint in visit(page, home, name, theme, width)]
                if screenshots:
                    shot = screenshots / f"{name.removesuffix('.html').replace('/', '-')}-{theme}.png"
                    page.screenshot(path=shot, full_page=True)
                page.close()
            context.close()
        chromium.close()
    return problems


def visit(page: Page, home: str, name: str, theme: str, width: int) -> list[str]:
    """Load one page, wait for its math, and return what went wrong."""
    problems: list[str] = []

    def guard(route):
        if route.request.url.startswith((home, "data:", "blob:")):
            return route.continue_()
        problems.append(f"asks another host for {route.request.url}")
        return route.abort()

    page.route("**/*", guard)
    page.on("console", lambda message: problems.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url} ({request.failure})"))
    page.on(
        "response",
        lambda response: problems.append(f"{response.status}: {response.url}") if response.status >= 400 else None,
    )
    page.goto(f"{home}{name}", wait_until="load")
    page.wait_for_load_state("load")
    page.evaluate("async () => { await window.MathJax?.startup?.promise }")
    shown = page.evaluate("document.documentElement.dataset.theme")
    if shown and shown != theme:
        problems.append(f"shows the {shown} theme")
    problems += [f"broken image {source}" for source in page.evaluate(BROKEN_IMAGES)]
    problems += [f"bad math: {text}" for text in page.evaluate(BAD_MATH)]
    problems += [f"scrolls sideways: {what}" for what in page.evaluate(TOO_WIDE)]
    when = ""
    if page.evaluate(UNFOLD):
        page.wait_for_function(AT_REST)
        when = "unfolded, "
        problems += [f"{when}scrolls sideways: {what}" for what in page.evaluate(TOO_WIDE)]
    return problems + [f"{when}{complaint}" for complaint in inaccessible(page, ASKED[width, theme])]


def inaccessible(page: Page, asked: Sequence[tuple[dict | None, dict]] = EVERYTHING) -> list[str]:
    """What axe-core finds grave on an open page: the rule, and the first element that breaks it.

    asked: the contexts and options of axe-core's runs.
    """
    load_axe(page)
    return [
        f"axe, {rule['impact']}: {rule['help']} ({len(rule['nodes'])} times, such as {rule['nodes'][0]['html'][:150]})"
        for context, options in asked
        for rule in axe_results(page, context, {"resultTypes": ["violations"]} | options)["violations"]
        if rule["impact"] in GRAVE
    ]


def load_axe(page: Page, quick: bool = True) -> None:
    """Load axe-core into an open page.

    quick: so that colour contrast takes half as long; the results are the same.
    """
    script = Axe().axe_script
    page.evaluate(QUICK_MAPS if quick else "text => (0, eval)(text)", script)
    if quick:
        page.evaluate(QUICK_COLOURS)


def axe_results(page: Page, context: dict | None, options: dict) -> dict:
    """The results of axe-core, of a context (None: the document)."""
    asked = [context, {"preload": False} | options]
    return page.evaluate("([context, options]) => axe.run(context ?? document, options)", asked)


# axe-core keeps each field of each colour in a WeakMap, and makes some hundred colours for each piece of text: as
# properties they take a third less time.
QUICK_MAPS = """text => {
  const native = window.WeakMap
  window.WeakMap = class {
    #name = Symbol()
    constructor(pairs) { for (const [key, value] of pairs ?? []) this.set(key, value) }
    has(key) { return Object(key) === key && this.#name in key }
    get(key) { return key?.[this.#name] }
    set(key, value) { key[this.#name] = value; return this }
    delete(key) { return delete key[this.#name] }
  }
  try { (0, eval)(text) } finally { window.WeakMap = native }
}"""
# It parses the same few colours thousands of times: each is parsed once.
QUICK_COLOURS = """() => {
  const color = axe.commons.color.Color.prototype, parse = color.parseString, known = new Map()
  color.parseString = function (text) {
    if (!known.has(text)) {
      parse.call(this, text)
      known.set(text, { r: this.r, g: this.g, b: this.b, alpha: this.alpha })
    }
    return Object.assign(this, known.get(text))
  }
}"""
BROKEN_IMAGES = """async () => {
  const images = [...document.images]
  for (const image of images) image.loading = 'eager'
  await Promise.all(images.map(image => image.decode().catch(() => {})))
  return images.filter(image => !image.naturalWidth).map(image => image.src)
}"""
BAD_MATH = """() => {
  const wrong = [...document.querySelectorAll('[data-mml-node=merror]')].map(node => node.dataset.mjxError)
  const unset = [...document.querySelectorAll('.math')].filter(node => !node.querySelector('svg'))
  return [...wrong, ...unset.map(node => node.textContent)]
}"""
AT_REST = "() => document.getAnimations().every(motion => motion.playState !== 'running')"
# Opens whatever is folded: details, dropdowns and cells behind a toggle. Returns how many were.
UNFOLD = """() => {
  const folded = [...document.querySelectorAll('details:not([open])')]
  const toggles = [...document.querySelectorAll('.toggle-hidden > .toggle-button')]
  for (const part of folded) part.open = true
  for (const button of toggles) button.click()
  return folded.length + toggles.length
}"""
# The elements that make a page wider than the window, when it is.
TOO_WIDE = """() => {
  const root = document.documentElement
  if (root.scrollWidth <= root.clientWidth) return []
  const wide = [...document.body.querySelectorAll('*')].filter(
    node => node.getBoundingClientRect().right > root.clientWidth + 1 && !node.firstElementChild)
  return [`${root.scrollWidth} of ${root.clientWidth} pixels, ${wide[0]?.outerHTML.slice(0, 150)}`]
}"""


@contextmanager
def address_of(site: Path, served: bool) -> Iterator[str]:
    """The address of the site's folder with a final slash, on disk or from a server on the loopback."""
    if not served:
        yield f"{site.as_uri()}/"
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def report(complaints: Sequence[str]) -> str:
    """Complaints as one readable block for a failing test."""
    return "\n  ".join([f"{len(complaints)} complaints:", *complaints])
