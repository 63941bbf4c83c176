"""How a chain of thought (CoT) moves: towards its document's topics (Focus), away from its near misses (Confusion).

Notes: curves over t, the normalised CoT position, of cosines between e(r_<=t), the CoT written so far, and targets of
the document (arXiv:2606.06840; the forms of targets, boundary and contrasts are ours). Rows are documents and stay
aligned: what a document lacks (a CoT, near misses, a first word at t = 0) is NaN, and NaN is left out of every mean.
n documents, g grid points, d dimensions.

    written = embed_prefixes(traces, encoder)
    goals = targets([trace.document for trace in traces], gold, near_misses, anchors, space, encoder)
    measured = written.towards(goals)
    elsewhere = written.swapped(of_other_documents(traces, rng)).towards(goals)  # a control that embeds nothing
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ctd import stats
from ctd.cache import DATA
from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from ctd.mechanism import isolation
from ctd.reasoning.traces import Trace
from ctd.retrieval import encoders
from ctd.retrieval.encoders import Encoder
from ctd.retrieval.index import LabelIndex
from ctd.stats import Interval

GRID: Float[np.ndarray, " g"] = np.arange(21) / 20  # the published points
PIECE = 254  # characters: a token holds at least one, and MiniLM reads 256 tokens, two of them its own
RISING, FALLING = ("focus", "focus_document"), ("confusion", "margin")
METRICS = ("focus", "focus_document", "confusion", "gold", "margin")
FIXED = 0.5  # where the paper draws t*
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, eq=False)
class Targets:
    """Where a CoT may move, one unit vector a document, NaN where it has none.

    anchor: e(c(x)), mean of the anchors' vectors. document: e(x). near_miss: e(N(x)), mean of the near misses'
    vectors. gold: e(Y*), mean of the gold labels' vectors. The means are our definition.
    """

    anchor: Float[np.ndarray, "n d"]
    document: Float[np.ndarray, "n d"]
    near_miss: Float[np.ndarray, "n d"]
    gold: Float[np.ndarray, "n d"]


@dataclass(frozen=True, eq=False)
class PrefixVectors:
    """The embedded prefixes of one CoT a document, before any target is chosen.

    vectors: unit, NaN where nothing is written yet, or at all. boundary: marked t* of each CoT, NaN without one.
    """

    grid: Float[np.ndarray, " g"]
    vectors: Float[np.ndarray, "n g d"]
    boundary: Float[np.ndarray, " n"]

    @property
    def without_cot(self) -> int:
        """How many documents have no CoT."""
        return int(np.isnan(self.vectors[..., 0]).all(axis=1).sum())

    def swapped(self, order: Int[np.ndarray, " n"]) -> PrefixVectors:
        """Document i with the CoT of document order[i]; nothing is embedded anew."""
        return replace(self, vectors=self.vectors[order], boundary=self.boundary[order])

    def towards(self, goals: Targets) -> Trajectories:
        """The cosines to the targets of the documents. Raises ValueError for another number of documents."""
        _same_length(traces=len(self.vectors), targets=len(goals.gold))

        def cosine(target: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n g"]:
            return np.einsum("ngd,nd->ng", self.vectors, target, dtype=np.float64)

        return Trajectories(
            self.grid,
            self.boundary,
            focus=cosine(goals.anchor),
            focus_document=cosine(goals.document),
            confusion=cosine(goals.near_miss),
            gold=cosine(goals.gold),
        )


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Cosines of the CoT written up to t with each target of its document, NaN where undefined.

    focus: to the anchors; focus_document: to the document (the patching figures' target); confusion: to the near
    misses, lower is better; gold: to the gold labels. boundary: marked t* of each CoT, NaN without one.
    """

    grid: Float[np.ndarray, " g"]
    boundary: Float[np.ndarray, " n"]
    focus: Float[np.ndarray, "n g"]
    focus_document: Float[np.ndarray, "n g"]
    confusion: Float[np.ndarray, "n g"]
    gold: Float[np.ndarray, "n g"]

    @property
    def margin(self) -> Float[np.ndarray, "n g"]:
        """Confusion less the cosine to gold: what is left of it when the topic, which both share, is taken away."""
        return self.confusion - self.gold

    @property
    def left_out(self) -> dict[str, int]:
        """For each metric, how many documents have no value at all: no CoT, or no such target."""
        return {metric: int(np.isnan(getattr(self, metric)).all(axis=1).sum()) for metric in METRICS}

    def table(self, draws: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
        """Mean curves, long: metric, t, estimate, low, high (bootstrap over documents), n documents at that t."""
        curves = np.stack([getattr(self, metric) for metric in METRICS], axis=1)
        mean = _mean(curves, draws, level, seed)
        keys = pd.MultiIndex.from_product([METRICS, self.grid], names=["metric", "t"]).to_frame(index=False)
        columns = {"estimate": mean.estimate, "low": mean.low, "high": mean.high, "n": _defined(curves).sum(axis=0)}
        return keys.assign(**{name: np.ravel(values) for name, values in columns.items()})


def at_end(texts: Sequence[Sequence[str]], goals: Targets, encoder: Encoder) -> dict[str, Float[np.ndarray, "n r"]]:
    """Focus and Confusion of r whole CoTs a document, such as those written under r interventions.

    texts: of each document as many; NaN for "", and where the document has no such target. Raises ValueError for
    another number of documents than the targets have.
    """
    _same_length(texts=len(texts), targets=len(goals.gold))
    vectors = embed(encoder, [text for of in texts for text in of], desc="embedding CoTs").reshape(
        len(texts), -1, encoder.dim
    )
    towards = {"focus": goals.anchor, "confusion": goals.near_miss}
    return {name: np.einsum("nrd,nd->nr", vectors, target, dtype=np.float64) for name, target in towards.items()}


def prefixes(cot: str, grid: Float[np.ndarray, " g"] = GRID) -> list[str]:
    """What is written at each t: the first t of the CoT's characters, cut back to whole words (between white space).

    At t = 0, and until the first word is whole, that is "": e("") is undefined, for the document is no part of the
    CoT (our definition; the published curves start at a value), and its cosines are NaN.
    Raises ValueError for a grid that does not increase, or leaves [0, 1].
    """
    ends = [0, *(word.end() for word in re.finditer(r"\S+", cot))]
    whole = np.searchsorted(ends, check_grid(grid) * len(cot) + 1e-9, side="right") - 1
    return [cot[: ends[word]] for word in whole]


def pieces(text: str, longest: int = PIECE) -> list[str]:
    """The text as consecutive runs of whole words of at most `longest` characters; a longer word is cut.

    Filled from the beginning, so that the prefixes of a text share all pieces but their last ones.
    """
    if longest < 1:
        raise ValueError(f"longest must be at least 1 character, got {longest}")
    return textwrap.wrap(" ".join(text.split()), longest, break_on_hyphens=False)


def embed(encoder: Encoder, texts: Sequence[str], longest: int = PIECE, desc: str = "") -> Float[np.ndarray, "n d"]:
    """e(.) of texts of any length: mean of their pieces' vectors weighted by characters, normalised; NaN for "".

    An encoder drops what is beyond its length without a word (MiniLM: 256 tokens), hence the pieces (our definition).
    Each distinct piece is encoded once, and kept by `encoders.encode`. longest: characters of a piece; the default
    fits any encoder of 256 tokens that spends no more than one on a character. A curve bends a little where its
    prefixes outgrow the first piece: short ones put that early, and not near t*.
    Raises ValueError for longest < 1.
    """
    parts = {text: pieces(text, longest) for text in texts}
    rows = {piece: row for row, piece in enumerate(dict.fromkeys(piece for part in parts.values() for piece in part))}
    encoded = np.asarray(encoders.encode(encoder, list(rows), desc or "embedding texts")) if rows else np.empty((0, 0))
    made = np.full((len(parts), encoder.dim), np.nan, np.float32)
    for row, part in enumerate(parts.values()):
        if part:
            made[row] = np.average(encoded[[rows[piece] for piece in part]], axis=0, weights=[len(p) for p in part])
    place = {text: row for row, text in enumerate(parts)}
    return _unit(made)[[place[text] for text in texts]]


def embed_prefixes(
    traces: Sequence[Trace], encoder: Encoder, grid: Float[np.ndarray, " g"] = GRID, longest: int = PIECE
) -> PrefixVectors:
    """e(r_<=t) of every trace at every t of the grid; a trace without a CoT has NaN (`without_cot` counts them).

    Raises ValueError for no trace at all, no trace with a CoT, or a grid that `prefixes` refuses.
    """
    grid = check_grid(grid)
    if not any(trace.cot.strip() for trace in traces):
        raise ValueError(f"a trajectory needs at least 1 trace with a CoT, got {len(traces)} traces and none has one")
    written = [text for trace in traces for text in prefixes(trace.cot, grid)]
    vectors = embed(encoder, written, longest, "embedding CoTs").reshape(len(traces), len(grid), -1)
    marked = [np.nan if trace.boundary is None else trace.boundary for trace in traces]
    return PrefixVectors(grid, vectors, np.array(marked, np.float64))


def targets(
    documents: Sequence[str],
    gold: Sequence[Sequence[int]],
    near_misses: Sequence[Sequence[int]],
    anchors: Sequence[Sequence[int]],
    space: LabelSpace,
    encoder: Encoder,
    longest: int = PIECE,
) -> Targets:
    """The targets of each document: its own text, and the means over its gold labels, near misses and anchors.

    gold, near_misses: label numbers, anchors: node numbers of the label space, one list (possibly empty) a document.
    Raises ValueError for lengths that differ, or a number that the label space does not have.
    """
    _same_length(documents=len(documents), gold=len(gold), near_misses=len(near_misses), anchors=len(anchors))
    for labels in (*gold, *near_misses):
        space.check(labels)
    listed = [*anchors, *near_misses, *gold]
    nodes = sorted({int(node) for part in listed for node in part})
    if nodes and not 0 <= nodes[0] <= nodes[-1] < len(space.ids):
        wrong = nodes[0] if nodes[0] < 0 else nodes[-1]
        raise ValueError(f"anchors must be nodes of '{space.name}', 0 to {len(space.ids) - 1}, got {wrong}")
    vectors = embed(encoder, [space.texts[node] for node in nodes], longest, "embedding labels")
    row = {node: place for place, node in enumerate(nodes)}
    means = np.full((len(listed), encoder.dim), np.nan, np.float32)
    for place, part in enumerate(listed):
        if len(part):
            means[place] = vectors[[row[int(node)] for node in part]].mean(axis=0)
    anchor, near_miss, right = np.split(_unit(means), 3)
    return Targets(anchor, embed(encoder, documents, longest, "embedding documents"), near_miss, right)


def targets_of(
    task: Task,
    index: LabelIndex,
    topic_depth: int,
    n_topics: int,
    n_near_misses: int,
    rows: Sequence[int] | None = None,
) -> Targets:
    """The targets of test documents: `targets` of their gold labels, of as many near misses and topics at most.

    topic_depth: level of the tree whose nodes are the topics, 0 the highest. rows: which documents; None for all.
    """
    part = task if rows is None else task.select("test", np.asarray(rows))
    documents, gold = list(part.documents["test"]["text"]), part.gold("test")
    near = isolation.near_misses(index, gold, documents, n_near_misses)
    anchors = part.topics("test", topic_depth, n_topics)
    return targets(documents, [row.indices.tolist() for row in gold], near, anchors, task.space, index.encoder)


def shuffled(trace: Trace, rng: np.random.Generator) -> Trace:
    """A control: the trace with the CoT's lines in random order; where it has but one line, its sentences.

    All marks are dropped, t* with them. Blank lines are lost.
    """
    lines = [line for line in trace.cot.split("\n") if line.strip()]
    units, gap = (lines, "\n") if len(lines) > 1 else (SENTENCE_END.split(trace.cot.strip()), " ")
    mixed = gap.join(units[row] for row in rng.permutation(len(units)))
    return replace(trace, cot=mixed, shortlist=None, comparisons=(), mentions=())


def of_other_documents(traces: Sequence[Trace], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """A control: for each document the row of another's CoT, for `PrefixVectors.swapped`.

    A uniformly random derangement of the traces that have a CoT: each is used once, none by its own document. The
    others keep their own row. Raises ValueError for fewer than two traces with a CoT.
    """
    order = np.arange(len(traces))
    rows = np.flatnonzero([bool(trace.cot.strip()) for trace in traces])
    if len(rows) < 2:
        raise ValueError(f"another document's CoT needs at least 2 traces with a CoT, got {len(rows)}")
    drawn = rng.permutation(rows)
    while (drawn == rows).any():
        drawn = rng.permutation(rows)
    order[rows] = drawn
    return order


def detect(curve: Float[np.ndarray, " g"], grid: Float[np.ndarray, " g"] = GRID) -> float:
    """t* by its shape: the breakpoint of the continuous two-segment linear least-squares fit (our definition).

    The exact minimum: a breakpoint between two points is where the lines fitted to either side meet, else it is a
    point of the grid (Hudson, 1966). NaN points are left out; NaN for a straight line, which has no breakpoint.
    Raises ValueError for lengths that differ, a grid that `prefixes` refuses, or fewer than 5 points.
    """
    grid = check_grid(grid)
    _same_length(curve=len(curve), grid=len(grid))
    if (points := int((~np.isnan(curve)).sum())) < 5:
        raise ValueError(f"a breakpoint needs a curve of at least 5 points, got {points}")
    return float(_breakpoints(np.asarray(curve, np.float64)[None], grid)[0])


def boundaries(
    measured: Trajectories, metric: str = "focus", draws: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """The three t* side by side: rows marked, detected and fixed; columns t, low, high, n documents.

    marked: mean of the traces' own boundaries. detected: `detect` on the mean curve of the metric, with its
    percentile interval over documents (draws without a breakpoint left out). fixed: 0.5, where the paper draws it.
    Raises ValueError for an unknown metric, or where `detect` does.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    values = getattr(measured, metric)
    means = _drawn_means(values, _weights(len(values), draws, level, np.random.default_rng(seed)))
    detect(means[0], measured.grid)
    found = _interval(_breakpoints(means, measured.grid), level)
    marked = _mean(measured.boundary, draws, level, seed)
    rows = {
        "marked": (*marked.scalar, int(_defined(measured.boundary).sum())),
        "detected": (*found.scalar, int(_defined(values).any(axis=1).sum())),
        "fixed": (FIXED, np.nan, np.nan, len(values)),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["t", "low", "high", "n"]).rename_axis("boundary")


def area_between(
    a: Float[np.ndarray, "n g"],
    b: Float[np.ndarray, "m g"] | Float[np.ndarray, " g"],
    grid: Float[np.ndarray, " g"] = GRID,
    paired: bool = True,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """How far two models' mean curves are apart: their absolute difference, averaged over t by the trapezoid rule.

    Over the t at which both are defined, divided by the length of that stretch: over [0, 1] the area itself, in
    cosines (our definition). b: another model's curves, or one curve without documents, such as a published one.
    paired: row i of both is the same document, and they are drawn together; else apart. An absolute value is never
    below 0, and neither is its interval: noise alone gives a small area.
    Raises ValueError for lengths that differ, or fewer than two t at which both are defined.
    """
    grid, rng = check_grid(grid), np.random.default_rng(seed)
    one = np.ndim(b) == 1
    b = np.atleast_2d(b)
    _same_length(a=a.shape[1], b=b.shape[1], grid=len(grid))
    weights = _weights(len(a), draws, level, rng)
    if paired and not one:
        _same_length(**{"documents of a": len(a), "documents of b": len(b)})
        others = weights
    else:
        others = np.ones((draws + 1, 1)) if one else _weights(len(b), draws, level, rng)
    apart = np.abs(_drawn_means(a, weights) - _drawn_means(b, others))
    if (points := int(_defined(apart[0]).sum())) < 2:
        raise ValueError(f"an area needs at least 2 points at which both curves are defined, got {points}")
    area = np.full(len(apart), np.nan)
    for rows, defined in _alike(_defined(apart)):
        if defined.sum() > 1:
            t = grid[defined]
            area[rows] = np.trapezoid(apart[np.ix_(rows, defined)], t, axis=1) / (t[-1] - t[0])
    return _interval(area, level)


def phase_contrast(
    measured: Trajectories,
    t_star: float | Float[np.ndarray, " n"] | None = None,
    control: Trajectories | None = None,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Do two phases show? Least-squares slopes per document before and after t*, per unit of t (our definition).

    Rows: for Focus its rise before t* (slope), for Confusion and the margin their fall after t* (slope with the sign
    turned), and for each metric the contrast, slope before less slope after: positive for what rises first and then
    stays (Focus), and for what stays first and then falls (Confusion). With a control of the same documents, the
    paired differences of the contrasts, measured less control: a mean over ever more words levels off in any order,
    so that the contrast of Focus counts only as far as it exceeds the control's.
    Columns: metric, statistic, estimate, low, high (bootstrap over documents), n, shows (low > 0).

    t_star: one for all, or one a document; None for the marked ones of `measured`. A document without one, or with
    fewer than two points on a side, is left out.
    Raises ValueError for t_star outside (0, 1), none marked, lengths or grids that differ.
    """
    n = len(measured.boundary)
    given = measured.boundary if t_star is None else np.asarray(t_star, np.float64)
    if np.isnan(given).all():
        raise ValueError(f"none of the {n} traces marks a boundary: give t_star, such as {FIXED} or a detected one")
    if given.ndim:
        _same_length(documents=n, t_star=len(given))
    if (wrong := given[~np.isnan(given) & ~((given > 0) & (given < 1))]).size:
        raise ValueError(f"t_star must lie between 0 and 1 (both excluded), got {wrong.flat[0]:g}")
    split = np.broadcast_to(given, n)
    statistics = _phases(measured, split)
    if control is not None:
        _same_length(documents=n, **{"documents of the control": len(control.boundary)})
        if not np.array_equal(measured.grid, control.grid):
            raise ValueError("measured and control need the same grid of t")
        others = _phases(control, split)
        statistics = {key: statistics[key] - others[key] for key in statistics if key[1] == "contrast"}
    values = np.stack(list(statistics.values()), axis=1)
    mean = _mean(values, draws, level, seed)
    table = pd.DataFrame(list(statistics), columns=["metric", "statistic"])
    return table.assign(
        estimate=mean.estimate, low=mean.low, high=mean.high, n=_defined(values).sum(axis=0), shows=mean.low > 0
    )


def two_phases(*tables: pd.DataFrame, metrics: Sequence[str] = ("focus", "confusion")) -> bool:
    """Yes or no: every row of these metrics in the tables of `phase_contrast` has its interval above 0.

    All of them must, so each may be tested at its own level (intersection-union test).
    Raises ValueError where a table has no row of a metric.
    """
    for metric in metrics:
        for table in tables:
            if metric not in set(table["metric"]):
                raise ValueError(f"the table has no metric {metric!r}, only {', '.join(table['metric'].unique())}")
    return all(bool(table.loc[table["metric"].isin(metrics), "shows"].all()) for table in tables)


def published(model: str = "teacher", data: str = "mimic_iv") -> pd.DataFrame:
    """A curve of arXiv:2606.06840, from the authors' figure notes: columns metric, t, estimate, no interval.

    Raises ValueError for a model or a dataset that `data/published.json` does not have.
    """
    notes = json.loads((DATA / "published.json").read_text())
    curves = notes.get(data)
    if not isinstance(curves, dict) or "focus" not in curves:
        raise ValueError(f"data must be one of mimic_iv (data/published.json), got {data!r}")
    if model not in curves["focus"]:
        raise ValueError(f"model must be one of {', '.join(curves['focus'])}, got {model!r}")
    parts = [pd.DataFrame({"metric": metric, "t": notes["t"], "estimate": of[model]}) for metric, of in curves.items()]
    return pd.concat(parts, ignore_index=True)


def check_grid(grid: Float[np.ndarray, " g"]) -> Float[np.ndarray, " g"]:
    """The grid as float64. Raises ValueError unless it is one strictly increasing row of points in [0, 1]."""
    points = np.asarray(grid, np.float64)
    if points.ndim != 1 or not len(points):
        raise ValueError(f"grid must be a row of at least 1 point, got shape {points.shape}")
    if not ((points >= 0) & (points <= 1)).all():
        raise ValueError(f"grid must lie in [0, 1], got {points.min():g} to {points.max():g}")
    if (flat := np.flatnonzero(np.diff(points) <= 0)).size:
        raise ValueError(f"grid must increase, got {points[flat[0]]:g} before {points[flat[0] + 1]:g}")
    return points


def _same_length(**lengths: int) -> None:
    if len(set(lengths.values())) > 1:
        raise ValueError("lengths must agree, got " + ", ".join(f"{name} {count}" for name, count in lengths.items()))


def _unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norm, out=np.full_like(vectors, np.nan), where=norm > 0)


def _defined(values: np.ndarray) -> np.ndarray:
    return ~np.isnan(values)


def _mean(values: Float[np.ndarray, "n ..."], draws: int, level: float, seed: int) -> Interval:
    """`stats.bootstrap_mean`, but with NaN left out, column by column."""
    return stats.bootstrap_ratio(np.nan_to_num(values), _defined(values), draws, level, seed)


def _weights(n: int, draws: int, level: float, rng: np.random.Generator) -> Float[np.ndarray, "1+draws n"]:
    """How often each document counts: once in the estimate (row 0), then as drawn."""
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws must be at least 1 and level between 0 and 1, got {draws} and {level}")
    return np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=draws)])


