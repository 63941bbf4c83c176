"""What CI runs: pinned actions, no more rights than needed, targets that exist, and the summary of a pull request."""

import os
import re
import subprocess

import pytest
import yaml

from ctd.cache import ROOT
from tests.conftest import SITE

PATHS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in PATHS}
STEPS = [
    (name, step) for name, flow in WORKFLOWS.items() for job in flow["jobs"].values() for step in job.get("steps", ())
]


def test_actions_are_githubs_own_and_of_one_version_each():
    used = {tuple(step["uses"].split("@")) for _, step in STEPS if "uses" in step}
    assert all(name.startswith("actions/") and re.fullmatch(r"v\d+", version) for name, version in used)
    assert len({name for name, _ in used}) == len(used)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_reads_only_has_no_secrets_and_does_not_run_strangers_code_with_rights(name):
    flow = WORKFLOWS[name]
    assert flow["permissions"] == {"contents": "read"}
    assert "secrets." not in yaml.dump(flow)
    assert "pull_request_target" not in flow[True]  # YAML reads the key "on" as true
    writing = {
        job: rights
        for job, rights in ((job, steps.get("permissions", {})) for job, steps in flow["jobs"].items())
        if "write" in rights.values()
    }
    assert writing.keys() <= {"publish"}


def test_every_make_target_that_ci_runs_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = {target for _, step in STEPS for target in re.findall(r"^make ([a-z-]+)", step.get("run", ""), re.M)}
    assert targets >= {"test", "book", "audit"}
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def summary(tmp_path, gh, preview="https://example.org/artifact"):
    """What the step writes, with a stand-in for GitHub's command line."""
    (step,) = [step for name, step in STEPS if name == "book" and step.get("name") == "summary"]
    ctd = '#!/bin/sh\necho "compared: $*"\n'
    for path, text in ((tmp_path / "bin" / "gh", gh), (tmp_path / ".venv" / "bin" / "ctd", ctd)):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    written = tmp_path / "summary.md"
    variables = {"BASE": "main", "PREVIEW": preview, "GITHUB_STEP_SUMMARY": str(written)}
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=os.environ | variables | {"PATH": path}, check=True
    )
    return written.read_text()


def test_a_pull_request_links_its_preview_and_shows_what_changed(tmp_path):
    gh = '#!/bin/sh\n[ "$2" = list ] && echo 77 && exit\n[ "$3" = 77 ] && [ "$5" = smoke-runs ] && mkdir "$7"\n'
    text = summary(tmp_path, gh)
    assert text.startswith("[The book with this change](https://example.org/artifact)")
    assert text.endswith("## Smoke runs: main and this change\n\ncompared: compare --markdown runs-before runs\n")


@pytest.mark.parametrize(
    "gh", ["#!/bin/sh\n", "#!/bin/sh\nexit 1\n", '#!/bin/sh\n[ "$2" = list ] && echo 77 || exit 1\n']
)
def test_without_runs_of_main_or_a_site_the_summary_says_so(tmp_path, gh):
    text = summary(tmp_path, gh, preview="")
    assert text == "\nThere are no smoke runs of main to compare with.\n"


def test_the_site_and_the_runs_that_ci_uploads_are_those_that_the_tests_leave():
    uploads = {
        step["with"]["name"]: step["with"]["path"]
        for name, step in STEPS
        if name == "book" and "upload-artifact" in step.get("uses", "")
    }
    assert ROOT / uploads["preview"] == SITE
    assert uploads["smoke-runs"].split() == ["runs/*/smoke/results.json", "runs/*/smoke/manifest.json"]
