"""The page in a browser, opened from the disk: by keyboard, by touch, in both themes, on a phone, and offline."""

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from ctd.book.explorer import packing
from tests import site_check
from tests.book.explorer.conftest import IMAGE, LABELS, SCRIPT
from tests.book.explorer.test_packing import from_four_bits

pytestmark = pytest.mark.skipif(site_check.browser() is None, reason="no browser is installed")
PATIENCE = 60_000  # milliseconds, for a busy machine
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=site_check.browser(), args=site_check.CHROMIUM_ARGS)
        yield started
        started.close()


@contextmanager
def opened(chromium, folder, address="", **options):
    """A page of the explorer at an address; what goes wrong on it fails the test."""
    context = chromium.new_context(**{"viewport": WIDE, **options})
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on("request", lambda request: None if local(request.url) else wrong.append(f"asks for {request.url}"))
    page.goto(f"{folder.as_uri()}/index.html{address}")
    yield page
    assert page.evaluate("window.stolen") is None, "a script in a label or a document was run"
    assert page.text_content("#message") == ""
    context.close()
    assert wrong == []


def local(url):
    return url.startswith(("file:", "data:", "blob:"))


def state(page):
    return page.evaluate("explorer.context().state")


def wait(page, condition):
    page.wait_for_function(f"(() => {{ const state = explorer.context().state; return {condition}; }})()")


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("theme", site_check.THEMES)
def test_every_view_opens_without_a_fault_and_fits_the_screen(chromium, folder, theme, viewport):
    with opened(chromium, folder, "#t=0.7", color_scheme=theme, viewport=viewport) as page:
        for view, sign in (("trace", ".chart svg"), ("heads", ".head canvas"), ("map", ".canvas canvas")):
            page.click(f"#tab-{view}")
            expect(page.locator(f"#{view} {sign}").first).to_be_visible()
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= viewport["width"], f"{view} is {wide} pixels wide"
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        dark = page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(20, 24, 28)"
        assert dark == (theme == "dark")
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") != theme


def test_a_reader_walks_through_by_keyboard(chromium, folder):
    with opened(chromium, folder) as page:
        expect(page.locator("#trace .written")).to_be_visible()
        expect(page.locator("#trace .written")).to_have_attribute("data-hint", re.compile("^Press Play"))
        keys = page.keyboard
        keys.press("ArrowRight")
        wait(page, "state.t === 0.01")
        expect(page.locator("#trace .written")).to_have_attribute("data-hint", "")
        keys.press("Shift+ArrowRight")
        wait(page, "state.t === 0.11")
        assert page.locator(".unwritten").count() > 0
        keys.press("End")
        expect(page.locator("#trace .answer li").first).to_have_text(LABELS[0])
        assert page.locator(".unwritten").count() == 0
        keys.press("s")
        expect(page.locator("input[value=shuffled]")).to_be_checked()
        keys.press("n")
        wait(page, "state.document === 1")
        keys.press("p")
        keys.press("2")
        page.locator(".head[data-head='0.0']").focus()
        keys.press("ArrowRight")
        keys.press("Enter")
        wait(page, "state.head === '0.1' && state.guess1.join() === '0.1'")
        keys.press("ArrowDown")
        wait(page, "state.head === '1.1'")
        keys.press("Shift+Enter")
        wait(page, "state.guess2.join() === '1.1'")
        page.locator(".reveal").focus()
        keys.press("Enter")
        expect(page.locator("#heads .game .say")).to_contain_text(
            "Phase 1: you found 1 of 2, they are 0.1 and 0.3. Phase 2: you found 0 of 2, they are 1.0 and 1.2."
        )
        expect(page.locator("#heads .game td").first).to_have_text("CoarseScore")
        keys.press("/")
        expect(page.locator("#find")).to_be_focused()
        keys.type("liver")
        expect(page.locator(".hits li")).to_have_text(["Liver"])
        keys.press("Escape")
        keys.press("k")
        expect(page.locator("#k")).to_be_focused()
        before = state(page)
        page.reload()
        wait(page, "state.view === 'map'")
        assert state(page) == before


def test_a_reader_plays_on_a_phone_by_touch(chromium, folder):
    with opened(chromium, folder, viewport=PHONE, has_touch=True, reduced_motion="reduce") as page:
        page.tap("#play")
        wait(page, "state.t === 0.1")  # in steps, since little motion is wanted
        page.tap("#play")
        page.evaluate("explorer.set({ t: 1 })")
        page.locator(".written .label").first.tap()
        wait(page, "state.t > 0 && state.t < 1")
        page.tap("#tab-heads")
        page.tap(".head[data-head='1.2']")
        wait(page, "state.head === '1.2'")
        page.get_by_role("button", name="Silence this head").tap()
        expect(page.locator(".compared h3")).to_have_text("with layer 1, head 2 silenced")
        page.tap("#tab-map")
        page.get_by_role("button", name="Zoom in").tap()
        wait(page, "state.zoom")
        page.locator(".canvas canvas").tap()


