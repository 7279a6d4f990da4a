"""Whether a text is short enough for a text encoder; only its tokenizer is loaded."""

from mousai.config import TextConfig
from mousai.data.records import Fits
from mousai.minilm import load_tokenizer


def fits_encoder(config: TextConfig) -> Fits:
    """A function: text -> whether it has at most `config.tokens` tokens.

    Raises FileNotFoundError where the tokenizer is not on this machine.
    """
    if config.encoder == "minilm":
        tokenizer = load_tokenizer()
    else:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(config.encoder, local_files_only=True)
        except OSError as error:
            raise FileNotFoundError(f"text encoder {config.encoder!r} is not in the local cache") from error

    def fits(text: str) -> bool:
        return len(tokenizer([text])["input_ids"][0]) <= config.tokens

    return fits
