"""How good a ranking is: precision, recall, nDCG, propensity-scored precision and F1 over large label spaces.

Notes: every metric takes
pred: label numbers [n, m], best first, -1 for "none".
gold: a boolean or 0/1 CSR matrix [n, labels]; stored zeros are not gold. A document without gold labels scores 0.
k: how many places of pred count.
average: whether to return the mean over documents (True) or the values of the documents (False).
Every metric raises ValueError for k outside 1 .. m; for a pred that is not a signed integer array, has a label outside
-1 .. labels - 1 or the same label twice in a row, or has other rows than gold; and for a gold that is not 0/1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix, issparse

Pred = Int[np.ndarray, "n m"]
PerDocument = Float[np.ndarray, " n"]

CHUNK = 2**20  # predictions looked at together: bounds the working memory, not the result


@dataclass(frozen=True)
class F1:
    """F1 of set predictions.

    micro: over all decisions together.
    macro_all: the mean over all labels.
    macro_present: the mean over the labels that some document has.
    n_all: how many labels there are.
    n_present: how many of them some document has.
    """

    micro: float
    macro_all: float
    macro_present: float
    n_all: int
    n_present: int


def hits(pred: Pred, gold: csr_matrix) -> Bool[np.ndarray, "n m"]:
    """Whether each prediction is a gold label of its document; -1 never is."""
    pred, gold = _checked(pred, gold)
    return _found(pred, gold)


@overload
def precision_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: Literal[True] = True) -> float: ...
@overload
def precision_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: Literal[False]) -> PerDocument: ...
def precision_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: bool = True) -> float | PerDocument:
    """P@k: hits among the first k, over k (also where fewer than k labels are predicted or gold)."""
    pred, gold = _checked(pred, gold, k)
    return _mean(_found(pred[:, :k], gold).sum(axis=1) / k, average)


@overload
def recall_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: Literal[True] = True) -> float: ...
@overload
def recall_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: Literal[False]) -> PerDocument: ...
def recall_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: bool = True) -> float | PerDocument:
    """R@k: hits among the first k, over the document's gold labels; 0 for a document without any."""
    pred, gold = _checked(pred, gold, k)
    return _mean(_over(_found(pred[:, :k], gold).sum(axis=1), np.diff(gold.indptr)), average)


@overload
def ndcg_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: Literal[True] = True) -> float: ...
@overload
def ndcg_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: Literal[False]) -> PerDocument: ...
def ndcg_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: bool = True) -> float | PerDocument:
    """nDCG@k: sum over hits of 1 / log2(rank + 1), over its largest possible value (min(k, gold labels) hits)."""
    pred, gold = _checked(pred, gold, k)
    rows, ranks = np.nonzero(_found(pred[:, :k], gold))
    gain = np.bincount(rows, weights=_discounts(k)[ranks], minlength=len(pred))
    return _mean(_over(gain, _ideal(gold, k)), average)


@overload
def oracle_ndcg_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: Literal[True] = True) -> float: ...
@overload
def oracle_ndcg_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: Literal[False]) -> PerDocument: ...
def oracle_ndcg_at_k(pred: Pred, gold: csr_matrix, k: int, *, average: bool = True) -> float | PerDocument:
    """nDCG@k of a perfect refiner that may only reorder the shortlist: all m predictions, hits first (ours).

    No reordering of `pred` scores higher.
    """
    pred, gold = _checked(pred, gold, k)
    reachable = np.minimum(_found(pred, gold).sum(axis=1), k)
    return _mean(_over(_best_gains(k)[reachable], _ideal(gold, k)), average)


