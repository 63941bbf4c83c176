"""A server takes the place of a model: asked over the protocol, its trouble told in one line, its key never shown."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ctd.reasoning.completions import Completion
from ctd.reasoning.generate import Limits, generate
from ctd.reasoning.sampling import Sampling
from ctd.reasoning.serve import Server

KEY = "sk-very-secret"


class Protocol(BaseHTTPRequestHandler):
    """Answers a prompt with its words backwards, a token a word; what is queued in `trouble` comes first."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, self.headers["Authorization"], request))
            trouble = self.server.trouble.pop(0) if self.server.trouble else (200, None)
        status, body = trouble
        if status == 200 and body is None:
            body = self.server.answer(request)
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Retry-After-Ms", "1")
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


def backwards(request):
    words = request["prompt"].split()[::-1]
    tokens = [words[0], *(f" {word}" for word in words[1:])]
    logprobs = [-float(place) - len(request["prompt"]) / 8 for place in range(len(tokens))]
    token_logprobs = {
        "tokens": [*tokens, "<end>"],
        "token_logprobs": [*logprobs, -0.5],
        "text_offset": [],
        "top_logprobs": None,
    }
    return body("".join(tokens), token_logprobs)


def body(text, logprobs=None, finish_reason="stop", usage=None):
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": logprobs}
    return {"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


@pytest.fixture
def backend(own_cache, monkeypatch):
    """A server on this machine, in a thread: `requests` notes them, what stands in `trouble` is answered first."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("CTD_API_KEY", raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Protocol)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that gave up waiting
    server.lock, server.requests, server.trouble, server.answer = threading.Lock(), [], [], backwards
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    assert KEY not in text
    return text


def test_prompts_are_answered_in_their_order_with_spans_and_logprobs(backend):
    prompts = ["a b", "liver of a cell", "x", "c d e"]
    completions = generate(Server(backend.url, "m", concurrent=3), prompts, Sampling(9, stop=["STOP"]))
    assert [completion.text for completion in completions] == ["b a", "cell a of liver", "x", "e d c"]
    assert completions[0] == Completion("b a", True, 2, ((0, 1), (1, 3)), (-3 / 8, -11 / 8))
    assert completions[1].logprob(5, 9) == -1 - 2 - 2 * len(prompts[1]) / 8  # " a" and " of"
    assert {path for path, *_ in backend.requests} == {"/v1/completions"}
    assert sorted(request["prompt"] for *_, request in backend.requests) == sorted(prompts)
    for *_, request in backend.requests:
        del request["prompt"]
        assert request == {"model": "m", "max_tokens": 9, "temperature": 0.0, "logprobs": 1, "stop": ["STOP"]}


def test_drawn_texts_get_a_seed_each_and_the_same_ones_again(backend):
    def seeds(seed):
        backend.requests.clear()
        generate(Server(backend.url, "m"), ["a", "b"], Sampling(temperature=0.7, top_p=0.9, seed=seed))
        assert {(request["temperature"], request["top_p"]) for *_, request in backend.requests} == {(0.7, 0.9)}
        return {request["prompt"]: request["seed"] for *_, request in backend.requests}

    first = seeds(0)
    assert len(set(first.values())) == 2
    assert seeds(1) != first
    assert all(0 <= seed < 2**31 for seed in first.values())


def test_settings_beyond_openais_are_sent_by_the_names_of_both_servers(backend):
    generate(Server(backend.url, "m"), ["a"], Sampling(temperature=0.7, top_k=20, repetition_penalty=1.1))
    generate(Server(backend.url, "m"), ["a"], Sampling())
    (*_, with_settings), (*_, plain) = backend.requests
    assert (with_settings["top_k"], with_settings["repetition_penalty"], with_settings["repeat_penalty"]) == (
        20,
        1.1,
        1.1,
    )
    assert not {"top_k", "repetition_penalty", "repeat_penalty"} & plain.keys()


def test_a_killed_call_asks_only_for_what_is_missing_and_at_another_address_for_nothing(backend):
    prompts = [f"prompt {i}" for i in range(6)]
    backend.trouble += [(200, None)] * 3 + [(400, {"message": "no"})] * 3
    with pytest.raises(ValueError, match="refuses what it is asked"):
        generate(Server(backend.url, "m", concurrent=1), prompts)
    backend.trouble.clear()
    backend.requests.clear()
    completions = generate(Server(backend.url, "m", concurrent=1), prompts)
    assert [completion.text for completion in completions] == [f"{i} prompt" for i in range(6)]
    assert len(backend.requests) == 3
    nowhere = Server("http://127.0.0.1:9/v1", "m", retries=0)
    assert generate(nowhere, prompts) == completions
    with pytest.raises(ConnectionError):
        generate(Server("http://127.0.0.1:9/v1", "another", retries=0), prompts)


def test_after_a_refusal_no_more_prompts_are_sent(backend):
    backend.trouble += [(400, {"message": "no"})] * 200
    with pytest.raises(ValueError, match="refuses what it is asked"):
        generate(Server(backend.url, "m", concurrent=2), [f"prompt {i}" for i in range(200)])
    assert len(backend.requests) < 100


def test_a_busy_server_is_asked_again(backend):
    backend.trouble += [(429, {"message": "slow"}), (503, {}), (500, None)]
    assert generate(Server(backend.url, "m", retries=3), ["a b"])[0].text == "b a"
    assert len(backend.requests) == 4


def test_a_server_that_stays_busy_is_given_up(backend):
    backend.trouble += [(503, {"message": "loading\nthe model"})] * 3
    with pytest.raises(ConnectionError) as error:
        generate(Server(backend.url, "m", retries=2), ["a"])
    assert one_line(error).endswith("fails (asked 3 times, 503: loading the model): try again later")
    assert len(backend.requests) == 3


def test_no_server_at_the_address():
    with pytest.raises(ConnectionError) as error:
        Server("http://127.0.0.1:9", "m", retries=0).complete("a", Sampling(), 0)
    assert one_line(error).startswith("there is no server at http://127.0.0.1:9/v1 (asked 1 times: ")


def test_a_server_that_is_too_slow(backend):
    waiting = threading.Event()
    backend.answer = lambda request: waiting.wait(5)
    try:
        with pytest.raises(TimeoutError) as error:
            Server(backend.url, "m", timeout=0.05, retries=0).complete("a", Sampling(), 0)
    finally:
        waiting.set()
    assert "did not answer within 0.05 s (asked 1 times): raise timeout" in one_line(error)


@pytest.mark.parametrize(
    ("status", "kind", "line"),
    [
        (401, PermissionError, r"refuses the key \(401: bad key \.\.\.\): set CTD_API_KEY"),
        (404, FileNotFoundError, "has no model 'm', or no completions"),
        (400, ValueError, r"refuses what it is asked \(400: bad key \.\.\.\)"),
    ],
)
def test_a_refusal_is_told_in_one_line_without_the_key(backend, monkeypatch, status, kind, line):
    backend.trouble.append((status, {"message": f"bad\nkey {KEY}"}))
    monkeypatch.setenv("CTD_API_KEY", f"{KEY}\n")
    with pytest.raises(kind, match=line) as error:
        generate(Server(backend.url, "m"), ["a"])
    one_line(error)
    assert len(backend.requests) == 1


@pytest.mark.parametrize("answer", ["<html>", [], {"choices": []}, {"choices": [{"text": None}]}, {"error": "x"}])
def test_an_answer_that_is_no_completion(backend, answer):
    backend.trouble.append((200, answer))
    with pytest.raises(ValueError, match="did not answer with a completion") as error:
        generate(Server(backend.url, "m"), ["a"])
    one_line(error)


def test_the_key_goes_to_the_server_and_nowhere_else(backend, own_cache, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    plain = Server(backend.url, "m")
    generate(plain, ["a"])
    monkeypatch.setenv("CTD_API_KEY", KEY)
    from_environment, passed = Server(backend.url, "m"), Server(backend.url, "m", api_key="sk-other")
    generate(from_environment, ["b"])
    generate(passed, ["c"])
    assert [authorization for _, authorization, _ in backend.requests] == [
        "Bearer none", f"Bearer {KEY}", "Bearer sk-other"
    ]  # fmt: skip
    assert plain.key == from_environment.key == passed.key
    written = b"".join(path.read_bytes() for path in own_cache.rglob("*") if path.is_file()).decode()
    for text in (written, repr(from_environment), capsys.readouterr().err):
        assert KEY not in text


@pytest.mark.parametrize(
    ("text", "logprobs", "spans"),
    [
        ("é日", {"content": [
            {"token": "?", "bytes": [0xC3], "logprob": -1}, {"token": "?", "bytes": [0xA9, 0xE6], "logprob": -2},
            {"token": "?", "bytes": [0x97, 0xA5], "logprob": -4}, {"token": "", "bytes": [], "logprob": -8},
        ]}, ((0, 1), (0, 2), (1, 2))),
        ("a b", {"content": [{"token": "a", "logprob": -1}, {"token": " b", "logprob": -2}]}, ((0, 1), (1, 3))),
        ("ab", {"tokens": ["a", "", "bST", "OP"], "token_logprobs": [-1, -2, -4, -8]}, ((0, 1), (1, 1), (1, 2))),
        ("", {"tokens": ["<end>"], "token_logprobs": [-1]}, ()),
    ],
)  # fmt: skip
def test_tokens_are_laid_over_the_text_byte_by_byte(backend, text, logprobs, spans):
    backend.answer = lambda request: body(text, logprobs)
    [completion] = generate(Server(backend.url, "m"), ["x"])
    assert completion == Completion(text, True, len(spans), spans, tuple(-(2.0**i) for i in range(len(spans))))


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, {"tokens": ["Ġab"], "token_logprobs": [-1.0]}, {"tokens": ["ab"], "token_logprobs": [None]},
     {"tokens": ["a", "b"], "token_logprobs": [-1.0]}],
)  # fmt: skip
def test_logprobs_that_are_not_given_or_do_not_fit_are_left_out(backend, logprobs):
    usage = {"completion_tokens": 7, "prompt_tokens": 1, "total_tokens": 8}
    backend.answer = lambda request: body("ab", logprobs, "length", usage)
    [completion] = generate(Server(backend.url, "m"), ["x"])
    assert completion == Completion("ab", False, 7)
    with pytest.raises(ValueError, match="this text has no log-probabilities: the server that wrote it gives none"):
        completion.logprob(0, 1)


def test_without_the_client_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ctd\[serve\]'"):
        Server("http://localhost:8000", "m")


@pytest.mark.parametrize(
    ("url", "options", "line"),
    [
        ("localhost:8000", {}, "base_url must be like http://localhost:8000/v1, .* got 'localhost:8000'"),
        ("http://", {}, "base_url must be like"),
        ("http://me:word@host/v1", {}, r"without a user in it, got 'http://\.\.\.@host/v1'"),
        ("http://host", {"timeout": 0}, "timeout must be above 0, .* got 0, 5 and 8"),
        ("http://host", {"retries": -1}, "retries at least 0 .* got 600.0, -1 and 8"),
        ("http://host", {"concurrent": 0}, "concurrent at least 1, got 600.0, 5 and 0"),
    ],
)
def test_bad_addresses_and_numbers_are_refused(url, options, line):
    with pytest.raises(ValueError, match=line):
        Server(url, "m", **options)


def test_bad_prompts_are_refused_before_the_server_is_asked(backend):
    server = Server(backend.url, "m")
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        generate(server, ["a", ""])
    with pytest.raises(ValueError, match="max_prompt_tokens is for models loaded here"):
        generate(server, ["a"], limits=Limits(max_prompt_tokens=5))
    assert generate(server, []) == []
    assert backend.requests == []


@pytest.mark.parametrize(("path", "completed"), [("", "/v1"), ("/", "/v1"), ("/v1/", "/v1"), ("/api/v3", "/api/v3")])
def test_an_address_without_a_path_is_completed(path, completed):
    assert Server(f"http://host:1{path}", "m").base_url == f"http://host:1{completed}"