def test_what_looks_like_a_script_is_shown_as_text(chromium, folder):
    with opened(chromium, folder, "#document=1&t=1") as page:
        expect(page.locator("#trace .answer li").first).to_have_text(IMAGE)
        expect(page.locator("#trace .document")).to_contain_text("<script>window.stolen = 1</script>")
        expect(page.locator("#about")).to_contain_text(SCRIPT)
        page.click("#tab-heads")
        expect(page.locator(".attended")).to_contain_text(IMAGE)
        page.click("#tab-map")
        expect(page.locator("#map td", has_text=IMAGE).first).to_be_visible()
        page.fill("#find", "<img")
        expect(page.locator(".hits li")).to_have_text([IMAGE])


def test_documents_without_a_model_show_their_map_and_say_what_is_missing(chromium, folder):
    with opened(chromium, folder, "#collection=organism-2&view=map&k=3") as page:
        expect(page.locator("#map td").first).to_be_visible()
        expect(page.locator("#t")).to_be_disabled()
        page.click("#tab-trace")
        expect(page.locator("#trace .main > .note").first).to_contain_text("No model has reasoned")
        page.click("#tab-heads")
        expect(page.locator("#heads > .note")).to_have_text("No model reasons about these documents.")


def test_a_document_without_recorded_heads_leads_to_one_that_has_them(chromium, folder):
    with opened(chromium, folder, "#view=heads&document=2") as page:
        expect(page.locator("#heads > .note")).to_contain_text("recorded on 2 of the 3 documents")
        page.get_by_role("button", name="1", exact=True).click()
        expect(page.locator(".head").first).to_be_visible()


def test_an_address_is_read_as_it_was_written_and_nonsense_is_left_out(chromium, folder):
    with opened(chromium, folder) as page:
        full = {
            "collection": "organism", "document": 2, "view": "map", "t": 0.35, "trace": "other", "head": "1.2", "k": 7,
            "find": "a&b=<c>", "zoom": True, "guess1": ["0.1", "0.3"], "guess2": ["1.0"], "revealed": True,
            "silenced": True,
        }  # fmt: skip
        assert page.evaluate("state => explorer.parse(explorer.format(state))", full) == full
        usual = page.evaluate("explorer.defaults()")
        assert page.evaluate("explorer.format(explorer.defaults())") == "#"
        nonsense = "#view=<b>&t=x&k=&document=-3&trace=1&head=a.b&guess1=1,2&zoom=1&unknown=1"
        assert page.evaluate("text => explorer.parse(text)", nonsense) == usual
        assert page.evaluate("explorer.parse('#t=7&k=9999').t") == 1


def test_the_page_unpacks_what_python_packed(chromium, folder):
    values = np.random.default_rng(0).random(7)
    packed = packing.to_four_bits(values)
    with opened(chromium, folder) as page:
        read = page.evaluate(
            "async text => { const bytes = await explorer.inflate(text); "
            "return [...Array(7).keys()].map(place => explorer.fourBits(bytes, place)); }",
            packing.deflated(packed),
        )
    np.testing.assert_allclose(read, from_four_bits(packed, (7,)))


def test_numbers_and_pictures_are_saved(chromium, folder):
    with opened(chromium, folder, "#t=0.5") as page:
        for view, heads in (("trace", ["t", "Focus"]), ("heads", ["word", "place"]), ("map", ["label", "is"])):
            page.click(f"#tab-{view}")
            box = page.locator(f"#{view} .side .table-box")
            expect(box.locator("td").first).to_be_visible()
            rows = list(csv.reader(io.StringIO(saved(page, box, "CSV"))))
            assert rows[0][:2] == heads
            assert len({len(row) for row in rows}) == 1
            picture = ElementTree.fromstring(saved(page, box, "SVG"))
            assert picture.tag.endswith("svg")
            assert len(picture) > 3
        assert page.evaluate("explorer.csv(['a'], [['=1+1'], ['x,\"y'], [-2], [null]])").split("\r\n") == [
            "a", "'=1+1", '"x,""y"', "-2", "", "",
        ]  # fmt: skip


def saved(page, box, name):
    with page.expect_download() as download:
        box.get_by_role("button", name=name).click()
    return download.value.path().read_text()
