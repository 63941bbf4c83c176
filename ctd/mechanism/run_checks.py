"""Does a model do what the book takes for granted? Checks on a few tokens, read and written, one or several rows.

Notes: windows are made short and one row is padded while the checks run (see `ctd.reasoning.probe`). What heads did is
read at the output projection, outside the code that patches them. Each check returns what is wrong, or "".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ctd.mechanism import attention, attention_patches
from ctd.mechanism.attention import Head, Recording
from ctd.reasoning import architecture, probe, write_batch
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.probe import near
from ctd.reasoning.sampling import Sampling

N_WRITTEN = 3  # tokens
N_PATCHED = 3  # layers of which a head is patched: the first, the last, and one between


@contextmanager
def conditions(model: Any) -> Iterator[None]:
    """The model as it is checked: without dropout and gradients, its windows short."""
    with torch.no_grad(), probe.at_rest(model), probe.short_windows(model):
        yield


def later_tokens(language_model: LanguageModel) -> str:
    """Do tokens that come later change what was read before?"""
    model: Any = language_model.model
    ids = probe.padded_batch(model)["input_ids"][:1]
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % model.get_input_embeddings().num_embeddings
    logits = model(input_ids=torch.cat([ids, changed]), use_cache=False).logits
    if not logits.isfinite().all():
        return "its logits are no finite numbers: its weights are damaged, or overflow their dtype"
    if near(logits[1, :-1], logits[0, :-1], model.dtype):
        return ""
    return "a token changes the logits of tokens before it: what it reads depends on what it has not written yet"


def padding(language_model: LanguageModel) -> str:
    """Does a row with padding before it go on as it does alone?"""
    model: Any = language_model.model
    batch = probe.padded_batch(model)
    together, written = _write(model, batch)
    unpadded = {name: rows[-1:, probe.PADDED :] for name, rows in batch.items()}
    alone, _ = _write(model, unpadded, forced=written[-1:, probe.PADDED :])
    if near(together[0][-1:], alone[0], model.dtype):
        return ""
    return "a text with padding before it is read otherwise than alone: texts of several lengths cannot share a batch"


def step_by_step(language_model: LanguageModel) -> str:
    """Are tokens that are written one by one read as in one pass?"""
    model: Any = language_model.model
    batch = probe.padded_batch(model)
    steps, written = _write(model, batch)
    whole, _ = _write(model, _longer(batch, written), 1)
    if near(steps[-1], whole[0], model.dtype):
        return ""
    return "tokens written one by one are read otherwise than in one pass: it does not keep what it has read"


def written_as_read(language_model: LanguageModel) -> str:
    """Are texts of several lengths, written together, those that the model would have written, by its own logits?"""
    model: Any = language_model.model
    prompts = [row.tolist() for row in probe.padded_batch(model)["input_ids"]]
    prompts[-1] = prompts[-1][probe.PADDED :]
    completions = write_batch.write(language_model, prompts, Sampling(N_WRITTEN))
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = torch.tensor([[*prompt, *completion.ids]], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().cpu()
        chosen = logits.log_softmax(-1)[torch.arange(len(completion.ids)), list(completion.ids)]
        apart = (torch.tensor(completion.logprobs) - chosen).abs()
        if completion.ids and apart.mean() > probe.nearly(model.dtype) * logits.std():
            return "texts that are written together are not those that it writes by its own logits"
    return ""


def patterns_while_writing(language_model: LanguageModel) -> str:
    """Are the heads of a token that is written read as in one pass, padding and windows included?"""
    model: Any = language_model.model
    batch = probe.padded_batch(model)
    with attention.record(model, outputs=True) as steps:
        _, written = _write(model, batch)
    with attention.record(model, outputs=True) as whole:
        _write(model, _longer(batch, written), 1)
    for layer in steps.patterns:
        step, at_once = (_last_query(recording, layer) for recording in (steps, whole))
        n_keys = min(step[0].shape[-1], at_once[0].shape[-1])
        if not near(step[0][..., -n_keys:], at_once[0][..., -n_keys:], model.dtype):
            return f"layer {layer}: a token that is written attends otherwise than when it is read in one pass"
        if not near(step[1], at_once[1], model.dtype):
            return f"layer {layer}: the heads of a token that is written put out other values than in one pass"
    return ""


def writes(language_model: LanguageModel) -> str:
    """Do the writes of a layer's heads sum to what its attention adds?"""
    model: Any = language_model.model
    read = _Projections(model)
    with attention.record(model, patterns=False, outputs=True) as recording, read.hooked():
        model(**probe.padded_batch(model), use_cache=False)
    for layer, projection in enumerate(architecture.output_projections(model)):
        outputs, projected = recording.outputs[layer][0][0], read.written[layer][0][0]
        if (bias := getattr(projection, "bias", None)) is not None:
            if architecture.family(model).post_norm:  # which divides the bias, too
                continue
            projected = projected - bias
        weights, scale = architecture.output_weights(model, layer), architecture.write_scale(model, layer, outputs)
        total = torch.einsum("nhc,dhc->nd", outputs.float(), weights.float()) * (1 if scale is None else scale)
        if not near(total.to(model.dtype), architecture.added(model, layer, projected)):
            return f"layer {layer}: the writes of its heads do not sum to what its attention adds"
    return ""


