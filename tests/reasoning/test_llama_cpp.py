"""llama.cpp's own server in the place of a model: what it writes, held against the same weights in torch."""

import numpy as np
import pytest
import torch

from ctd.cache import packaged_file
from ctd.reasoning import models
from ctd.reasoning.generate import generate
from ctd.reasoning.sampling import Sampling
from ctd.reasoning.serve import Server

llama = pytest.importorskip("xllamacpp", reason="pip install .[crosscheck]")

PROMPTS = ["Three large rivers of Europe are", "The heart is an organ that"]


@pytest.fixture(scope="module")
def address():
    """The address of a server with SmolLM2's file, which lives as long as the tests here."""
    settings = llama.CommonParams()
    settings.model.path = str(packaged_file("smollm2_weights"))
    settings.hostnames, settings.port = ["127.0.0.1"], 0
    settings.n_parallel, settings.n_ctx, settings.fit_params, settings.cache_ram_mib = 2, 2048, False, 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = llama.Server(settings)
    yield server.listening_address
    del server


@pytest.fixture
def server(address, monkeypatch, own_cache):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return Server(address, "smollm2", timeout=60, concurrent=2)


def in_torch(model, prompt, text):
    """The log-probability of each token of the text after the prompt."""
    ids = model.tokenizer(prompt + text, return_tensors="pt")["input_ids"]
    begin = len(model.tokenizer(prompt)["input_ids"])
    with torch.no_grad():
        logprobs = model.model(ids).logits[0].float().log_softmax(-1)
    return logprobs[:-1].gather(1, ids[0, 1:, None]).squeeze(1)[begin - 1 :].numpy()


def test_what_it_writes_has_the_log_probabilities_of_the_same_weights_in_torch(server):
    model = models.load("smollm2")
    for prompt, other in zip(PROMPTS, PROMPTS[::-1], strict=True):
        written = server.complete(prompt, Sampling(max_tokens=24), 0)
        assert "".join(written.text[start:end] for start, end in written.offsets) == written.text
        llama_cpp, torch_ = np.array(written.logprobs), in_torch(model, prompt, written.text)
        # llama.cpp rounds what goes into each product to 8 bits; after the other prompt the first tokens are other.
        assert np.abs(llama_cpp - torch_).max() < 0.5
        assert np.abs(llama_cpp - torch_).mean() < 0.1
        assert np.abs(llama_cpp - in_torch(model, other, written.text)).max() > 1


def test_texts_are_written_once_and_come_back_from_the_cache(server, address):
    first = generate(server, PROMPTS, Sampling(max_tokens=8))
    assert all(text.text and text.n_tokens == 8 and not text.finished for text in first)
    away = Server("http://127.0.0.1:9", "smollm2", retries=0)
    assert [text.text for text in generate(away, PROMPTS, Sampling(max_tokens=8))] == [text.text for text in first]


def test_a_seed_draws_the_same_text_again(server):
    drawn = Sampling(max_tokens=12, temperature=1.0, top_p=0.9, top_k=20, repetition_penalty=1.1)
    texts = [server.complete(PROMPTS[0], drawn, seed).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
