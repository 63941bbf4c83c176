"""The linear ranker and the merged one beside napkinxc's label tree, on the same features and the same split.

Prints P@1, P@3 and P@5 on test documents and seconds of training, for several inverse penalties of both.
"""

import argparse
import tempfile
import time

import numpy as np
from napkinxc.models import PLT

from ctd.data import readers
from ctd.retrieval import linear, metrics, shortlists
from ctd.retrieval.index import LabelIndex

PLACES = (1, 3, 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="organism", help="organism, setmm-slice, vignettes or another of the book")
    parser.add_argument("--encoder", default="wordllama", help="of the dense index")
    parser.add_argument("--penalties", type=float, nargs="+", default=[10.0, 100.0], help="inverse penalties")
    arguments = parser.parse_args()
    task = readers.load(arguments.dataset)
    gold, texts = task.gold("test"), list(task.documents["train"]["text"])
    index = LabelIndex.build(task.space, arguments.encoder)

    def show(name: str, pred: np.ndarray, seconds: float) -> None:
        reached = " ".join(f"{metrics.precision_at_k(pred.astype(np.int64), gold, k):.4f}" for k in PLACES)
        print(f"{name:32} {reached} {seconds:8.1f} s", flush=True)

    tfidf = linear.vectorizer()
    train = tfidf.fit_transform(texts)
    test = tfidf.transform(task.documents["test"]["text"])
    for penalty in arguments.penalties:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            tree = PLT(folder, threads=1, verbose=False, liblinear_c=penalty)
            tree.fit(train, [row.indices.tolist() for row in task.gold("train")])
            show(f"label tree, {penalty:g}", np.array(tree.predict(test, top_k=5)), time.perf_counter() - began)
        began = time.perf_counter()
        merged = linear.WithoutLanguageModel.fit(task, index, [penalty])
        seconds = time.perf_counter() - began
        show(f"linear, {penalty:g}", shortlists.retrieve(merged.linear, task, "test", 5), seconds)
        name = f"merged, {penalty:g}, cosine {merged.cosine_weight:g}"
        show(name, shortlists.retrieve(merged, task, "test", 5), seconds)


if __name__ == "__main__":
    main()
