"""What the book shows of files: the status of its runs, and the published tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctd.book.markdown import captioned, code, commit, duration, hardware, memory, started, table
from ctd.book.run_folder import RunFolder
from ctd.cache import DATA

ARMS = {
    "full": "full loss",
    "without_phase1": "without Phase 1",
    "without_phase2": "without Phase 2",
    "vanilla_cot": "text only (vanilla CoT distillation)",
    "without_p1_attention": "without attention, Phase 1",
    "without_p1_write": "without write, Phase 1",
    "without_p1_interaction": "without interaction, Phase 1",
    "without_p2_loop": "without loop, Phase 2",
    "without_p2_write": "without write, Phase 2",
    "without_p2_interaction": "without interaction, Phase 2",
}


def status_page(chapters: Sequence[RunFolder]) -> str:
    """Each notebook's time, memory, code and versions, as a page."""
    rows = [
        [
            f"{{doc}}`{run.stem} <notebooks/{run.stem}>`",
            duration(run.manifest["duration_s"]),
            memory(run.manifest),
            str(run.manifest["code_cells"]),
            commit(run.manifest),
            started(run.manifest),
        ]
        for run in chapters
    ]
    versions: dict[str, set[str]] = {}
    for run in chapters:
        for name, version in run.manifest["versions"].items():
            versions.setdefault(name, set()).add(version)
    profiles = " and ".join(sorted({run.manifest["profile"] for run in chapters}))
    machines = sorted({hardware(run.manifest["hardware"]) for run in chapters})
    return "\n".join(
        [
            "# Status",
            "",
            f"What was run to make this book, under the profile `{profiles}`. Each notebook's own page folds the "
            "rest away at its foot.",
            "",
            table(["notebook", "duration", "peak memory", "code cells", "commit", "started"], rows),
            "",
            "## Machine",
            "",
            *(f"- {machine}" for machine in machines),
            "",
            "## Versions",
            "",
            "Those that most decide a number; `requirements.txt` has all.",
            "",
            table(["package", "version"], [[name, ", ".join(sorted(versions[name]))] for name in sorted(versions)]),
            "",
        ]
    )


def patching_table(published: Mapping[str, Any]) -> str:
    """The published effect of patching the top-k heads, as a captioned Markdown table."""
    patching = published["patching"]
    noised, restored, disturbed = (
        patching[name]
        for name in ("phase1_noising_focus_percent", "phase2_denoising_confusion", "phase2_noising_confusion")
    )
    rows = [
        ["Phase-1 heads noised: Focus, %", *map(str, [noised["clean"], *noised["patched"]])],
        ["Phase-2 heads restored: Confusion", *map(str, [restored["corrupted"], *restored["patched"]])],
        ["Phase-2 heads noised: Confusion", *map(str, [disturbed["clean"], *disturbed["patched"]])],
    ]
    heads = ["what", "no head patched", *(f"top {count}" for count in patching["bins"])]
    return captioned("published-patching", f"Published ({published['source']}), not ours: patching.", heads, rows)


def las_table(published: Mapping[str, Any]) -> str:
    """The published leakage-adjusted simulatability of each arm, as a captioned Markdown table."""
    mimic, wiki = published["las"]["mimic_iv"], published["las"]["wikiseealso_320k"]
    rows = [[title, f"{mimic[arm]:.2f}", f"{wiki[arm]:.2f}"] for arm, title in ARMS.items()]
    caption = f"Published ({published['source']}), not ours: leakage-adjusted simulatability."
    return captioned("published-las", caption, ["student", "MIMIC-IV", "LF-WikiSeeAlso-320K"], rows)


def models_table(path: Path = DATA / "models.csv") -> str:
    """What the book can do with each family of models, as a sentence and a captioned Markdown table."""
    with open(path, newline="", encoding="utf-8") as file:
        families = list(csv.DictReader(file))
    version, heads = families[0]["transformers"], [row for row in families if row["heads"] == "exact"]
    writes = [row for row in families if row["writes"] == "exact" and row["heads"] != "exact"]
    n_refused = len(families) - len(heads) - len(writes)
    summary = (
        f"The library transformers {version} has {len(families)} decoder-only families. The heads of {len(heads)} can "
        f"be read and patched exactly; {len(writes)} more can write texts; {n_refused} are refused."
    )
    shown = ("family", "writes", "heads")
    rows = [[*(row[name] for name in shown), code(row["reason"]) if row["reason"] else ""] for row in families]
    caption = f"Families of models, checked on tiny random ones (transformers {version})."
    return f"{summary}\n\n{captioned('families', caption, [*shown, 'why not'], rows)}"
