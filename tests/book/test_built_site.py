"""The checks of a built site find planted faults, and the built site passes them."""

import base64
import hashlib
import re

import pytest
from playwright.sync_api import sync_playwright

from ctd.cache import ROOT
from tests import site_check

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CHECKS = [
    site_check.broken_links, site_check.remote_resources, site_check.bad_images, site_check.missing_feet,
    site_check.silent_figures, site_check.bare_tables, site_check.heavy_pages,
]  # fmt: skip
PARTS = 4  # of the pages, so that processes that test side by side end together
needs_browser = pytest.mark.skipif(
    site_check.browser() is None, reason=f"no browser installed: none of {', '.join(site_check.BROWSERS)}"
)


@pytest.fixture
def folder(tmp_path):
    """A made-up site without faults: two pages, a picture, a style sheet, a script."""
    write(tmp_path, "index.html", '<a href="notebooks/00_a.html#foot">next</a><a href="https://example.org">away</a>')
    write(
        tmp_path,
        "notebooks/00_a.html",
        '<link rel="stylesheet" href="../_static/a.css"><script src="../_static/a.js?v=1"></script>'
        '<a href="#foot">down</a><img src="../a%20b.png" alt="a picture">'
        '<div id="foot" class="ctd-made">parameters commit ctd run</div>',
    )
    write(tmp_path, "_static/a.css", 'body { background: url("data:image/png;base64,AA") } /* https://example.org */')
    write(tmp_path, "_static/a.js", '// see https://example.org\nconst space = "http://www.w3.org/2000/svg"')
    (tmp_path / "a b.png").write_bytes(PNG)
    return tmp_path


def write(folder, name, body):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    head = "<!doctype html><html lang=en><head><title>t</title><link rel=icon href=data:,></head>"
    text = f"{head}<body>{body}</body></html>"
    path.write_text(text if name.endswith(".html") else body)


@pytest.mark.parametrize(
    "check",
    CHECKS,
)
def test_a_site_without_faults_passes(folder, check):
    assert check(folder) == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('<a href="nowhere.html">', "nowhere.html is missing"),
        ('<a href="notebooks/00_a.html#gone">', "#gone has no such anchor"),
        ('<a href="#gone">', "#gone has no such anchor"),
        ('<script src="gone.js">', "gone.js is missing"),
        ('<a href="/index.html">', "is not relative to the page"),
        ('<a href="file:///etc/hosts">', "is not relative to the page"),
        ('<a href="../outside.html">', "leads out of the site"),
        ('<meta http-equiv="Refresh" content="0; url=gone.html">', "gone.html is missing"),
    ],
)
def test_a_broken_link_is_found(folder, body, complaint):
    write(folder, "bad.html", body)
    (problem,) = site_check.broken_links(folder)
    assert problem.startswith("bad.html: ")
    assert complaint in problem


def test_a_link_into_the_explorer_names_a_collection_that_is_there(folder):
    write(folder, "explorer/index.html", "")
    (folder / "explorer" / "mesh").mkdir()
    link = '<a href="explorer/index.html#t=0.5{}">'
    write(folder, "there.html", link.format("&collection=mesh") + link.format(""))
    write(folder, "gone.html", link.format("&collection=gone"))
    (problem,) = site_check.broken_links(folder)
    assert problem.startswith("gone.html: ")


@pytest.mark.parametrize(
    "body",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        '<script src="//cdn.example.org/a.js"></script>',
        '<link rel="stylesheet" href="https://cdn.example.org/a.css">',
        '<link rel="preconnect" href="https://cdn.example.org">',
        '<img src="http://cdn.example.org/a.png">',
        '<img src="a.png" srcset="a.png 1x, https://cdn.example.org/a.png 2x">',
        '<iframe src="https://cdn.example.org"></iframe>',
        "<style>@import 'https://cdn.example.org/a.css';</style>",
        '<p style="background: url(https://cdn.example.org/a.png)">',
        '<script>const THEBE = "https://cdn.example.org/thebe/index.js"</script>',
        '<script>import("https://cdn.example.org/a")</script>',
    ],
)
def test_a_page_that_loads_from_another_host_is_found(folder, body):
    write(folder, "bad.html", body)
    (problem,) = site_check.remote_resources(folder)
    assert problem.startswith("bad.html: ")
    assert "cdn.example.org" in problem


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("_static/b.css", "@import url(//cdn.example.org/b.css);"),
        ("_static/b.css", '@font-face { src: url("https://cdn.example.org/b.woff2") }'),
        ("_static/b.js", 'fetch("https://cdn.example.org/b.json")'),
        ("_static/b.js", 'import b from "https://cdn.example.org/b"'),
        ("b.svg", '<svg><image href="https://cdn.example.org/b.png"/></svg>'),
    ],
)
def test_a_file_that_loads_from_another_host_is_found(folder, name, text):
    write(folder, name, text)
    (problem,) = site_check.remote_resources(folder)
    assert problem.startswith(f"{name}: ")
    assert "cdn.example.org" in problem


