"""The book's own script: rows are filtered, an address opens its claim, and paper is white; a phone shows cards."""

import pytest
from playwright.sync_api import sync_playwright

from ctd.cache import ROOT
from tests import site_check

pytestmark = pytest.mark.skipif(site_check.browser() is None, reason="no browser installed")
PAGE = """<!doctype html><html data-theme="dark"><head><link rel="stylesheet" href="custom.css"></head><body>
<table data-filters="0"><thead><tr><th>run</th><th>value</th></tr></thead>
<tbody><tr><td>a</td><td>1</td></tr><tr><td>b</td><td>2</td></tr><tr><td>a</td><td>3</td></tr></tbody></table>
<article class="bd-article"><div style="overflow-x: auto"><table id="systems">
<thead><tr><th>name</th><th>note</th><th>what it does</th></tr></thead>
<tbody><tr><td>DDK</td><td></td>
<td>Draws more documents of the domains in which the student is furthest behind.</td></tr>
</tbody></table></div></article>
<details id="claim-las"><summary>LAS</summary>numbers</details>
<div class="ctd-scroll" style="width: 50px; overflow-x: auto"><div style="width: 500px">wide</div></div>
<script src="book.js"></script></body></html>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text(PAGE)
    for name in ("book.js", "custom.css"):
        (folder / name).write_text((ROOT / "book" / "_static" / name).read_text())
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=site_check.browser(), args=site_check.CHROMIUM_ARGS)
        shown = chromium.new_page()
        shown.goto(f"{(folder / 'index.html').as_uri()}#claim-las", timeout=120_000)
        yield shown
        chromium.close()


def test_a_choice_leaves_the_rows_that_have_it(page):
    page.select_option("select", "a")
    assert page.eval_on_selector_all("[data-filters] tbody tr", "rows => rows.map(row => row.hidden)") == [
        False,
        True,
        False,
    ]
    assert page.inner_text("output") == "2 of 3 rows"
    page.select_option("select", "")
    assert page.inner_text("output") == "3 of 3 rows"
    assert page.eval_on_selector("select", "list => list.labels[0].textContent").startswith("run")


def test_a_column_sorts_the_rows_and_turns_them_round(page):
    def column(number):
        return page.eval_on_selector_all(
            f"[data-filters] td:nth-child({number})", "cells => cells.map(cell => cell.textContent)"
        )

    page.get_by_role("button", name="value").click()
    page.get_by_role("button", name="value").click()
    assert column(2) == ["3", "2", "1"]
    page.get_by_role("button", name="run").click()
    assert column(1) == ["a", "a", "b"]
    assert page.locator("th[aria-sort]").count() == 1


def test_an_address_unfolds_its_claim(page):
    assert page.eval_on_selector("#claim-las", "claim => claim.open")


def test_what_scrolls_can_be_reached_and_has_a_name(page):
    box = page.locator(".ctd-scroll")
    assert box.get_attribute("tabindex") == "0"
    assert box.get_attribute("aria-label")


def test_on_a_phone_a_table_of_sentences_is_read_without_scrolling_and_names_its_values(page):
    wide = page.viewport_size
    assert page.locator("#systems thead").is_visible()
    page.set_viewport_size({"width": site_check.PHONE, "height": 900})
    assert not page.locator("#systems thead").is_visible()
    cells = page.locator("#systems td")
    assert [cell.is_visible() for cell in cells.all()] == [True, False, True]
    assert cells.nth(2).evaluate("cell => getComputedStyle(cell, '::before').content") == '"what it does: "'
    assert page.eval_on_selector("#systems", "table => table.getBoundingClientRect().right <= innerWidth")
    page.set_viewport_size(wide)


def test_a_dark_page_is_printed_light(page):
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(f"() => {{ dispatchEvent(new Event('beforeprint')); return {theme} }}") == "light"
    assert page.evaluate(f"() => {{ dispatchEvent(new Event('afterprint')); return {theme} }}") == "dark"
