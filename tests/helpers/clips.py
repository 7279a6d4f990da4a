"""Made-up clips and a made-up text encoder."""

import torch

from mousai.evaluation import samples


def clip_set(waves: torch.Tensor, genres: list[str]) -> samples.ClipSet:
    prompts = [samples.Prompt(genre, i % 4 + 1, f"Tune {i}", "1 0") for i, genre in enumerate(genres)]
    return samples.ClipSet("test", prompts, lambda i: waves[i], {})


def no_words(texts: list[str]) -> torch.Tensor:
    """The same states for every text [n, 64, 384]."""
    return torch.ones(len(texts), 64, 384)