@pytest.mark.parametrize("content", [None, b"", b"not a picture"])
def test_a_missing_empty_or_damaged_image_is_found(folder, content):
    write(folder, "bad.html", '<img src="bad.png">')
    if content is not None:
        (folder / "bad.png").write_bytes(content)
    assert site_check.bad_images(folder) == ["bad.html: image bad.png is missing, empty or damaged"]


def test_a_notebook_page_without_its_foot_is_found(folder):
    write(folder, "notebooks/01_b.html", '<div class="ctd-made">parameters</div>')
    (problem,) = site_check.missing_feet(folder)
    assert problem.startswith("notebooks/01_b.html: ")


def test_a_site_without_notebooks_is_found(tmp_path):
    write(tmp_path, "index.html", "")
    assert site_check.missing_feet(tmp_path) == ["notebooks/: the site has no page of a notebook"]


@pytest.mark.parametrize(
    ("check", "body"),
    [
        (site_check.silent_figures, '<article><img src="../a%20b.png" alt="../_images/abc.png"></article>'),
        (site_check.silent_figures, '<article><img src="../a%20b.png"></article>'),
        (site_check.bare_tables, '<table class="dataframe"><tr><td>1</td></tr></table>'),
        (site_check.heavy_pages, "x" * (3 << 19)),
    ],
)
def test_a_chapter_that_is_hard_to_read_or_to_load_is_found(folder, check, body):
    write(folder, "notebooks/01_b.html", body)
    (problem,) = check(folder)
    assert problem.startswith("notebooks/01_b.html: ")


def test_no_browser_is_one_clear_line(folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="none of chromium, chromium-browser, google-chrome is installed"):
        site_check.open_pages(folder)


@needs_browser
def test_a_browser_finds_what_only_shows_when_a_page_is_opened(folder):
    write(
        folder,
        "bad.html",
        "<script>console.error('planted')</script>"
        "<script>const host = 'cdn.example.org'; fetch('http://' + host).catch(() => 0)</script>"
        '<script>nowhere()</script><img src="gone.png"><span class="math">\\(x</span>'
        "<script>document.documentElement.dataset.theme = 'light'</script>"
        '<p style="color: #777; background: #888">faint</p><div style="width: 2000px">wide</div>',
    )
    problems = site_check.open_pages(folder)
    assert all(line.startswith("bad.html") for line in problems)
    for complaint in (
        "console: planted",
        "asks another host for http://cdn.example.org/",
        "script error: nowhere is not defined",
        "404: http://127.0.0.1",
        "broken image",
        "bad math",
        "axe, serious: Elements must meet minimum color contrast ratio thresholds (1 times",
        "scrolls sideways: 2008 of 1440 pixels",
    ):
        assert [line.split(" ")[1] for line in problems if complaint in line].count("(light):") == 1, complaint
    assert "bad.html (dark): shows the light theme" in problems


@needs_browser
@pytest.mark.parametrize(
    "folded",
    [
        "<details><summary>more</summary>FAINT</details>",
        """<style>.toggle-hidden > p { display: none }</style><div class="toggle toggle-hidden">
        <button class="toggle-button" onclick="this.parentNode.classList.remove('toggle-hidden')">more</button>
        FAINT</div>""",
    ],
    ids=["details", "toggle"],
)
def test_what_is_folded_is_opened_and_checked_as_well(folder, folded):
    write(folder, "bad.html", folded.replace("FAINT", '<p style="color: #777; background: #888">faint</p>'))
    problems = site_check.open_pages(folder, served=False)
    assert [line.partition(": ")[2].partition(" (")[0] for line in problems] == [
        "unfolded, axe, serious: Elements must meet minimum color contrast ratio thresholds"
    ] * 2


FAINT = '<p style="color: #777; background: #888">faint</p>'