@overload
def psp_at_k(
    pred: Pred,
    gold: csr_matrix,
    k: int,
    inv_prop: Float[np.ndarray, " labels"],
    *,
    average: Literal[True] = True,
) -> float: ...
@overload
def psp_at_k(
    pred: Pred, gold: csr_matrix, k: int, inv_prop: Float[np.ndarray, " labels"], *, average: Literal[False]
) -> tuple[PerDocument, PerDocument]: ...
def psp_at_k(
    pred: Pred, gold: csr_matrix, k: int, inv_prop: Float[np.ndarray, " labels"], *, average: bool = True
) -> float | tuple[PerDocument, PerDocument]:
    """PSP@k: inverse propensities of the hits, over those of each document's k rarest gold labels.

    A ratio of sums over documents, not a mean of ratios (Jain et al., 2016); NaN when no document has gold.
    inv_prop: from `inverse_propensity` on the training labels.
    average: whether to return the ratio (True) or each document's numerator and denominator (False; 0 and 0 without
        gold), for `ctd.stats.bootstrap_ratio`.
    Raises ValueError also unless inv_prop is one positive number a label.
    """
    pred, gold = _checked(pred, gold, k)
    weights = np.asarray(inv_prop, np.float64)
    if weights.shape != (gold.shape[1],) or not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(
            f"inv_prop must be {gold.shape[1]} positive numbers (one per label), got shape {weights.shape}"
            + (f" from {weights.min():g} to {weights.max():g}" if weights.size else "")
        )
    rows, ranks = np.nonzero(_found(pred[:, :k], gold))
    numerators = np.bincount(rows, weights=weights[pred[rows, ranks]], minlength=len(pred))

    true, owner = weights[gold.indices], _rows(gold)
    rank = np.arange(gold.nnz) - gold.indptr[owner]
    best = np.where(rank < k, true[np.lexsort((-true, owner))], 0.0)
    denominators = np.bincount(owner, weights=best, minlength=len(pred))
    if not average:
        return numerators, denominators
    total = denominators.sum()
    return float(numerators.sum() / total) if total else float("nan")


def inverse_propensity(train: csr_matrix, a: float = 0.55, b: float = 1.5) -> Float[np.ndarray, " labels"]:
    """Inverse propensity of each label: 1 + C (N_l + b)^-a, C = (ln N - 1)(b + 1)^a (Jain et al., 2016).

    train: the **training** labels; N documents, N_l of them with label l.
    a: of the model: 0.6 for the Amazon sets, 0.5 for Wikipedia-500K and WikiLSHTC, 0.55 for all else.
    b: of the model: 2.6, 0.4 and 1.5 for these.
    Raises ValueError for a or b not above 0, or fewer than 3 documents (propensities would exceed 1).
    """
    train = _binary(train, "train")
    n = train.shape[0]
    if not (a > 0 and b > 0):
        raise ValueError(f"a and b of the propensity model must be above 0, got a = {a} and b = {b}")
    if n < 3:
        raise ValueError(f"propensities need at least 3 training documents, got {n}")
    c = (np.log(n) - 1) * (b + 1) ** a
    return 1 + c * (_frequency(train) + b) ** -a


def f1_scores(pred: Pred, gold: csr_matrix, labels: Int[np.ndarray, " labels"] | None = None) -> F1:
    """Micro and macro F1 of predicted sets: every label in a row of `pred`, whatever its rank.

    A label neither gold nor predicted has F1 0 (as in scikit-learn) and pulls `macro_all` down. `macro_present` is NaN
    when no document has a label of the set.

    labels: the label set that micro and macro are over; None for all columns of gold.
    Raises ValueError also for an empty label set, a label in it twice, or one outside 0 .. columns - 1.
    """
    pred, gold = _checked(pred, gold)
    n_labels = gold.shape[1]
    chosen = np.arange(n_labels) if labels is None else np.asarray(labels)
    if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
        raise ValueError(f"labels must be a list of at least one label number, got {labels!r}")
    if len(np.unique(chosen)) < len(chosen) or chosen.min() < 0 or chosen.max() >= n_labels:
        raise ValueError(
            f"labels must be distinct and between 0 and {n_labels - 1}, got {len(chosen)} labels "
            f"({len(np.unique(chosen))} distinct) from {chosen.min()} to {chosen.max()}"
        )
    correct = np.bincount(pred[_found(pred, gold)], minlength=n_labels)[chosen]
    predicted = np.bincount(pred[pred >= 0], minlength=n_labels)[chosen]
    true = _frequency(gold)[chosen]
    by_label = _over(2 * correct, predicted + true)
    present = true > 0
    return F1(
        micro=float(_over(2 * correct.sum(), (predicted + true).sum())),
        macro_all=float(by_label.mean()),
        macro_present=float(by_label[present].mean()) if present.any() else float("nan"),
        n_all=len(chosen),
        n_present=int(present.sum()),
    )


def frequency_prior(train: csr_matrix, m: int) -> Int[np.ndarray, " m"]:
    """The m most frequent training labels, best first, ties by label number: the baseline that reads nothing.

    train: the training labels.
    m: how many labels.
    Raises ValueError for m outside 1 .. labels.
    """
    train = _binary(train, "train")
    if not 1 <= m <= train.shape[1]:
        raise ValueError(f"m must be between 1 and {train.shape[1]} (labels), got {m}")
    return np.argsort(-_frequency(train), kind="stable")[:m]


