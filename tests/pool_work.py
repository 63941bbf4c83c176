"""What the organism writes and what its heads do, in many pieces: `python -m tests.pool_work FILE`."""

import pickle
import sys
from pathlib import Path

import numpy as np

from ctd.mechanism import heads
from ctd.reasoning import models
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.generate import Limits, generate
from ctd.reasoning.sampling import Sampling
from ctd.reasoning.token_spans import Span

ROWS, TOKENS = 24, 128


def traces(n: int) -> list[AnnotatedTrace]:
    """Made-up traces: a document, then a CoT without comparisons."""
    ids = np.random.default_rng(0).integers(5, 1000, (n, TOKENS))
    document, cot = Span(2, TOKENS // 2), Span(TOKENS // 2, TOKENS)
    return [
        AnnotatedTrace(f"d{row}", tuple(of_row), document, cot, cot, 3 * TOKENS // 4, (5, 8), (Span(4, 6),), ())
        for row, of_row in enumerate(ids.tolist())
    ]


def main(path: Path) -> None:
    """Write and record, say which begins, and keep the results."""
    organism = models.load("organism", dtype="float32")
    prompts = [f"Document {row}: the patient had fever and {row} days of pain." for row in range(ROWS)]
    print("writing", flush=True)
    drawn = Sampling(max_tokens=64, temperature=0.7, seed=3)
    texts = [(text.text, text.logprobs) for text in generate(organism, prompts, drawn, Limits(256))]
    print("recording", flush=True)
    scores = heads.score(organism.model, traces(ROWS), batch_tokens=TOKENS)
    path.write_bytes(pickle.dumps((texts, {name: array.tobytes() for name, array in scores.values.items()})))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