def _drawn_means(values: Float[np.ndarray, "n g"], weights: Float[np.ndarray, "w n"]) -> Float[np.ndarray, "w g"]:
    above, below = weights @ np.nan_to_num(values), weights @ _defined(values)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def _interval(drawn: Float[np.ndarray, " 1+draws"], level: float) -> Interval:
    """Estimate (entry 0) and quantiles of the rest that are defined."""
    rest = drawn[1:][_defined(drawn[1:])]
    ends = np.quantile(rest, [(1 - level) / 2, (1 + level) / 2]) if len(rest) else np.full(2, np.nan)
    return Interval(drawn[0], *ends)


def _alike(defined: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows grouped by their pattern: row numbers and the pattern, which most often is but one."""
    patterns, group = np.unique(defined, axis=0, return_inverse=True)
    return [(np.flatnonzero(group.ravel() == place), pattern) for place, pattern in enumerate(patterns)]


def _breakpoints(curves: Float[np.ndarray, "m g"], grid: Float[np.ndarray, " g"]) -> Float[np.ndarray, " m"]:
    """Breakpoint of each curve; NaN for a straight one, or with fewer than 5 points."""
    found = np.full(len(curves), np.nan)
    for rows, defined in _alike(_defined(curves)):
        if defined.sum() >= 5:
            found[rows] = _hudson(curves[np.ix_(rows, defined)], grid[defined])
    return found


def _hudson(curves: Float[np.ndarray, "m g"], t: Float[np.ndarray, " g"]) -> Float[np.ndarray, " m"]:
    """The best of all breakpoints: each inner grid point, and between each two where the lines of both sides meet."""
    _, best = _fit(curves, t)
    best = best - 1e-12 * np.square(curves).sum(axis=1)
    place = np.full(len(curves), np.nan)
    for knot in t[1:-1]:
        _, error = _fit(curves, t, np.maximum(t - knot, 0))
        best, place = np.where(error < best, [error, np.full(len(curves), knot)], [best, place])
    for left in range(2, len(t) - 1):
        low, before = _fit(curves[:, :left], t[:left])
        high, after = _fit(curves[:, left:], t[left:])
        turn = high[1] - low[1]
        meet = np.divide(low[0] - high[0], turn, out=np.full(len(turn), np.nan), where=turn != 0)
        better = (before + after < best) & (t[left - 1] < meet) & (meet < t[left])
        best, place = np.where(better, [before + after, meet], [best, place])
    return place


def _fit(
    curves: Float[np.ndarray, "m g"], *columns: Float[np.ndarray, " g"]
) -> tuple[Float[np.ndarray, "c m"], Float[np.ndarray, " m"]]:
    """Least squares on a constant and the columns: coefficients, sums of squared residuals."""
    design = np.stack([np.ones(curves.shape[1]), *columns], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, curves.T)
    return coefficients, np.square(curves.T - design @ coefficients).sum(axis=0)


def _phases(of: Trajectories, split: Float[np.ndarray, " n"]) -> dict[tuple[str, str], Float[np.ndarray, " n"]]:
    """The statistics of `phase_contrast` for every document."""
    found = {}
    for metric in (*RISING, *FALLING):
        values = getattr(of, metric)
        before = _slopes(values, of.grid, of.grid <= split[:, None])
        after = _slopes(values, of.grid, of.grid >= split[:, None])
        own = ("rise before", before) if metric in RISING else ("fall after", -after)
        found[metric, own[0]], found[metric, "contrast"] = own[1], before - after
    return found


def _slopes(
    values: Float[np.ndarray, "n g"], grid: Float[np.ndarray, " g"], inside: np.ndarray
) -> Float[np.ndarray, " n"]:
    """Least-squares slope of each row over the points inside that are defined; NaN for fewer than two."""
    used = inside & _defined(values)
    count = used.sum(axis=1, keepdims=True)
    t = np.where(used, grid - np.where(used, grid, 0).sum(axis=1, keepdims=True) / np.maximum(count, 1), 0)
    rise, run = (t * np.nan_to_num(values)).sum(axis=1), np.square(t).sum(axis=1)
    return np.divide(rise, run, out=np.full(len(rise), np.nan), where=count[:, 0] > 1)
