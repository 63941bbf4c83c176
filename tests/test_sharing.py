"""Tests of the book that share what is slow to make go to one process, and the site keeps no other from its work."""

from types import SimpleNamespace

from tests import sharing
from tests.parameter_effects import EFFECTS

BUILT, FOUND = "tests/book/test_built_site.py", "tests/test_parameter_effects.py"
EFFECT_IDS = [
    f"{FOUND}::test_a_parameter_moves_the_result_that_the_table_says[{stem}-{name}]"
    for stem, effects in EFFECTS.items()
    for name in effects
]
SITE_IDS = [f"{BUILT}::test_the_built_book_passes[{number}]" for number in range(3)]
PAGE_IDS = [f"{BUILT}::test_every_page_of_the_built_book_opens_in_both_themes[from disk, on a phone-0]"]


class Process:
    """A process that tests: it runs what it was given, in order."""

    def __init__(self):
        self.todo, self.ran, self.shutting_down = [], [], False
        self.gateway = SimpleNamespace(id="gw")

    def send_runtest_some(self, places):
        self.todo += places

    def shutdown(self):
        self.shutting_down = True


def share_out(ids, n_processes):
    """Which ids each process ran, when they take a test each in turn but the first one is long at its first test."""
    config = SimpleNamespace(
        getvalue=lambda name: [f"{n_processes}*popen"], option=SimpleNamespace(loadscopereorder=True)
    )
    scheduler, processes = sharing.Groups(config), [Process() for _ in range(n_processes)]
    for process in processes:
        scheduler.add_node(process)
    for process in processes:
        scheduler.add_node_collection(process, ids)
    scheduler.schedule()
    for turn in range(2 * len(ids)):
        for process in processes[turn < len(ids) :]:
            if process.todo:
                place = process.todo.pop(0)
                process.ran.append(ids[place])
                scheduler.mark_test_complete(process, place)
    return [process.ran for process in processes]


def test_effects_run_beside_the_site_and_each_chapter_in_one_process():
    collected = [*PAGE_IDS, *SITE_IDS, *EFFECT_IDS]
    ids = sorted(collected, key=lambda nodeid: sharing.turn(SimpleNamespace(nodeid=nodeid)))
    first, *others = share_out(ids, 3)
    assert sorted([*first, *others[0], *others[1]]) == sorted(ids)
    assert first[: len(SITE_IDS)] == SITE_IDS
    assert set(others[0] + others[1]) >= set(EFFECT_IDS)
    for stem in EFFECTS:
        assert sum(any(f"[{stem}-" in nodeid for nodeid in ran) for ran in (first, *others)) == 1
