"""How fast a model writes, beside how it wrote before: growing caches, whole batches, the threads of one process.

The old way is the library's own `generate` with its dynamic cache, in pieces, with as many threads as there are cores.
`--busy` computes on one core meanwhile.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import torch
import typer
from transformers import DynamicCache

from ctd import hardware
from ctd.book import benchmarks
from ctd.reasoning import generate, models, roomy_cache, write_batch
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.sampling import Sampling

ROWS = (1, 16, 64)
WORDS = ("fever", "calcium", "in", "the", "liver", "after", "an", "operation", "of", "a", "patient")


def prompts(rows: int, n_words: int) -> list[str]:
    """As many prompts, no two the same."""
    return [
        f"Document {row}: " + " ".join(WORDS[(row + n) % len(WORDS)] for n in range(n_words)) for row in range(rows)
    ]


@contextmanager
def old_way() -> Iterator[None]:
    """Caches that grow by copying, plain weights, one process with a thread for each core."""

    def growing(model: Any) -> DynamicCache:
        return DynamicCache(config=model.config)

    def whole(shared: Any, parts: Any, *_: Any) -> Iterator[Any]:
        language_model, lists, sampling = shared
        return (write_batch.write(language_model, part.prompts, sampling, lists) for part in parts)

    threads = torch.get_num_threads()
    torch.set_num_threads(hardware.cores())
    with (
        mock.patch.object(roomy_cache, "for_model", growing),
        mock.patch.object(write_batch, "fast_decoding", return_value=nullcontext()),
        mock.patch.object(generate.workers, "run", lambda _, parts, shared, **__: whole(shared, parts)),
        mock.patch.object(generate, "LONG", float("inf")),
    ):
        yield
    torch.set_num_threads(threads)


def tokens_a_second(model: LanguageModel, texts: list[str], n_tokens: int) -> float:
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, CTD_CACHE=cache, CTD_TEXTS="ignore"):
        began = time.perf_counter()
        written = generate.generate(model, texts, Sampling(n_tokens))
        return sum(completion.n_tokens for completion in written) / (time.perf_counter() - began)


def compute_for_ever() -> None:
    while True:
        pass


@contextmanager
def busy_core() -> Iterator[None]:
    process = multiprocessing.Process(target=compute_for_ever, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()


def keep(model: LanguageModel, words: int, tokens: int, runs: int, out: Path) -> None:
    """Time both ways on one thread, over more and more rows, and keep what was measured."""
    language_model: Any = model.model
    parameters = sum(weight.numel() for weight in language_model.parameters())
    rows = []
    with mock.patch.dict(os.environ, CTD_WORKERS="1"), mock.patch.object(hardware, "cores", return_value=1):
        torch.set_num_threads(1)
        for n in ROWS:
            texts = prompts(n, words)

            def write(context: Callable[[], Any], texts: list[str] = texts) -> None:
                with context():
                    tokens_a_second(model, texts, tokens)

            work = benchmarks.Work("generation", "tokens", n * tokens, 2.0 * parameters * n * tokens)
            ways = {"generate": partial(write, old_way), "ctd": partial(write, nullcontext)}
            rows += benchmarks.compare(work, ways, "generate", runs)
    benchmarks.keep("generation", rows, out)


def main(
    model: Annotated[str, typer.Option(help="a model's name, folder or id")] = models.TEACHER,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or auto")] = "auto",
    words: Annotated[int, typer.Option(help="words of a prompt")] = 100,
    tokens: Annotated[int, typer.Option(help="tokens to write")] = 96,
    runs: Annotated[int, typer.Option(help="timed runs of each way; medians are compared")] = 1,
    busy: Annotated[bool, typer.Option(help="compute on one core meanwhile")] = False,
    out: Annotated[Path | None, typer.Option(help="folder for generation.json: processor time of one thread")] = None,
) -> None:
    """Write in both ways in turn, and print tokens a second and the ratio."""
    loaded = models.load(model, dtype=dtype)
    loaded.model.generation_config.eos_token_id = None
    if out is not None:
        keep(loaded, words, tokens, runs, out)
        return
    ways: dict[str, Callable[[], Any]] = {"old": old_way, "new": nullcontext}
    state = "beside one busy core" if busy else "with nothing beside it, if the machine is quiet"
    print(f"tokens a second, {model}, {loaded.model.dtype}, {state}", flush=True)
    with busy_core() if busy else nullcontext():
        tokens_a_second(loaded, prompts(8, 8), 4)
        for n in ROWS:
            speeds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(runs):
                for way, context in ways.items():
                    with context():
                        speeds[way].append(tokens_a_second(loaded, prompts(n, words), tokens))
            old, new = (statistics.median(speeds[way]) for way in ways)
            print(f"{n:>4} rows: {old:.0f} before, {new:.0f} now, ratio {new / old:.2f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
