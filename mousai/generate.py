"""Equation (2) for one window: prompt -> embedding -> z -> w.

Any length, other samplers, editing and speed are in `mousai.inference`.
"""

from collections.abc import Callable

import torch

from mousai.dmae import DMAE
from mousai.shapes import Embedding, Wave
from mousai.tcld import TCLD

TextToEmbedding = Callable[[list[str]], Embedding]  # `text.TextEncoder`


@torch.no_grad()
def generate(
    prompts: list[str],
    text_encoder: TextToEmbedding,
    tcld: TCLD,
    dmae: DMAE,
    steps: int = 100,
    guidance: float = 5.0,
    seed: int = 0,
) -> Wave:
    """One waveform per prompt, [n, 2, window * 1024]: 43.7 s at the paper's size. The same seed gives the same sound.

    Both stages take `steps` steps of DDIM. Raises ValueError for an empty prompt or one that is too long.
    """
    generator = torch.Generator().manual_seed(seed)
    embedding = text_encoder(prompts)  # [n, 64, 768], once for all steps
    z = tcld.sample(embedding, tcld.window, steps, guidance, generator)  # [n, 32, 2048]
    return dmae.decode(z, steps, generator)  # [n, 2, 2048 * 1024]
