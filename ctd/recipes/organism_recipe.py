"""What a model organism is made of and how it is trained, with and without planted heads."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ctd.distill.settings import Settings
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase

NAME, PLANTED, HARD = "organism", "organism-planted", "organism-hard"
SETTINGS = Settings(
    batch_tokens=4096, learning_rate=3e-3, warmup_steps=60, decay=0.5, weight_decay=0.05, check_every=250
)


@dataclass(frozen=True)
class Recipe:
    """What an organism is made of and how it is trained; the manifest beside its weights says the same.

    n_documents: vignettes learned from, each once.
    n_topics: of the vignettes.
    hard: whether their comparisons take two steps (see `ctd.data.readers.organism_hard`).
    n_siblings: codes of the gold labels' categories in the shortlist beside the gold labels, the denied ones first.
    layers: of the Llama.
    heads: of each layer.
    inner: width of the MLP.
    width: of its residual stream; a multiple of twice the heads.
    phase1: heads planted for Phase 1, in one layer; none for an organism without planted heads.
    phase2: likewise for Phase 2.
    weight: of the planted heads' loss.
    barring: of the loss that keeps the other heads away.
    base: the organism beside it from which it is grown, or "" for random weights.
    n_validation: documents that the loss is watched on.
    n_test: test documents of the measured accuracies.
    seed: of the weights and traces.
    settings: of the training.
    Raises ValueError for a number out of range.
    """

    n_documents: int = 30_000
    n_topics: int = 3
    hard: bool = False
    n_siblings: int = 3
    layers: int = 6
    heads: int = 6
    width: int = 192
    inner: int = 448
    phase1: tuple[Head, ...] = ()
    phase2: tuple[Head, ...] = ()
    weight: float = 0.2
    barring: float = 0.3
    base: str = ""
    n_validation: int = 100
    n_test: int = 256
    seed: int = 0
    settings: Settings = SETTINGS

    def __post_init__(self) -> None:
        for name in ("n_documents", "layers", "heads", "inner", "n_validation", "n_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("n_siblings", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.width < self.heads or self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of {2 * self.heads} (twice the heads), got {self.width}")
        if bool(self.phase1) != bool(self.phase2):
            raise ValueError("plant heads of both phases, or of none")
        if not (self.weight > 0 and self.barring >= 0):
            raise ValueError(f"weight must be above 0 and barring at least 0, got {self.weight} and {self.barring}")

    @property
    def planted(self) -> dict[Phase, tuple[Head, ...]]:
        """The planted heads of each phase; empty where none are."""
        return {Phase.SHORTLIST: self.phase1, Phase.REFINE: self.phase2} if self.phase1 else {}


RECIPES = {
    NAME: Recipe(),
    PLANTED: Recipe(
        n_documents=20_000,
        phase1=(Head(2, 1), Head(2, 4)),
        phase2=(Head(4, 0), Head(4, 3)),
        base=NAME,
        settings=replace(SETTINGS, learning_rate=1.5e-3),
    ),
    HARD: Recipe(hard=True),  # has not learned to compare from as many documents: no weights come with the book
}
ELSEWHERE = {  # the planted heads of each phase: no instrument may owe its success to where heads lie
    "organism-early": ((Head(1, 0), Head(1, 5)), (Head(4, 1), Head(4, 4))),
    "organism-late": ((Head(3, 0), Head(3, 5)), (Head(5, 2), Head(5, 4))),
    "organism-swapped": ((Head(5, 0), Head(5, 5)), (Head(4, 2), Head(4, 4))),
}
RECIPES |= {
    name: replace(RECIPES[PLANTED], phase1=phase1, phase2=phase2) for name, (phase1, phase2) in ELSEWHERE.items()
}
