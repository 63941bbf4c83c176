"""How tests of the book are shared out among the processes of `pytest -n`.

Notes: xdist writes a test's group into its id, which pytest 9.2 no longer lets it (pytest-xdist issue 1386), so that
`--dist loadgroup` groups nothing; here groups are read from ids as they are.
"""

from xdist.scheduler import LoadScopeScheduling

EFFECTS = "test_parameter_effects.py::test_a_parameter_moves"
SITE_CHECKS = "test_built_site.py::test_the_built_book_passes"


def group(nodeid):
    """What a test shares: the site that the first checks build, or its chapter's runs. Others go by themselves."""
    if SITE_CHECKS in nodeid:
        return SITE_CHECKS
    return nodeid.partition("-")[0] if EFFECTS in nodeid else nodeid


def turn(item):
    """The site's checks come first of the book's tests, and next what goes on in other processes as it is built."""
    return next((place for place, name in enumerate((SITE_CHECKS, EFFECTS), start=1) if name in item.nodeid), 3)


class Groups(LoadScopeScheduling):
    """Gives whole groups to processes, in the order in which they were collected."""

    def __init__(self, config, log=None):
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid):
        return group(nodeid)
