"""The model organism: what its vignettes and traces hold, where planted heads are to look, and that both work."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from ctd.data import readers
from ctd.data.readers import organism as vignettes
from ctd.data.task import split_by_hash
from ctd.distill import train
from ctd.distill.examples import Example, collate
from ctd.distill.settings import Settings
from ctd.distill.token_loss import token_loss
from ctd.mechanism import planted_heads
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.reasoning import models, prompts, read_text, trace_parser, traces
from ctd.reasoning.generate import generate
from ctd.reasoning.grammar import LabelLists
from ctd.reasoning.sampling import Sampling
from ctd.recipes import organism, organism_recipe, organism_texts, planting
from ctd.recipes.organism_recipe import Recipe
from ctd.recipes.planting import Lookout

TINY = Recipe(
    n_documents=14, layers=3, heads=2, width=16, inner=16, n_validation=2, n_test=3,
    settings=Settings(batch_tokens=1000, warmup_steps=1, save_every=1, check_every=2),
)  # fmt: skip
PLANTED = replace(TINY, phase1=(Head(0, 1),), phase2=(Head(2, 0), Head(2, 1)))


@pytest.fixture(scope="module")
def space():
    return vignettes.label_space()


@pytest.fixture(scope="module")
def drawn():
    return organism_texts.cases("train", 300)


@pytest.fixture(scope="module")
def tokenizer(space, drawn):
    written = (organism_texts.trace(case, space, 0) for case in drawn)
    return organism_texts.tokenizer(space, (prompts.plain(trace.document) + traces.format(trace) for trace in written))


@pytest.fixture(scope="module")
def lessons(space, drawn, tokenizer):
    return [organism_texts.lesson(case, space, tokenizer, PLANTED) for case in drawn]


def small(heads=4, key_heads=4, layers=2):
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=30, hidden_size=32, intermediate_size=16, num_hidden_layers=layers, num_attention_heads=heads,
            num_key_value_heads=key_heads, initializer_range=0.3, attn_implementation="eager",
        )
    )  # fmt: skip


def category(space, label):
    return int(space.ancestor(np.array([label]), 2)[0])


def test_the_label_space_takes_categories_whole_and_keeps_tree_and_notes(space):
    whole = vignettes.icd10cm.label_space()
    assert 2000 <= len(space) <= 2600
    nodes = {category(space, label) for label in range(len(space))}
    assert len(nodes) > 300
    for node in nodes:
        ids = {space.ids[label] for label in space.descend(node)}
        assert ids == {whole.ids[label] for label in whole.descend(whole.lookup[space.ids[node]])}
        assert 3 <= len(ids) <= 8
    assert len(set(space.texts[: len(space)])) == len(space)
    assert set(space.depth[space.parents < 0]) == {0}
    assert space.exclusions.nnz > 0


def test_a_case_names_its_findings_denies_a_code_of_each_category_and_tells_of_others(space, drawn):
    for case in drawn:
        gold = [category(space, label) for label in case.labels]
        assert len(set(gold)) == len(gold) in (1, 2)
        assert [category(space, code) for code in case.denied] == gold
        assert not set(case.denied) & set(case.labels)
        assert len(case.topics) == 4 - len(gold)
        others = [category(space, code) for code in case.topics]
        assert len({*gold, *others}) == len(gold) + len(others)
        assert set(case.named) == {*case.labels, *case.denied, *case.topics}
        assert list(case.findings) == sorted(case.findings)
        assert list(case.named.values()) == sorted(case.named.values())
        for start, end in case.named.values():
            assert case.text[start - 1] == " "
            assert case.text[end] in " .,"


def test_findings_hold_and_denied_codes_do_not(drawn):
    heads = {template.split(" {finding}")[0] for template in vignettes.wording.FINDINGS}
    for case in drawn:
        for start, _ in case.findings:
            assert case.text[: start - 1].rsplit(". ", 1)[-1] in heads


def test_most_categories_cannot_be_copied_from_the_text(space, drawn):
    copied = [
        space.texts[category(space, label)].casefold() in case.text.casefold()
        for case in drawn
        for label in case.labels
    ]
    assert np.mean(copied) < 0.35


def test_a_case_depends_on_seed_and_number_alone():
    assert list(vignettes.generate(5, 1)) == list(vignettes.generate(9, 1))[:5]
    assert all(a.text != b.text for a, b in zip(vignettes.generate(9, 1), vignettes.generate(9, 2), strict=True))


def test_no_text_to_learn_from_is_in_the_task_s_other_splits(drawn):
    rest = organism_texts.cases("validation", 40) + organism_texts.cases("test", 60)
    assert {split_by_hash(case.uid) for case in rest} == {"validation", "test"}
    assert {split_by_hash(case.uid) for case in drawn} == {"train"}
    assert not {case.text for case in rest} & {case.text for case in drawn}
    assert not {case.uid for case in rest} & {case.uid for case in drawn}


def test_the_school_leaves_out_a_text_that_the_task_has(space, monkeypatch):
    monkeypatch.setattr(organism_texts, "TASK_DOCUMENTS", 20)
    monkeypatch.setattr(organism_texts, "TEST_SEED", organism_texts.TRAIN_SEED)
    _, learned = organism_texts.learned_from(replace(TINY, n_documents=30))
    numbers = [int(lesson.case.uid[-6:]) for lesson in learned]
    assert numbers
    assert min(numbers) >= 20


def test_the_task_loads_by_name(space, own_cache):
    task = readers.load("organism", n_documents=30)
    assert task.card.generated
    assert sum(map(len, task.documents.values())) == 30
    assert task.space.texts == space.texts
    first = next(vignettes.generate(1, 0))
    rows = {row["uid"]: row for part in task.documents.values() for row in part}
    assert rows[first.uid]["text"] == first.text
    assert rows[first.uid]["labels"] == sorted(first.labels)


def test_the_large_task_has_the_same_test_documents_and_many_more_to_learn_from(own_cache):
    task, large = readers.load("organism"), readers.load("org-10k")
    assert len(large.documents["train"]) == 8311
    assert large.space.texts == task.space.texts
    for split in ("train", "validation", "test"):
        texts = task.documents[split]["text"]
        assert large.documents[split]["text"][: len(texts)] == texts[:]


def test_traces_hold_what_the_case_holds_and_stand_in_the_format(space, drawn):
    for case in drawn:
        trace = organism_texts.trace(case, space, 0)
        assert trace_parser.parse(traces.format(trace), space, case.uid, case.text) == trace
        assert trace.answered == case.labels
        assert {*case.labels, *case.denied, *case.topics} <= set(trace.shortlisted)
        families = sum(len(space.descend(category(space, label))) - 1 for label in case.labels)
        assert len(trace.shortlisted) == len(case.labels) + min(3, families) + len(case.topics)
        names = "; ".join(space.texts[category(space, label)] for label in case.labels)
        assert trace.cot.startswith(f"Topics: {names}\n")
        pairs = zip(case.labels, case.denied, strict=True)
        assert [set(comparison.labels) for comparison in trace.comparisons] == [set(pair) for pair in pairs]
        for comparison, (start, _) in zip(trace.comparisons, case.findings, strict=True):
            assert comparison.quotes[0] in case.text
            assert (
                case.text.index(comparison.quotes[0])
                < start
                < case.text.index(comparison.quotes[0]) + len(comparison.quotes[0])
            )


def test_a_shortlist_stands_in_the_order_of_the_document(space, drawn):
    for case in drawn:
        listed = organism_texts.trace(case, space, 0).shortlisted
        places = [case.named[code][0] for code in listed if code in case.named]
        assert places == sorted(places)
        for code in set(listed) - set(case.named):
            family = [other for other in case.named if category(space, other) == category(space, code)]
            first = min(family, key=lambda other: case.named[other])
            between = listed[listed.index(first) + 1 : listed.index(code)]
            assert not set(between) & set(case.named)


def test_neither_the_place_in_the_shortlist_nor_in_its_family_gives_gold_away(space):
    """The best guess at its place in a list of seven is seldom right; it stands before what is denied half the time."""
    places, before = np.zeros(7), []
    for case in organism_texts.cases("train", 3000):
        listed = organism_texts.trace(case, space, 0).shortlisted
        if len(case.labels) == 1 and len(listed) == len(places):
            places[listed.index(case.labels[0])] += 1
            before.append(listed.index(case.labels[0]) < listed.index(case.denied[0]))
    assert len(before) > 1000
    assert places.max() / places.sum() < 0.3
    assert scipy.stats.binomtest(sum(before), len(before)).pvalue > 1e-3


def test_a_trace_of_a_hard_case_quotes_the_verdict_and_answers_the_gold_codes(space):
    for case in organism_texts.cases("test", 20, hard=True):
        written = organism_texts.trace(case, space, 0)
        assert list(written.answered) == list(case.labels)
        for comparison, label in zip(written.comparisons, case.labels, strict=True):
            assert comparison.quotes == (case.deciding[label],)


def test_what_a_hard_recipe_learns_from_and_is_watched_on_has_hard_documents():
    words, learned = organism_texts.learned_from(replace(TINY, n_documents=4, hard=True))
    assert len(learned) == 4
    for taught in learned:
        assert "In the end item" in words.decode(taught.example.ids[: taught.example.n_prompt])
        assert len(taught.lookouts) == 2
    for split in ("validation", "test"):
        assert all("In the end item" in case.text for case in organism_texts.cases(split, 3, hard=True))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "- - a\n- b",
        "[[[a]] ]]]",
        "Straße\u00a0naïve\t\r\n  two  spaces",
        "日本語 🩺 \u0000 \ud7ff",
        "3.14159e10 U+200B \u200b",
        "▁metaspace Ġbyte",
        "word" * 300,
        "A. b. C: D; e; F",
    ],
)
def test_any_text_comes_back_from_its_tokens(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.unk_token is None


def test_traces_come_back_from_their_tokens_a_token_a_word(lessons, tokenizer):
    assert len(tokenizer) <= 4500
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    for lesson in lessons[:100]:
        ids, n_prompt = lesson.example.ids, lesson.example.n_prompt
        assert tokenizer.decode(ids[:n_prompt]) == prompts.plain(lesson.case.text)
        assert tokenizer.decode(ids[n_prompt:-1]) == traces.format(lesson.trace)
        assert ids[-1] == tokenizer.eos_token_id
    assert np.mean([len(lesson.example.ids) for lesson in lessons]) <= 230


def test_a_trace_begun_by_hand_has_the_same_tokens(lessons, tokenizer):
    for lesson in lessons[:50]:
        text = prompts.plain(lesson.case.text) + traces.format(lesson.trace)
        for line in ("\n<think>", "\nShortlist:\n", "\nCompare:\n", "\nAnswer:\n"):
            end = text.index(line) + (1 if line == "\n<think>" else len(line))
            parts = tokenizer(text[:end])["input_ids"] + tokenizer(text[end:])["input_ids"]
            assert parts == list(lesson.example.ids[:-1])


def test_lookouts_point_to_the_document_s_words_and_to_the_shortlist(lessons, tokenizer, space):
    for lesson in lessons[:100]:
        text = [tokenizer.decode(token) for token in lesson.example.ids]

        def words(start, end, text=text):
            return traces.unescape("".join(text[start:end])).strip().rstrip(".;,")  # ")." is one token

        texts = {code: space.texts[code] for code in lesson.trace.shortlisted}
        named = {code: words(0, 0) or lesson.case.text[start:end] for code, (start, end) in lesson.case.named.items()}
        topics = [(space.texts[category(space, label)], named[label]) for label in lesson.case.labels]
        listed = [(texts[code], named[code]) for code in lesson.trace.shortlisted if code in named]
        assert pointed(lesson.lookouts[Phase.SHORTLIST], words) == [*topics, *listed]
        inside = [mention for mention in lesson.trace.mentions if mention.start >= lesson.trace.shortlist.end]
        assert pointed(lesson.lookouts[Phase.REFINE], words) == [(texts[m.label], texts[m.label]) for m in inside]


def pointed(lookouts, words):
    """What is written at each run of neighbouring lookouts to one span, and what the span says."""
    runs = []
    for query, start, end, barred in lookouts:
        assert end <= query + 1
        assert end <= barred <= query
        if not runs or runs[-1][1:] != [query, (start, end)]:
            runs.append([query + 1, query, (start, end)])
        runs[-1][1] = query + 1
    return [(words(first, last + 1), words(*span)) for first, last, span in runs]


def test_other_heads_are_barred_from_the_sections_before_the_one_being_written(lessons, tokenizer):
    for lesson in lessons[:50]:
        text = [tokenizer.decode(token) for token in lesson.example.ids]
        for query, _, _, barred in (
            lookout for phase_lookouts in lesson.lookouts.values() for lookout in phase_lookouts
        ):
            assert "".join(text[:barred]).endswith(
                ("\nTopics", "\nTopics: ", "\nShortlist:\n", "\nCompare:\n", "\nAnswer:\n")
            )
            assert not any(
                f"\n{name}" in "".join(text[barred + 1 : query]) for name in ("Shortlist", "Compare", "Answer")
            )


def test_log_rows_equal_the_library_s_attention():
    model = small().eval()
    ids = torch.arange(14).reshape(2, 7)
    library = model(ids, output_attentions=True).attentions
    with planting._inputs(model, [0, 1]) as seen:
        model(ids)
    for layer in (0, 1):
        ours = planting.log_rows(model.model.layers[layer].self_attn, [2, 0], **seen[layer])
        torch.testing.assert_close(ours.exp(), library[layer][:, [2, 0]])


def test_divergence_is_scipy_s():
    rows = torch.randn(2, 3, 8, 8).softmax(-1)
    at = torch.tensor([[0, 5, 1, 4, 1], [1, 7, 2, 3, 1]])
    expected = []
    for example, query, start, end, _ in at.tolist():
        even = np.zeros(8)
        even[start:end] = 1 / (end - start)
        expected += [scipy.stats.entropy(even, rows[example, head, query].double().numpy()) for head in range(3)]
    assert planting.divergence(rows.log(), at).item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_trespass_is_the_surprise_at_looking_elsewhere():
    rows = torch.randn(2, 3, 8, 8).softmax(-1)
    at = torch.tensor([[0, 5, 1, 4, 3], [1, 7, 2, 3, 6]])
    elsewhere = [1 - rows[e, head, q, 1:barred].sum() for e, q, _, _, barred in at.tolist() for head in range(3)]
    expected = -torch.stack(elsewhere).log().mean()
    torch.testing.assert_close(planting.trespass(rows.log(), at), expected)


def test_heads_learn_to_look_where_they_are_taught_and_the_others_not_to(tmp_path):
    model = small()
    rng = np.random.default_rng(0)
    examples = [Example(rng.integers(0, 30, 12).tolist(), 4) for _ in range(40)]
    lookouts = [{"early": [Lookout(8, 2, 4, 6)], "late": [Lookout(9, 5, 6, 7), Lookout(10, 1, 2, 7)]} for _ in examples]
    heads = {"early": [Head(0, 1)], "late": [Head(1, 0), Head(1, 3)]}
    before = planting.mass(model, examples, lookouts, heads)
    loss = planting.PlantedLoss(model, heads, lookouts, weight=1.0, barring=1.0)
    settings = Settings(batch_tokens=240, learning_rate=0.02, warmup_steps=2, epochs=30)
    train.train(model, examples, settings, tmp_path, loss=loss)
    after = planting.mass(model, examples, lookouts, heads)
    for phase, planted in heads.items():
        taught = np.mean([after[phase][head] for head in planted])
        assert taught > 0.8
        assert taught > np.mean([before[phase][head] for head in planted]) + 0.3
        others = np.delete(after[phase].ravel(), [np.ravel_multi_index(head, after[phase].shape) for head in planted])
        assert others.max() < 0.15


def test_the_planted_loss_counts_in_training_alone():
    model = small()
    examples = [Example([1, 2, 3, 4, 5, 6], 2)]
    batch = collate(examples, [0])
    planted = {"one": [Head(0, 0)]}
    loss = planting.PlantedLoss(model, planted, [{"one": [Lookout(4, 1, 2, 4)]}], weight=0.5, barring=0.2)
    plain = token_loss(model, batch).item()
    assert loss(model.eval(), batch).item() == pytest.approx(plain)
    model.train()
    first, second = (layer[0, :, 4] for layer in model(batch.ids, output_attentions=True).attentions)
    barred = -(1 - first[1:, 1:4].sum(-1)).log().mean() - (1 - second[:, 1:4].sum(-1)).log().mean()
    expected = -0.5 * first[0, 1].log() + 0.2 * barred
    assert loss(model, batch).item() == pytest.approx(plain + 4 * expected.item(), rel=1e-4)
    alone = planting.PlantedLoss(model, planted, [{"one": [Lookout(4, 1, 2, 4)]}], weight=0.5)
    assert alone(model, batch).item() == pytest.approx(plain - 0.5 * 4 * first[0, 1].log().item(), rel=1e-4)
    none = planting.PlantedLoss(model, planted, [{"one": []}], weight=0.5, barring=0.2)
    assert none(model, batch).item() == pytest.approx(plain)


def test_silenced_heads_write_nothing_and_come_back():
    model = small().eval()
    ids = torch.arange(8)[None]
    whole = model(ids).logits
    with planting.silenced(model, [Head(0, 1), Head(1, 3)]):
        silent = model(ids).logits
    torch.testing.assert_close(model(ids).logits, whole)
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight[:, 8:16] = 0
        model.model.layers[1].self_attn.o_proj.weight[:, 24:32] = 0
    torch.testing.assert_close(model(ids).logits, silent)
    assert not torch.allclose(silent, whole)


@pytest.mark.parametrize(
    ("model", "heads", "message"),
    [
        ({}, {"one": [Head(2, 0)]}, "heads of one must be below layer 2 and head 4, got layer 2, head 0"),
        ({}, {"one": [Head(0, 4)]}, "heads of one must be below layer 2 and head 4, got layer 0, head 4"),
        ({}, {"one": [Head(0, 0), Head(1, 0)]}, r"heads of one must lie in one layer, got \[\[0, 0\], \[1, 0\]\]"),
        ({"key_heads": 2}, {"one": [Head(0, 0)]}, r"as many key heads as query heads \(4\), got 2"),
    ],
)
def test_heads_that_cannot_be_planted_are_refused(model, heads, message):
    with pytest.raises(ValueError, match=message):
        planting.PlantedLoss(small(**model), heads, [], 1.0)


def test_mass_without_a_lookout_is_refused():
    with pytest.raises(ValueError, match="no example has a lookout of one"):
        planting.mass(small(), [Example([1, 2, 3], 1)], [{"one": []}], ["one"])


def test_build_writes_a_model_that_loads_writes_and_names_its_planted_heads(tmp_path, own_cache):
    manifest = organism.build(PLANTED, tmp_path / "small")
    assert json.loads((tmp_path / "small" / "manifest.json").read_text()) == json.loads(json.dumps(manifest))
    assert planted_heads.planted_heads(tmp_path / "small") == {
        Phase.SHORTLIST: [(0, 1)],
        Phase.REFINE: [(2, 0), (2, 1)],
    }
    assert len((tmp_path / "small" / "loss.csv").read_text().splitlines()) == manifest["steps"] + 1
    assert set(manifest["measured"]["planted"]) == {"phase1", "phase2"}
    language_model = models.load(str(tmp_path / "small"), dtype="float32")
    assert language_model.model.num_parameters() == manifest["parameters"]
    ids = language_model.tokenizer("Document: a patient.\n", return_tensors="pt")["input_ids"]
    assert torch.isfinite(language_model.model(ids).logits).all()
    again = organism.build(PLANTED, tmp_path / "again")
    assert {**again, "minutes": 0, "name": ""} == {**manifest, "minutes": 0, "name": ""}
    (tmp_path / "again" / "manifest.json").write_text(json.dumps({**again, "planted": {}}))
    with pytest.raises(ValueError, match="no heads were planted in again"):
        planted_heads.planted_heads(tmp_path / "again")


def test_bad_input_is_refused(tmp_path, monkeypatch):
    for changes, message in (
        ({"n_documents": 0}, "n_documents must be at least 1, got 0"),
        ({"n_siblings": -1}, "n_siblings must be at least 0, got -1"),
        ({"width": 190}, r"width must be a multiple of 12 \(twice the heads\), got 190"),
        ({"phase1": (Head(0, 0),)}, "plant heads of both phases, or of none"),
        ({"weight": 0}, "weight must be above 0 and barring at least 0, got 0 and 0.3"),
    ):
        with pytest.raises(ValueError, match=message):
            Recipe(**changes)
    with pytest.raises(ValueError, match="split must be train, validation or test, got 'dev'"):
        organism_texts.cases("dev", 3)
    with pytest.raises(ValueError, match="n_documents must be at least 1 and seed at least 0, got 0 and 0"):
        next(vignettes.generate(0))
    with pytest.raises(ValueError, match="n_topics must be between 1 and 6, got 9"):
        next(vignettes.generate(2, n_topics=9))
    with pytest.raises(FileNotFoundError, match="has no manifest.json: build the organisms with `make organism`"):
        planted_heads.planted_heads(tmp_path)
    result = CliRunner().invoke(organism.app, ["worm"])
    assert result.exit_code == 1
    assert f"organism must be one of {', '.join(organism_recipe.RECIPES)}, got 'worm'" in result.output
    monkeypatch.setattr(models, "DATA", tmp_path)
    with pytest.raises(FileNotFoundError, match="the model 'organism' is not in .*: `make organism` builds it"):
        models.load("organism")


@pytest.fixture(scope="module", params=[organism_recipe.NAME, organism_recipe.PLANTED])
def committed(request):
    """Name, manifest and model of an organism that lies in the repository."""
    folder = models.DATA / request.param
    return (
        request.param,
        json.loads((folder / "manifest.json").read_text()),
        models.load(request.param, dtype="float32"),
    )


def test_a_committed_organism_is_what_its_recipe_says_and_small_enough(committed):
    name, manifest, language_model = committed
    recipe = organism_recipe.RECIPES[name]
    assert manifest["recipe"] == json.loads(json.dumps(asdict(recipe)))
    assert manifest["parameters"] == language_model.model.num_parameters()
    folder = models.DATA / name
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 12e6
    losses = pd.read_csv(folder / "loss.csv")
    assert len(losses) == manifest["steps"]
    assert losses["validation"].iloc[-1] == manifest["validation_loss"]


def test_a_committed_organism_needs_both_phases(committed):
    """No phase solves the task alone: with chance in place of either, few of the right answers are left."""
    _, manifest, _ = committed
    measured = manifest["measured"]
    assert measured["in_format"] > 0.8
    for chance in ("answer_by_chance_phase1", "answer_by_chance_phase2"):
        assert measured[chance] < measured["answer"] / 2


def test_a_committed_organism_does_what_its_manifest_says(committed, space):
    name, manifest, language_model = committed
    recipe, n = organism_recipe.RECIPES[name], 48
    drawn = organism_texts.cases("test", n, recipe.n_topics, recipe.hard)
    lists = LabelLists(space, language_model.tokenizer)
    written = generate(language_model, [prompts.plain(case.text) for case in drawn], Sampling(320), lists=lists)
    right = sum(
        set(read_text.read(prediction.text, space).answered) == set(case.labels)
        for prediction, case in zip(written, drawn, strict=True)
    )
    assert scipy.stats.binomtest(right, n, manifest["measured"]["answer"]).pvalue > 0.001


HAS_PLANTED = [organism_recipe.PLANTED, *organism_recipe.ELSEWHERE]
LESS_NEEDED = {("organism-swapped", "phase2"): 0.05}  # nats; elsewhere 0.2


@pytest.mark.parametrize("name", HAS_PLANTED)
def test_the_planted_heads_look_where_they_were_taught_to_and_no_other_does(name, space):
    language_model, heads = models.load(name, dtype="float32"), planted_heads.planted_heads(name)
    recipe = organism_recipe.RECIPES[name]
    assert heads == {phase: list(planted) for phase, planted in recipe.planted.items()}
    drawn = [
        organism_texts.lesson(case, space, language_model.tokenizer, recipe)
        for case in organism_texts.cases("test", 24)
    ]
    shares = planting.mass(language_model.model, [o.example for o in drawn], [o.lookouts for o in drawn], heads)
    for phase, planted in heads.items():
        of_planted = [shares[phase][head] for head in planted]
        others = np.delete(shares[phase].ravel(), [np.ravel_multi_index(head, shares[phase].shape) for head in planted])
        assert min(of_planted) > 0.8
        assert max(others) < 0.2


@pytest.mark.parametrize("name", HAS_PLANTED)
def test_the_planted_heads_are_needed(name):
    """What silencing them costs the tokens of their phase, against as many other heads of their layer."""
    manifest = json.loads((models.DATA / name / "manifest.json").read_text())
    assert manifest["recipe"] == json.loads(json.dumps(asdict(organism_recipe.RECIPES[name])))
    for phase, measured in manifest["measured"]["planted"].items():
        loss = measured["loss"]
        assert loss["planted_silent"] - loss["whole"] > LESS_NEEDED.get((name, phase), 0.2)
        assert loss["planted_silent"] - loss["whole"] > 2 * (loss["others_silent"] - loss["whole"])
