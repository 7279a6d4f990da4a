"""Text -> embedding by a frozen encoder: T5-base as in the paper, or MiniLM from a pip package, with one interface."""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from mousai.config import TextConfig
from mousai.minilm import load_minilm
from mousai.shapes import Embedding


class TextEncoder(nn.Module):
    """Prompts -> embeddings [n, tokens, features]; nothing in it is trained."""

    def __init__(self, config: TextConfig, tokenizer, model: nn.Module):
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, texts: list[str]) -> Embedding:
        """Prompts -> [n, tokens, features]. Raises ValueError for an empty prompt or one of more than `tokens` tokens.

        With `paper_exact` prompts are padded to `tokens` and the states of padding are passed on, as in the authors'
        code; else the vectors of padding are zeros, which cross-attention masks.
        """
        check_texts(texts)
        self.check_lengths(texts)
        exact = self.config.paper_exact
        batch = self.tokenizer(
            texts, return_tensors="pt", padding="max_length" if exact else "longest", max_length=self.config.tokens
        )
        mask, device = batch["attention_mask"], next(self.model.parameters()).device
        states = self.model(batch["input_ids"].to(device), attention_mask=mask.to(device)).last_hidden_state
        if exact:
            return states
        return F.pad(states * mask[..., None].to(states), (0, 0, 0, self.config.tokens - states.shape[1]))

    def check_lengths(self, texts: list[str]) -> None:
        """Raise ValueError for a prompt of more than `tokens` tokens, instead of cutting it off."""
        for text, ids in zip(texts, self.tokenizer(texts)["input_ids"], strict=True):
            if len(ids) > self.config.tokens:
                raise ValueError(
                    f"prompt has {len(ids)} tokens, at most {self.config.tokens} fit: shorten {text[:40]!r}..."
                )


def check_texts(texts: list[str]) -> None:
    """Raise ValueError for an empty list, an empty prompt, or lone surrogates (from bytes that are not UTF-8)."""
    if not texts or not all(text.strip() for text in texts):
        raise ValueError("a prompt is empty: say what to play, for example 'Metal, 1883, 2 of 4'")
    for text in texts:
        if text.encode(errors="replace").decode() != text:
            raise ValueError(f"prompt {text[:40]!a} is not text: write it in UTF-8")


def load_text_encoder(config: TextConfig, device: torch.device | str = "cpu") -> TextEncoder:
    """The encoder that the profile names, from local files only; nothing is downloaded.

    Raises FileNotFoundError that says what to fetch where T5, or the folder that `config.encoder` names, is missing.
    """
    if config.encoder == "minilm":
        tokenizer, model = load_minilm()
        return TextEncoder(config, tokenizer, model).to(device)
    from transformers import AutoTokenizer, T5EncoderModel  # seconds to import
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.encoder, local_files_only=True)
        model = T5EncoderModel.from_pretrained(config.encoder, local_files_only=True)
    except OSError as error:
        name = config.encoder
        mend = "put its files there" if Path(name).is_absolute() else f"fetch it once, `hf download {name}`"
        if name.startswith("REHEARSAL/"):
            mend = "the preflight makes it, `mousai reproduce --profile a100 --rehearse`"
        raise FileNotFoundError(f"text encoder {name!r} is not in the local cache: {mend}") from error
    return TextEncoder(config, tokenizer, model).to(device)
