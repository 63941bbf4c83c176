"""Pictures: each function draws one figure from a table; a white face keeps it legible in the dark theme."""

from ctd.book.plots.costs import costs as costs
from ctd.book.plots.fronts import fronts as fronts
from ctd.book.plots.heads import courses as courses
from ctd.book.plots.heads import found_heads as found_heads
from ctd.book.plots.heads import head_maps as head_maps
from ctd.book.plots.heads import head_ranking as head_ranking
from ctd.book.plots.heads import instruments as instruments
from ctd.book.plots.heads import patched as patched
from ctd.book.plots.heads import square as square
from ctd.book.plots.heads import written as written
from ctd.book.plots.label_spaces import labels_per_document as labels_per_document
from ctd.book.plots.label_spaces import levels as levels
from ctd.book.plots.label_spaces import outcome_bars as outcome_bars
from ctd.book.plots.label_spaces import sizes as sizes
from ctd.book.plots.label_spaces import tails as tails
from ctd.book.plots.phases import additive as additive
from ctd.book.plots.phases import factorial as factorial
from ctd.book.plots.phases import waterfall as waterfall
from ctd.book.plots.style import use_style as use_style
from ctd.book.plots.tables import curves as curves
from ctd.book.plots.tables import dots as dots
from ctd.book.plots.tables import dumbbells as dumbbells
from ctd.book.plots.tables import ranked as ranked
from ctd.book.plots.traces import losses as losses
from ctd.book.plots.traces import trajectories as trajectories
