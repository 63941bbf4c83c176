"""The PDF has every page of the book with nothing cut, and its links lead within it."""

import re

import pytest
from bs4 import BeautifulSoup
from typer.testing import CliRunner

from ctd.book import pdf
from ctd.cli import app
from tests import site_check

needs_browser = pytest.mark.skipif(site_check.browser() is None, reason="no browser is installed")
PAGE = """<html><head><title>A book</title><link rel="stylesheet" href="a.css"></head><body>
<nav class="bd-links"><a class="reference internal" href="#">A book</a>
<a class="reference internal" href="notebooks/01_a.html">First</a></nav>
<article class="bd-article">{}</article></body></html>"""


@pytest.fixture
def site(tmp_path):
    """A book of two pages."""
    (tmp_path / "site" / "notebooks").mkdir(parents=True)
    front = '<h1 id="top">A book</h1><a href="notebooks/01_a.html#run">Run</a> <a href="https://example.org">away</a>'
    chapter = (
        '<h1 id="top">First<a class="headerlink" href="#top">#</a></h1><p id="run">See <a href="#top">above</a>, '
        '<a href="../intro.html">the front</a> and <a href="../data.csv" download>the data</a>.</p>'
        '<img src="../a.svg"><details class="hide"><summary><p class="collapsed">Show the code</p>'
        '<p class="expanded">Hide the code</p></summary><pre>{}</pre></details><div class="ctd-downloads">SVG</div>'
    )
    (tmp_path / "site" / "intro.html").write_text(PAGE.format(front))
    (tmp_path / "site" / "notebooks" / "01_a.html").write_text(PAGE.format(chapter.format("code")))
    return tmp_path / "site"


def test_all_pages_become_one_whose_links_lead_within_it(site):
    page = BeautifulSoup(pdf.one_document(site), "html.parser")
    ids = [tag["id"] for tag in page.select("[id]")]
    assert len(ids) == len(set(ids))
    links = [link["href"] for link in page.select("a[href]")]
    assert "https://example.org" in links
    assert {link[1:] for link in links if link != "https://example.org"} <= set(ids)
    assert "the data" in page.get_text()
    assert "data.csv" not in str(page), "a file beside the book is no place in it"
    assert page.img["src"] == "a.svg"
    assert [fold.has_attr("open") for fold in page("details")] == [True]
    assert page.summary.get_text() == "The code"
    assert not page.select(".headerlink, .ctd-downloads, script")
    assert [heading.get_text() for heading in page("h1")] == ["A book", "Contents", "First"]


def test_a_folder_without_a_book_is_one_line(tmp_path):
    result = CliRunner().invoke(app, ["pdf", "--site", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no book: make it with ctd book" in result.stderr


def test_no_browser_is_one_line(site, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="no browser to print with: install one of chromium"):
        pdf.make_pdf(site, site / "book.pdf")


@needs_browser
def test_a_book_is_printed(site):
    result = CliRunner().invoke(app, ["pdf", "--site", str(site)])
    assert result.exit_code == 0, result.output
    printed = (site.parent / "book.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", printed)) == 3
    assert not (site / pdf.PRINTED).exists()


@needs_browser
def test_what_would_be_cut_is_an_error(site):
    chapter = site / "notebooks" / "01_a.html"
    chapter.write_text(chapter.read_text().replace("code</pre>", "x" * 300 + "</pre>"))
    with pytest.raises(RuntimeError, match=r"parts of the book are wider than a page, such as <pre>xxx"):
        pdf.make_pdf(site, site / "book.pdf")
    assert not (site / "book.pdf").exists()
    chapter.write_text(
        chapter.read_text().replace("<pre>", '<table style="width: 900px"><td>').replace("</pre>", "</table>")
    )
    pdf.make_pdf(site, site / "book.pdf")


@pytest.mark.book
@needs_browser
def test_the_built_book_is_printed_whole(request, tmp_path):
    book = request.getfixturevalue("site")
    assert pdf.make_pdf(book, tmp_path / "book.pdf").stat().st_size < 40 << 20
