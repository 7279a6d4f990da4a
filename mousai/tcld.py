"""Stage 2, text-conditioned latent diffusion: caption -> z (Section 3.2)."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mousai.config import TCLDConfig
from mousai.diffusion import Guidance, Net, Sampler, ddim, diffusion_loss, gaussian_like, guidance, levels, rescaled
from mousai.inference.precision import autocast
from mousai.inference.windows import Given, Span, sample_in_pieces, window_starts
from mousai.shapes import Embedding, Latent, Level, to_stride
from mousai.unet import Levels, UNet

TOGETHER = 5 * 2**9  # latent steps that go through the net at once: all windows of 43.7 s where they are small
Away = Float[Tensor, "1 tokens embedding_features"]  # a text to be led away from, the same for all of a batch


class TCLD(nn.Module):
    """Stage 2. `forward` is the training loss on latents of one chunk; `sample` makes latents of any length.

    `null_embedding` [64, features] is learned and stands for "no text". `latent_std` is measured on the training
    latents and divides them, so that signal and noise are of a size (ours; the authors' code does not).
    """

    latent_std: Tensor

    def __init__(self, config: TCLDConfig, window: int):
        super().__init__()
        self.config, self.window = config, window
        self.unet = UNet(config.unet)
        self.null_embedding = nn.Parameter(torch.randn(config.text.tokens, config.text.features))
        self.register_buffer("latent_std", torch.ones(()))

    def forward(
        self, z: Latent, embedding: Embedding, generator: torch.Generator, step: int = 10**9
    ) -> Float[Tensor, ""]:
        """Training loss on latents z [batch, 32, window] with their captions' embeddings.

        With probability 0.1 the learned embedding replaces an item's text: that trains the unconditional net alongside.
        """
        masked = torch.rand(len(z), generator=generator) < self.config.mask_share
        embedding = torch.where(masked[:, None, None].to(z.device), self.null_embedding, embedding)
        x_0 = z / self.latent_std
        eps, sigma = gaussian_like(x_0, generator), torch.rand(len(z), generator=generator).to(z)
        return diffusion_loss(lambda x, s: self.unet(x, s, embedding=embedding), x_0, eps, sigma).mean()

    def velocity(self, x: Latent, sigma: Level, embedding: Embedding, scale: float | Guidance) -> Latent:
        """Guided v_hat; scale 1 needs no second branch."""
        return self.guided(embedding, scale)(x, sigma)

    def guided(
        self,
        embedding: Embedding,
        scale: float | Guidance,
        told: Levels | None = None,
        negative: Away | None = None,
    ) -> Net:
        """The net that hears this text, read once for all steps, as what `told` says is from `UNet.tell`.

        `negative`, [1, 64, features], is what guidance leads away from, in place of no text (common practice).
        Both branches go through the net in one batched call; with `paper_exact.guidance` in two, as the authors do it.
        """
        how = scale if isinstance(scale, Guidance) else Guidance(scale)
        if how.scale == 1:
            return self.hearing(embedding, told)
        both = self.branches(embedding, told, negative)
        plain = None if (how.low, how.high) == (0, 1) else self.hearing(embedding, told)

        def net(x: Tensor, sigma: Tensor) -> Tensor:
            if plain is not None and not how.low <= sigma[0] <= how.high:
                return plain(x, sigma)
            v_uncond, v_cond = both(x, sigma)
            v_hat = guidance(v_uncond, v_cond, how.scale)
            return rescaled(v_hat, v_cond, how.rescale) if how.rescale else v_hat

        return net

    def hearing(self, embedding: Embedding, told: Levels | None) -> Net:
        """The net that hears this and nothing else."""
        heard = self.unet.hear(embedding)
        return lambda x, sigma: self.unet(x, sigma, None, heard, told)

    def branches(
        self, embedding: Embedding, told: Levels | None, negative: Away | None = None
    ) -> Callable[[Latent, Level], tuple[Latent, ...]]:
        """(x, sigma) -> v_hat without text, or with the negative one, and with it."""
        null = (self.null_embedding if negative is None else negative).expand_as(embedding)
        if self.config.unet.paper_exact.guidance:
            nothing, text = self.hearing(null, told), self.hearing(embedding, told)
            return lambda x, sigma: (nothing(x, sigma), text(x, sigma))
        both = self.hearing(torch.cat([null, embedding]), told)
        return lambda x, sigma: both(x.repeat(2, 1, 1), sigma.repeat(2)).chunk(2)

    @torch.no_grad()
    def sample(
        self,
        embedding: Embedding | Sequence[Embedding],
        length: int,
        steps: int,
        scale: float | Guidance,
        generator: torch.Generator,
        progress: str | None = None,
        sampler: Sampler = ddim,
        negative: Away | None = None,
        given: Given | None = None,
    ) -> Latent:
        """Embeddings [n, 64, features] -> z [n, 32, length]. Longer than the training window, windows are blended.

        One embedding for all windows, or the parts of a piece in order, "1 of n" to "n of n": each window hears the one
        that `part_heard` says. `given`: of z / latent_std, to the next multiple of the stride, its steps those of its
        level. With `paper_exact.lengths`, ValueError where the length does not divide by the stride.
        """
        padded = to_stride(length, self.config.unet.stride, self.config.unet.paper_exact.lengths)
        parts, hop = [embedding] if isinstance(embedding, Tensor) else embedding, 3 * self.window // 4
        eps = torch.randn(len(parts[0]), self.config.unet.in_channels, padded, generator=generator).to(parts[0])
        starts = window_starts(padded, self.window, hop)
        noise = lambda a, b: eps[..., a:b]  # noqa: E731
        with autocast(self.config.precision, eps.device):  # around all steps: weights are cast once
            told = self.unet.tell(levels(steps, given.level if given else 1.0).to(eps))

            @lru_cache(2)  # neighbours hear the same; of five windows it is 18 MB each
            def net(heard: tuple[int, ...]) -> Net:
                return self.guided(torch.cat([parts[part] for part in heard]), scale, told, negative)

            def predict(x: Latent, sigma: Level, spans: Sequence[Span]) -> Latent:
                return net(tuple(part_heard(starts.index(a), len(starts), len(parts)) for a, _ in spans))(x, sigma)

            windows = self.window, hop, progress, given, max(1, TOGETHER // (len(eps) * self.window))
            pieces = sample_in_pieces(predict, noise, padded, steps, sampler, *windows)
            return (self.latent_std * torch.cat([*pieces], dim=-1))[..., :length]

    def null(self, n: int) -> Embedding:
        """The learned embedding n times: what to pass for unconditional samples."""
        return self.null_embedding.detach().expand(n, -1, -1)


def part_heard(window: int, windows: int, parts: int) -> int:
    """Which of `parts` the window hears, counted from 0: the first window the beginning, the last one the ending, those
    between them the middle parts in turn, each as long.
    """
    if window == 0 or parts < 3:
        return 0 if 2 * window < windows else parts - 1
    if window == windows - 1:
        return parts - 1
    return 1 + (window - 1) * (parts - 2) // (windows - 2)
