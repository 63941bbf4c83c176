"""A new packaged model is one entry in the registry: it loads as a model and as a teacher, and says what builds it."""

import json

import peft
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from ctd.reasoning import teachers
from ctd.reasoning.generate import generate
from ctd.reasoning.models import PACKAGED, Packaged, load
from ctd.reasoning.sampling import Sampling


def build(folder):
    """A stranger's model: two random layers over forty words, and the manifest of how it was trained."""
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<end>": 1} | {f"w{i}": i for i in range(2, 40)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<end>").save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "manifest.json").write_text(json.dumps({"name": "pocket", "recipe": {"document_tokens": 12}}))


def tune(base, folder):
    """A random adapter for it."""
    torch.manual_seed(1)
    settings = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(folder)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The folder data/, with the stranger's two models in it and in the registry."""
    monkeypatch.setattr("ctd.reasoning.models.DATA", tmp_path)
    build(tmp_path / "pocket")
    tune(tmp_path / "pocket", tmp_path / "pocket-tuned")
    monkeypatch.setitem(PACKAGED, "pocket", Packaged("pocket", dtype="float32", mend="make pocket"))
    tuned = Packaged("pocket-tuned", base="pocket", dtype="bfloat16", mend="make pocket-tuned")
    monkeypatch.setitem(PACKAGED, "pocket-tuned", tuned)
    return tmp_path


@pytest.mark.usefixtures("data", "own_cache")
def test_a_strangers_model_is_a_teacher_that_writes():
    teacher = teachers.load("pocket")
    assert (teacher.language_model.name, teacher.tuned, teacher.document_tokens) == ("pocket", True, 12)
    assert teacher.language_model.model.dtype == torch.float32
    [completion] = generate(teacher.language_model, ["w3 w4"], Sampling(5))
    assert completion.text


def test_a_strangers_model_has_the_key_of_its_folder_wherever_that_lies(data):
    assert load("pocket").key == load(str(data / "pocket"), dtype="float32").key


def test_a_strangers_adapter_is_merged_into_its_base(data):
    tuned, by_hand = load("pocket-tuned"), load("pocket", adapter=data / "pocket-tuned", dtype="bfloat16")
    assert (tuned.name, tuned.key, tuned.model.dtype) == ("pocket-tuned", by_hand.key, torch.bfloat16)
    assert tuned.key != load("pocket", dtype="bfloat16").key
    ids = torch.tensor([[3, 7, 1]])
    assert torch.equal(tuned.model(ids).logits, by_hand.model(ids).logits)
    with pytest.raises(ValueError, match="pocket-tuned is pocket with an adapter of its own: load pocket with yours"):
        load("pocket-tuned", adapter=data / "pocket-tuned")


def test_a_strangers_model_that_is_missing_says_what_builds_it(data):
    (data / "pocket").rename(data / "elsewhere")
    for name in ("pocket", "pocket-tuned"):
        with pytest.raises(FileNotFoundError, match="the model 'pocket' is not in .*: `make pocket` builds it"):
            teachers.load(name)
