"""Pages are light, their tables have captions, and what folds or scrolls has a name."""

import json

import pytest
from nbformat import v4

from ctd.book import captions, finish

FONT = 'var icons={"sun":[512,512,[9728],"f185","M1 2z"],list:[16,16,["x"],"f03a","M3 4z"]}'


@pytest.fixture
def shapes(tmp_path):
    (tmp_path / "fontawesome.js").write_text(FONT)
    return finish.icons(tmp_path / "fontawesome.js")


def test_icons_become_pictures_and_their_script_goes(shapes):
    page = (
        '<script src="_static/scripts/fontawesome.js?digest=1"></script><script src="other.js"></script>'
        '<i class="theme-switch fa-solid fa-sun fa-lg" data-mode="light"></i><span class="fa-solid fa-list"></span>'
        '<i class="fas fa-unknown"></i>'
    )
    done = finish.finished(page, shapes)
    assert "fontawesome.js" not in done
    assert '<script src="other.js"></script>' in done
    assert 'class="ctd-fa theme-switch fa-solid fa-sun fa-lg" data-mode="light" aria-hidden="true"' in done
    assert done.count("<svg") == 2
    assert 'viewBox="0 0 16 16"><path d="M3 4z"/></svg>' in done
    assert '<i class="fas fa-unknown"></i>' in done, "what the script lacks stays as it is"


def test_mathjax_is_loaded_where_there_is_mathematics(shapes):
    script = '<script>window.MathJax = {"a": 1}</script><script defer="defer" src="vendor/mathjax/tex-svg.js"></script>'
    assert finish.finished(script, shapes) == ""
    assert script in finish.finished(script + '<span class="math">', shapes)


def test_toggles_are_named_by_their_words_and_a_bibliography_is_no_list_of_links(shapes):
    page = '<summary aria-label="Toggle hidden content"><p>Show the code</p></summary>'
    assert finish.finished(page, shapes) == "<summary><p>Show the code</p></summary>"
    page = '<div role="list" class="citation-list"><div class="citation" id="a" role="doc-biblioentry">'
    assert finish.finished(page, shapes) == '<div class="citation-list"><div class="citation" id="a">'


def test_every_page_of_a_site_is_finished(tmp_path):
    (tmp_path / "_static" / "scripts").mkdir(parents=True)
    (tmp_path / finish.SCRIPT).write_text(FONT)
    (tmp_path / "_static" / "scripts" / "a.js.map").write_text("")
    (tmp_path / "a.html").write_text('<i class="fa-solid fa-sun"></i>')
    finish.finish(tmp_path)
    assert (tmp_path / "a.html").read_text().startswith("<svg")
    assert list((tmp_path / "_static" / "scripts").iterdir()) == []


def output(**data):
    return v4.new_output("display_data", {f"text/{kind}": text for kind, text in data.items()})


def test_a_table_takes_its_caption_from_the_sentence_before_it_or_from_the_heading():
    tables = [output(html='<table class="dataframe"><tr></tr></table>') for _ in range(2)]
    cells = [
        v4.new_markdown_cell("# A\n\n## What it `wrote`\n\nText"),
        v4.new_code_cell("x", outputs=[output(markdown="Recall of **all** labels & more:"), *tables]),
        v4.new_code_cell("x", outputs=[output(html="<table><caption>Own.</caption></table>")]),
    ]
    copy = v4.new_notebook(cells=cells)
    captions.caption_tables(copy)
    first, second = copy.cells[1].outputs
    assert '<table class="dataframe"><caption>Recall of all labels &amp; more.</caption>' in first.data["text/html"]
    assert "<caption>What it wrote.</caption>" in second.data["text/html"]
    assert copy.cells[2].outputs[0].data["text/html"].count("<caption>") == 1


def test_a_question_has_no_full_stop_behind_it_and_a_folded_table_is_named_outside_as_well():
    folded = "<details><summary>Table (22 rows)</summary>\n<table></table>\n</details>"
    (done,) = captions.captioned([output(html=folded)], "Does it work?")
    assert done.data["text/html"] == (
        "<details><summary>Does it work? (22 rows)</summary>\n"
        "<table><caption>Does it work?</caption></table>\n</details>"
    )


def test_the_search_can_quote_every_page_but_itself(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "notebooks").mkdir()
    article = '<html><head></head><body>menu<article class="bd-article">{}</article></body></html>'
    (tmp_path / "search.html").write_text(article.format("Search"))
    (tmp_path / "notebooks" / "a.html").write_text(
        article.format('<h1>Near  misses<a class="headerlink">#</a></h1>\n<p>a &lt;b&gt;</p><script>no</script>')
    )
    finish.finish(tmp_path)
    name, texts = (tmp_path / finish.TEXTS).read_text().split(" = ")
    assert name == "window.ctdTexts"
    assert json.loads(texts) == {"notebooks/a.html": "Near misses a <b>"}
    assert '<script src="_static/search_texts.js"></script></head>' in (tmp_path / "search.html").read_text()