def patched_with_itself(language_model: LanguageModel) -> str:
    """Does a run that is patched with itself, read and written, stay as it is?"""
    model: Any = language_model.model
    batch = probe.padded_batch(model)
    rows, sizes = len(batch["input_ids"]), architecture.shape(model)
    every = torch.ones(rows, sizes.layers, sizes.heads, dtype=torch.bool)
    plain, written = _write(model, batch)
    for what in ("pattern", "output"):
        with attention_patches.patch(model, every, range(rows), what):
            patched, _ = _write(model, batch, forced=written)
        if not all(near(again, unpatched, model.dtype) for again, unpatched in zip(patched, plain, strict=True)):
            return f"a run patched with its own head {what}s goes on otherwise"
    return ""


def patched_with_another(language_model: LanguageModel) -> str:
    """Does a patch move its head in its layer, and no other there or before?"""
    model: Any = language_model.model
    sizes = architecture.shape(model)
    layers = sorted({0, sizes.layers // 2, sizes.layers - 1})[:N_PATCHED]
    chosen = [(layer, place % sizes.heads) for place, layer in enumerate(layers)]
    into, source = probe.padded_batch(model)["input_ids"]
    ids = torch.stack([into, source, *[into] * len(chosen)])
    heads = torch.zeros(len(ids), sizes.layers, sizes.heads, dtype=torch.bool)
    for row, (layer, head) in enumerate(chosen, start=2):
        heads[row, layer, head] = True
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for queries in (None, torch.zeros(ids.shape, dtype=torch.bool)):  # all, and those alone that are written
        read = _Projections(model)
        with (
            attention_patches.patch(model, heads, [0, *[1] * (len(ids) - 1)], "output", queries=queries),
            read.hooked(),
        ):
            _write(model, batch)
        for row, (layer, head) in enumerate(chosen, start=2):
            if problem := _problem_of_patch(read.read, row, Head(layer, head), sizes.heads, queries is None):
                return problem
    return ""


def _problem_of_patch(read: Sequence[Sequence[Tensor]], row: int, head: Head, n_heads: int, prompt: bool) -> str:
    """What a patched row's projections read, against its source (row 1) and the row as it was (row 0)."""
    for layer, passes in enumerate(read[: head.layer + 1]):
        for step, outputs in enumerate(passes):
            by_head = outputs.unflatten(-1, (n_heads, -1))
            patched = layer == head.layer and (prompt or step)
            if patched and not near(by_head[row, :, head.head], by_head[1, :, head.head]):
                when = "written" if step else "read"
                return f"layer {head.layer}, head {head.head}: a patch does not reach what is {when}"
            others = [number for number in range(n_heads) if not patched or number != head.head]
            if not step and not near(by_head[row][:, others], by_head[0][:, others]):
                return f"layer {head.layer}, head {head.head}: a patch moves other heads than its own, in layer {layer}"
    return ""


class _Projections:
    """What the output projections of a model read and put out, layer by layer and pass by pass."""

    def __init__(self, model: Any) -> None:
        self.projections = architecture.output_projections(model)
        self.read: list[list[Tensor]] = [[] for _ in self.projections]
        self.written: list[list[Tensor]] = [[] for _ in self.projections]

    @contextmanager
    def hooked(self) -> Iterator[None]:
        def noting(layer: int) -> Callable[[Any, tuple[Tensor, ...], Tensor], None]:
            def note(_: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
                self.read[layer].append(args[0])
                self.written[layer].append(output)

            return note

        hooks = [module.register_forward_hook(noting(layer)) for layer, module in enumerate(self.projections)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _write(
    model: Any, batch: dict[str, Int[Tensor, "b n"]], n_tokens: int = N_WRITTEN, forced: Tensor | None = None
) -> tuple[list[Float[Tensor, "b vocabulary"]], Int[Tensor, "b m"]]:
    """The logits of each token that is written, and the whole rows.

    forced: rows to be written. Without them the likeliest token is; two that are about as likely may then change places
        by rounding, and all that follows is another text.
    """
    written = write_batch.greedily(model, n_tokens, **batch, forced=forced)
    return [logits.float() for logits in written.logits], written.sequences


def _longer(batch: dict[str, Tensor], written: Tensor) -> dict[str, Int[Tensor, "b n"]]:
    """What was read when the last token was written."""
    ids = written[:, :-1]
    new = ids.shape[1] - batch["input_ids"].shape[1]
    mask = torch.cat([batch["attention_mask"], batch["attention_mask"].new_ones(len(ids), new)], 1)
    return {"input_ids": ids, "attention_mask": mask}


def _last_query(recording: Recording, layer: int) -> tuple[Float[Tensor, "b h k"], Float[Tensor, "b h c"]]:
    return recording.patterns[layer][-1][:, :, -1], recording.outputs[layer][-1][:, -1]
