"""Mean ablation: what a head does on average in other documents, in place of what it does in this one (our definition).

Notes: one mean for each phase. Of outputs it is the mean vector over the phase's queries. Rows of attention cannot be
averaged token by token, since no two texts have the same tokens: the mean row has the mean mass on each of four
regions (the first token, the rest of the prompt, the trace before the query, the query itself), spread evenly within
each. s tokens, q queries, k keys, h heads of a layer, c dimensions of a head, p pairs of a row and a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from ctd.mechanism import attention, readouts
from ctd.mechanism.attention import Attended
from ctd.mechanism.phases import Phase
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace

REGIONS = 4
FIRST, PROMPT, TRACE, ITSELF = range(REGIONS)


@dataclass(frozen=True, eq=False)
class PhaseMeans:
    """What every head does in each phase, mean over its queries.

    outputs: before W_O.
    masses: attention on each region.
    """

    outputs: Float[Tensor, "phases layers h c"]
    masses: Float[Tensor, "phases layers h regions"]


@dataclass(frozen=True, eq=False)
class MeanHeads:
    """Means of other documents, laid out for the tokens of one text.

    means: of each phase.
    phase: of each token as a query, from 0; tokens behind the last are of the last one's phase.
    region: of each token as a key of a later query.
    """

    means: PhaseMeans
    phase: Int[Tensor, " s"]
    region: Int[Tensor, " s"]

    def output(self, layer: int, head: Int[Tensor, " p"], queries: range) -> Float[Tensor, "p q c"]:
        """The mean output of some heads at the queries of a pass."""
        means = self.means.outputs[:, layer].to(head.device)
        return means[self._phases(queries, head.device)[None, :], head[:, None]]

    def pattern(
        self, layer: int, head: Int[Tensor, " p"], queries: range, visible: Bool[Tensor, "p q k"]
    ) -> Float[Tensor, "p q k"]:
        """The mean rows of some heads at the queries of a pass, over what each query sees."""
        device, n_keys = head.device, visible.shape[-1]
        keys = torch.arange(n_keys, device=device) + max(0, queries.stop - n_keys)  # a layer with a window has fewer
        region = self.region.to(device)[keys.clamp(max=len(self.region) - 1)].expand(len(queries), -1)
        itself = keys == torch.tensor(queries, device=device)[:, None]
        region = region.masked_fill(itself, ITSELF)  # [q, k]
        among = one_hot(region, REGIONS)[None] * visible[..., None]
        masses = self.means.masses[:, layer].to(device)[self._phases(queries, device)[None, :], head[:, None]]
        share = masses / among.sum(2).clamp(min=1)  # [p, q, regions]
        row = share.gather(-1, region.expand(len(head), -1, -1)) * visible
        return row / row.sum(-1, keepdim=True).clamp(min=1e-9)

    def _phases(self, queries: range, device: torch.device) -> Int[Tensor, " q"]:
        places = torch.tensor(queries, device=device).clamp(max=len(self.phase) - 1)
        return self.phase.to(device)[places]


@torch.no_grad()
def phase_means(model: Any, trace: AnnotatedTrace) -> PhaseMeans:
    """What every head does on one trace."""
    sizes = architecture.shape(model)
    spans = [readouts.phase_queries(trace, phase) for phase in Phase]
    outputs: list[Tensor] = [torch.empty(0)] * sizes.layers
    masses: list[Tensor] = [torch.empty(0)] * sizes.layers
    region = one_hot(_regions(trace), REGIONS).float().to(model.device)

    def collect(attended: Attended) -> None:
        by_phase = [attended.output[0, start:end].mean(0) for start, end in spans]
        outputs[attended.layer] = torch.stack(by_phase).float()
        rows = [_masses(attended, range(*span), region) for span in spans]
        masses[attended.layer] = torch.stack(rows)

    with attention.attention_hooks(model, collect):
        model.get_decoder()(input_ids=torch.tensor([trace.ids], device=model.device), use_cache=False)
    return PhaseMeans(torch.stack(outputs, 1), torch.stack(masses, 1))


def mean_heads(model: Any, traces: Sequence[AnnotatedTrace]) -> list[MeanHeads]:
    """For each trace, the means over all the others. Raises ValueError for fewer than two."""
    if len(traces) < 2:
        raise ValueError(f"mean ablation takes its means from other documents: two are needed, got {len(traces)}")
    each = [phase_means(model, trace) for trace in traces]
    outputs, masses = (torch.stack([getattr(means, name) for means in each]) for name in ("outputs", "masses"))
    laid_out = []
    for place, trace in enumerate(traces):
        others = [row for row in range(len(traces)) if row != place]
        phase = torch.zeros(len(trace.ids), dtype=torch.long)
        phase[trace.boundary :] = 1
        laid_out.append(MeanHeads(PhaseMeans(outputs[others].mean(0), masses[others].mean(0)), phase, _regions(trace)))
    return laid_out


def _masses(attended: Attended, queries: range, region: Float[Tensor, "k regions"]) -> Float[Tensor, "h regions"]:
    """Mean attention of each head on each region."""
    rows = attended.patterns(range(attended.query.shape[1]), queries=slice(queries.start, queries.stop))[0]
    masses = rows @ region
    places = torch.arange(len(queries), device=rows.device)
    itself = rows[:, places, places + queries.start]
    masses[..., ITSELF] = itself
    masses -= itself[..., None] * region[queries.start : queries.stop]
    return masses.mean(1)


def _regions(trace: AnnotatedTrace) -> Int[Tensor, " s"]:
    """The region of each token as a key of a later query."""
    region = torch.full((len(trace.ids),), TRACE)
    region[: trace.cot.start + 1] = PROMPT
    region[0] = FIRST
    return region
