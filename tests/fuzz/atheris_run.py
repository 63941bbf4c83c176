"""Atheris at a parser of foreign text, by coverage.

Atheris is no requirement of the book: it has an environment of its own (make fuzz RUNS=1000000), which sees the
packages of .venv. A finding is left in the current directory, and becomes a line of `test_what_once_broke_a_parser`.

    python -m tests.fuzz.atheris_run KIND [RUNS] [more arguments of libFuzzer]
"""

import os
import shutil
import signal
import sys

os.environ["TQDM_DISABLE"] = "1"

import atheris

with atheris.instrument_imports(include=["ctd", "tests.fuzz.foreign"]):
    from tests.fuzz import foreign

if __name__ == "__main__":
    kind, runs = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "20000"
    parse, folder, corpus = foreign.PARSERS[kind], foreign.fresh_folder(), foreign.fresh_folder()
    for number, seed in enumerate(foreign.SEEDS[kind]):
        (corpus / str(number)).write_bytes(seed)
    bounds = [f"-atheris_runs={runs}", "-timeout=5", "-rss_limit_mb=1024", "-max_len=1024", f"-artifact_prefix={kind}-"]
    try:
        atheris.Setup([sys.argv[0], *bounds, *sys.argv[3:], str(corpus)], lambda content: parse(content, folder))
        atheris.Fuzz()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # libFuzzer's alarm would end Python while it shuts down
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(corpus, ignore_errors=True)