def _found(pred: Pred, gold: csr_matrix) -> Bool[np.ndarray, "n m"]:
    """`hits` of checked input: each (document, label) pair is one key, looked up among the sorted gold keys."""
    n, n_labels = gold.shape
    beyond = n * n_labels
    keys = np.append(_rows(gold) * n_labels + gold.indices, beyond)
    correct = np.empty(pred.shape, bool)
    for rows in _chunks(pred):
        part = pred[rows].astype(np.int64)
        wanted = np.arange(rows.start, rows.stop)[:, None] * n_labels + part
        correct[rows] = (keys[np.searchsorted(keys, wanted)] == wanted) & (part >= 0)
    return correct


def _rows(matrix: csr_matrix) -> Int[np.ndarray, " stored"]:
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))


def _frequency(matrix: csr_matrix) -> Int[np.ndarray, " labels"]:
    return np.bincount(matrix.indices, minlength=matrix.shape[1])


def _chunks(pred: Pred) -> Iterator[slice]:
    size = max(1, CHUNK // pred.shape[1])
    for start in range(0, len(pred), size):
        yield slice(start, min(start + size, len(pred)))


def _discounts(k: int) -> Float[np.ndarray, " k"]:
    return 1 / np.log2(np.arange(2, k + 2))


def _best_gains(k: int) -> Float[np.ndarray, " k+1"]:
    """The discounted gain of 0, 1, .. k hits that lead the ranking."""
    return np.append(0, np.cumsum(_discounts(k)))


def _ideal(gold: csr_matrix, k: int) -> PerDocument:
    return _best_gains(k)[np.minimum(np.diff(gold.indptr), k)]


def _over(numerators: np.ndarray, denominators: np.ndarray) -> Float[np.ndarray, " ..."]:
    """Their ratio, 0 where the denominator is 0."""
    return np.divide(numerators, denominators, out=np.zeros(np.shape(numerators)), where=denominators != 0)


def _mean(values: PerDocument, average: bool) -> float | PerDocument:
    return float(values.mean()) if average else values


def _binary(matrix: csr_matrix, name: str) -> csr_matrix:
    """The matrix with sorted columns, no repeats and no stored zeros (a copy if it has to change)."""
    if not issparse(matrix) or matrix.format != "csr":
        raise ValueError(
            f"{name} must be a CSR matrix [documents, labels], got {type(matrix).__name__}; "
            f"pass scipy.sparse.csr_matrix({name})"
        )
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    odd = matrix.data[(matrix.data != 0) & (matrix.data != 1)]
    if len(odd):
        raise ValueError(f"{name} must hold only 0 and 1 (or booleans), got {odd[0]}; pass ({name} > 0)")
    if not matrix.data.all():
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    return matrix


def _checked(pred: Pred, gold: csr_matrix, k: int | None = None) -> tuple[Pred, csr_matrix]:
    """`pred` and the cleaned `gold`, after every check that the module's notes promise."""
    gold, pred = _binary(gold, "gold"), np.asarray(pred)
    n, n_labels = gold.shape
    if pred.ndim != 2 or pred.dtype.kind != "i" or not pred.size:
        raise ValueError(
            "pred must be a signed integer array [documents, m] of label numbers, at least one row and one column, "
            f"got {pred.dtype} of shape {pred.shape}"
        )
    if len(pred) != n:
        raise ValueError(f"pred and gold need one row per document each, got {len(pred)} and {n} rows")
    m = pred.shape[1]
    if k is not None and not (isinstance(k, int | np.integer) and 1 <= k <= m):
        raise ValueError(f"k must be a whole number between 1 and {m} (columns of pred), got {k}")
    lowest, highest = pred.min(), pred.max()
    if lowest < -1 or highest >= n_labels:
        bad = lowest if lowest < -1 else highest
        raise ValueError(f"pred must hold labels from 0 to {n_labels - 1}, or -1 for none, got {bad}")
    for rows in _chunks(pred):
        ordered = np.sort(pred[rows], axis=1)
        repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        if repeated.any():
            row, column = np.argwhere(repeated)[0]
            raise ValueError(
                f"each row of pred must name a label at most once, got label {ordered[row, column]} "
                f"twice in row {rows.start + row}"
            )
    return pred, gold
