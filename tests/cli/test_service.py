"""The service gives what the predictor gives, refuses what it cannot read, and its page shows text as text."""

import socket
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright
from starlette.testclient import TestClient
from typer.testing import CliRunner

from ctd.cli import app, service
from ctd.data.label_space import LabelSpace
from ctd.reasoning.predictor import Labelling, Predictor
from ctd.retrieval.index import LabelIndex
from tests import site_check
from tests.conftest import HashEncoder

IMAGE = '<img src=x onerror="window.stolen = 1">'
SCRIPT = "<script>window.stolen = 1</script>"
PATIENCE = 60_000  # milliseconds, for a busy machine
needs_browser = pytest.mark.skipif(site_check.browser() is None, reason="no browser is installed")


class Writing(Predictor):
    """A predictor with a trace and an error that a model could have written."""

    def label(self, documents, desc=""):
        return [
            replace(labelling, trace=f"{SCRIPT}\n{IMAGE}", error=IMAGE + "x" * 200)
            for labelling in super().label(documents)
        ]


@pytest.fixture
def predictor(own_cache):
    labels = ["Left heart", IMAGE, SCRIPT, "Liver"]
    space = LabelSpace("small", [*"ab", IMAGE + "2", "d"], labels, 4, None)
    return Writing(LabelIndex.build(space, HashEncoder()), n_labels=3, n_shortlist=4)


@pytest.fixture
def client(predictor):
    return TestClient(service.service(predictor, "small"), base_url="http://localhost")


def test_labels_are_those_of_the_predictor(client, predictor):
    documents = ["the left heart", "liver"]
    answers = client.post("/label", json={"documents": documents}).json()
    assert [answer["uid"] for answer in answers] == ["0", "1"]
    for answer, expected in zip(answers, predictor.label(documents), strict=True):
        assert [label["id"] for label in answer["labels"]] == [predictor.space.ids[row] for row in expected.labels]
        assert [label["score"] for label in answer["labels"]] == list(expected.scores)
    assert answers[0]["labels"][0]["text"] == "Left heart"


def test_the_service_says_what_it_is(client):
    assert client.get("/about").json() == {
        "model": "small", "n_label_space": 4, "n_labels": 3, "n_shortlist": 4, "mode": ""
    }  # fmt: skip
    assert "/label" in client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        ({"json": {"documents": ["liver", "  "]}}, "document 1 of 2 is empty"),
        ({"json": {"documents": []}}, "documents: List should have at least 1 item"),
        ({"json": {"documents": [""]}}, "documents.0: String should have at least 1 character"),
        ({"json": {"documents": ["x" * (service.LONGEST + 1)]}}, "documents.0: String should have at most"),
        ({"json": {"documents": ["x"] * 129}}, "documents: List should have at most 128 items"),
        ({"json": {"documents": "liver"}}, "documents: Input should be a valid list"),
        ({"json": {}}, "documents: Field required"),
        ({"content": "{", "headers": {"Content-Type": "application/json"}}, "JSON decode error"),
        ({"content": '{"documents": ["a"]}', "headers": {"Content-Type": "text/plain"}}, "the request: Input should"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(client, sent, complaint):
    response = client.post("/label", **sent)
    assert response.status_code == 422
    assert complaint in response.json()["detail"]
    assert len(response.json()["detail"]) < 200


def test_another_hosts_name_is_refused(predictor):
    application = service.service(predictor, "small", (*service.HERE, "mine.example"))
    for host, status in (("evil.example", 400), ("mine.example", 200), ("127.0.0.1", 200)):
        assert TestClient(application, base_url=f"http://{host}").get("/about").status_code == status


def test_only_its_own_scripts_run(client):
    for address in ("/", "/about", "/static/page.js"):
        assert "script-src 'self'" in client.get(address).headers["Content-Security-Policy"]
    assert client.get("/static/../__init__.py").status_code == 404


def test_a_port_that_is_taken_is_one_line(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["serve", "retrieval", "--labels", "organism", "--port", port])
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: cannot listen on 127.0.0.1, port {port} (Address already in use): choose another --host or --port\n"
    )


@contextmanager
def served(predictor):
    """The address of a service that runs."""
    server = uvicorn.Server(uvicorn.Config(service.service(predictor, "small"), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join(10)


@needs_browser
@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
def test_the_page_shows_labels_documents_and_traces_as_text(predictor, theme, width):
    with served(predictor) as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=site_check.browser(), args=site_check.CHROMIUM_ARGS)
        page = chromium.new_page(color_scheme=theme, viewport={"width": width, "height": 800})
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        wrong = []
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda request: None if request.url.startswith((address, "data:")) else wrong.append(request.url)
        )
        page.goto(address)
        expect(page.locator("#about")).to_have_text("small picks at most 3 of 4 labels.")
        page.keyboard.press("Tab")
        page.keyboard.type(f"{SCRIPT}{IMAGE} the left heart and the liver {'longword' * 30}")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#status")).to_contain_text("3 labels in")
        for summary in page.locator("summary").all():
            summary.click()
        shown = page.locator("#labels li").all_text_contents() + page.locator("#shortlist li").all_text_contents()
        assert {text for text in (IMAGE, SCRIPT, "Left heart") if any(text in row for row in shown)} == {
            IMAGE, SCRIPT, "Left heart"
        }  # fmt: skip
        assert page.text_content("#trace") == f"{SCRIPT}\n{IMAGE}"
        assert IMAGE in page.text_content("#error")
        assert page.locator("#answer img, #answer script").count() == 0
        assert page.evaluate("window.stolen") is None, "a script in a label, a document or a trace was run"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert Axe().run(page).response["violations"] == []
        with page.expect_download() as download:
            page.click("#download")
        assert download.value.path().read_text().startswith('{"uid":"0","labels":[{"id":')
        page.fill("#document", "  ")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#status")).to_have_text("No labels: document 0 of 1 is empty: there is nothing to label")
        chromium.close()
    assert [line for line in wrong if "422" not in line] == []


def test_a_labelling_without_scores_is_served(predictor, monkeypatch):
    monkeypatch.setattr(type(predictor), "label", lambda self, documents, desc="": [Labelling((3,), (None,), ())])
    client = TestClient(service.service(predictor, "small"), base_url="http://localhost")
    assert client.post("/label", json={"documents": ["liver"]}).json()[0]["labels"][0]["score"] is None
