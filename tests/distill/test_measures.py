"""What answers are worth, against the model's own logits."""

import pytest
import torch

from ctd.distill import measures


def test_the_teacher_knows_its_own_words_about_the_test_documents_best(experiment):
    assert len(experiment.teacher_examples) == 4
    text = experiment.language_model.tokenizer.decode(experiment.teacher_examples[0].ids)
    assert " ".join(experiment.test_documents[0].split())[:60] in text
    model = experiment.language_model.model
    teacher = measures.token_probability(model, experiment.teacher_examples)
    log_p = model(torch.tensor([experiment.teacher_examples[0].ids])).logits[0].log_softmax(-1)
    ids, n_prompt, *_ = experiment.teacher_examples[0]
    wanted = torch.stack([log_p[at - 1, ids[at]] for at in range(n_prompt, len(ids))]).mean().exp()
    assert teacher[0] == pytest.approx(wanted.item(), rel=0.02)
    student = measures.token_probability(experiment.initial_student(0), experiment.teacher_examples)
    assert (student < teacher).all()