@needs_browser
def test_each_fault_is_found_in_the_views_where_it_can_be(tmp_path):
    both, only_on_phones = ["light", "dark"], "<style>@media (width > 700px) { i { display: none } }</style>"
    views = {  # page: its body, the themes in which a wide window has the fault, and those on a phone
        "faint-article": (f"<article>{FAINT}</article>", both, []),
        "faint-header": (f"<header>{FAINT}</header>", both, both),
        "nameless": ("<article><button></button></article>", ["light"], ["dark"]),
        "nameless-on-a-phone": (f'{only_on_phones}<i role="img">x</i>', [], ["dark"]),
        "too-wide": ('<div style="width: 2000px">wide</div>', both, both),
    }
    for name, (body, _, _) in views.items():
        write(tmp_path, f"{name}.html", body)
    for place, width in enumerate((site_check.WIDE, site_check.PHONE), start=1):
        found = site_check.open_pages(tmp_path, served=False, width=width)
        expected = {f"{name}.html ({theme})" for name, view in views.items() for theme in view[place]}
        assert sorted(line.partition(":")[0] for line in found) == sorted(expected), found


def test_no_style_gives_an_article_other_colours_by_width():
    """So colours of articles are checked at one width."""
    style = (ROOT / "book" / "_static" / "custom.css").read_text()
    by_width = re.findall(r"@media [^{]*width[^{]*\{(.*?)\n\}", style, re.DOTALL)
    assert len(by_width) > 2
    assert not [rule for block in by_width for rule in re.findall(r"(?:color|background|opacity)[\w-]*:", block)]


@needs_browser
def test_axe_says_the_same_whether_it_is_quick_or_not(folder):
    """Its whole results of colours: what passes, what fails and what it cannot say."""
    colours = ["#777", "rgba(0, 0, 0, 0.4)", "hsl(120deg 50% 40%)", "color-mix(in srgb, red, white)", "transparent"]
    spans = [f'<span style="color: {colour}">{colour}</span>' for colour in colours]
    blocks = [f'<div style="opacity: 0.9; background: {colour}">{"".join(spans)}</div>' for colour in colours]
    shadow = '<p style="text-shadow: 1px 1px 2px #999">shadow</p><p style="background: url(a.png)">picture</p>'
    write(folder, "colours.html", "".join(blocks) + shadow)
    results = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=site_check.browser(), args=site_check.CHROMIUM_ARGS)
        for quick in (False, True):
            page = chromium.new_page()
            page.goto((folder / "colours.html").as_uri())
            site_check.load_axe(page, quick)
            found = site_check.axe_results(page, None, site_check.COLOURS)
            results.append({kind: found[kind] for kind in ("passes", "violations", "incomplete")})
        chromium.close()
    assert results[0] == results[1]
    assert all(results[0].values())


@needs_browser
def test_screenshots_of_both_themes_are_saved(folder, tmp_path_factory):
    shots = tmp_path_factory.mktemp("shots")
    assert site_check.open_pages(folder, shots, served=False) == []
    assert sorted(shot.name for shot in shots.iterdir()) == [
        f"{page}-{theme}.png" for page in ("index", "notebooks-00_a") for theme in ("dark", "light")
    ]


def test_vendored_mathjax_is_the_file_its_readme_names():
    vendored = ROOT / "book" / "_static" / "vendor" / "mathjax"
    named = re.search(r"SHA-256 of `tex-svg.js` \| `([0-9a-f]{64})`", (vendored / "README.md").read_text())
    assert hashlib.sha256((vendored / "tex-svg.js").read_bytes()).hexdigest() == named[1]


@pytest.mark.book
@pytest.mark.parametrize(
    "check",
    CHECKS,
)
def test_the_built_book_passes(site, check):
    assert not (problems := check(site)), site_check.report(problems)


@pytest.mark.book
def test_every_notebook_is_in_the_built_book(site):
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {page.stem for page in (site / "notebooks").glob("*.html")} == notebooks


@pytest.mark.book
@needs_browser
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    ("served", "width"),
    [(True, site_check.WIDE), (False, site_check.PHONE)],
    ids=["from a server", "from disk, on a phone"],
)
def test_every_page_of_the_built_book_opens_in_both_themes(site, served, width, part):
    problems = site_check.open_pages(site, served=served, width=width, part=(part, PARTS))
    assert not problems, site_check.report(problems)


@pytest.mark.book
@needs_browser
def test_the_search_quotes_what_it_found(site):
    with site_check.address_of(site, False) as home, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=site_check.browser(), args=site_check.CHROMIUM_ARGS)
        page = chromium.new_page()
        page.goto(f"{home}search.html?q=shortlist")
        page.wait_for_selector(".ctd-excerpt mark")
        page.wait_for_function("document.querySelectorAll('#search-results li').length > 5")
        excerpts = page.locator(".ctd-excerpt").all_text_contents()
        assert all("shortlist" in excerpt.lower() and len(excerpt) < 260 for excerpt in excerpts)
        assert site_check.inaccessible(page) == []
        chromium.close()
