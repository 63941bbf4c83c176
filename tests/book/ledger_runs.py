"""Runs in which every claim of the ledger holds, made from the claims themselves, for tests to change."""

import json

import nbformat
from nbformat import v4

from ctd.book import results
from ctd.book.claims import CLAIMS
from ctd.book.results import Row

N = 99
MIDDLE = {"mean_depth": 0.5}
STEMS = {chapter: f"{chapter}_chapter" for chapter in {claim.chapter for claim in CLAIMS}}


def key(metric, over="documents", **dimensions):
    """What a row is, to look it up by."""
    return metric, over, *sorted((name, value) for name, value in dimensions.items() if value is not None)


def keys(part, over="documents"):
    """The keys of a part's rows: its own, and that which is subtracted."""
    filters = [each for each in (part.reads, part.less) if each]
    return [key(each.metrics[0], each.over or over, **each.dimensions, **_free(each)) for each in filters]


def need_key(need):
    over = None if need.says else "documents"
    return key(need.reads.metrics[0], over, **need.reads.dimensions, **_free(need.reads))


def limit(need):
    """Just on the good side of a precondition's limit, and on its other side: value, low and high, or a text."""
    if need.says:
        return need.says, "no"
    bound, side = (need.above, 1) if need.below is None else (need.below, -1)
    good, bad = (bound or 0) + 0.02 * side, bound or 0
    return (good, good - 0.01, good + 0.01), (bad, bad - 0.01, bad + 0.01)


def _free(wanted):
    return {wanted.largest: {"k": 5, "n_heads": 90}[wanted.largest]} if wanted.largest else {}


def around(part, bounds, half=0.25):
    """A number this many bounds from its null value, and the half width of its interval in bounds."""
    value = part.null + bounds * part.bound
    return value, value - half * part.bound, value + half * part.bound


def held(part):
    return around(part, {"above": 4, "below": -4, "at": 0}[part.claimed])


def overs(part):
    return ("documents", "seeds") if part.students else ("documents",)


def runs():
    """The rows of every chapter, by stem, under which every claim holds."""
    rows = {stem: {} for stem in STEMS.values()}
    for claim in CLAIMS:
        for part in claim.parts.values():
            for over in overs(part):
                first, *less = keys(part, over)
                shift = MIDDLE.get(first[0], 0.0) if part.less else 0.0
                rows[STEMS[claim.chapter]].setdefault(first, tuple(end + shift for end in held(part)))
                for subtracted in less:
                    middle = MIDDLE.get(subtracted[0], 0.0)
                    rows[STEMS[claim.chapter]].setdefault(subtracted, (middle, middle - 0.001, middle + 0.001))
    for claim in CLAIMS:
        for need in claim.needs.values():
            place = rows[STEMS[need.chapter or claim.chapter]]
            if need.less:
                place.setdefault(
                    key(need.less.metrics[0], need.less.over, **need.less.dimensions), (0.0, -0.001, 0.001)
                )
            if need_key(need) not in place or (need.above is not None and place[need_key(need)][1] <= need.above):
                place[need_key(need)] = limit(need)[0]
    return rows


def write(folder, stem, rows, profile="smoke", page="", **parameters):
    """A run folder: rows by `key`, each of value, low and high, or a text."""
    at = folder / stem / profile
    at.mkdir(parents=True, exist_ok=True)
    written = []
    for (metric, over, *dimensions), value in rows.items():
        number = {"unit": "verdict", "value": value}
        if isinstance(value, tuple):
            number = {"unit": "units", "value": value[0], "interval": value[1:], "n": N}
            number |= {"interval_over": over, "interval_method": "BCa"}
        written.append(Row(metric=metric, **number, **dict(dimensions)))
    results.write(written, at / "results.json")
    manifest = {"notebook": f"notebooks/{stem}.ipynb", "profile": profile, "parameters": parameters, "commit": "0" * 40}
    (at / "manifest.json").write_text(json.dumps(manifest))
    cell = v4.new_code_cell("", outputs=[v4.new_output("display_data", {"text/markdown": page})])
    nbformat.write(v4.new_notebook(cells=[cell]), at / f"{stem}.ipynb")
