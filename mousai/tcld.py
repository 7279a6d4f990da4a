"""Stage 2, text-conditioned latent diffusion: caption -> z (Section 3.2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mousai.diffusion import Net, Sampler, blended, diffusion_loss, gaussian_like, guidance, sample
from mousai.profiles import TCLDConfig
from mousai.shapes import Embedding, Latent, Level
from mousai.unet import UNet, to_stride


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

    def velocity(self, x: Latent, sigma: Level, embedding: Embedding, scale: float) -> Latent:
        """Guided v_hat; scale 1 needs no second branch."""
        return self.guided(embedding, scale)(x, sigma)

    def guided(self, embedding: Embedding, scale: float) -> Net:
        """The net that hears this text, read once for all steps.

        Both branches go through the net in one batched call; with `paper_exact.guidance` in two, as the authors do it.
        """
        if scale == 1:
            heard = self.unet.hear(embedding)
            return lambda x, sigma: self.unet(x, sigma, embedding=heard)
        null = self.null_embedding.expand_as(embedding)
        if self.config.unet.paper_exact.guidance:
            unet, nothing, text = self.unet, self.unet.hear(null), self.unet.hear(embedding)
            return lambda x, sigma: guidance(unet(x, sigma, embedding=nothing), unet(x, sigma, embedding=text), scale)
        both = self.unet.hear(torch.cat([null, embedding]))

        def net(x: Tensor, sigma: Tensor) -> Tensor:
            v_uncond, v_cond = self.unet(x.repeat(2, 1, 1), sigma.repeat(2), embedding=both).chunk(2)
            return guidance(v_uncond, v_cond, scale)

        return net

    @torch.no_grad()
    def sample(
        self,
        embedding: Embedding,
        length: int,
        steps: int,
        scale: float,
        generator: torch.Generator,
        progress: str | None = None,
        sampler: Sampler = sample,
    ) -> Latent:
        """Embeddings [n, 64, features] -> z [n, 32, length]. Longer than the training window, windows are blended.

        With `paper_exact.lengths`, ValueError where the length does not divide by the U-Net's stride.
        """
        padded = to_stride(length, self.config.unet.stride, self.config.unet.paper_exact.lengths)
        eps = torch.randn(len(embedding), self.config.unet.in_channels, padded, generator=generator).to(embedding)

        guided = self.guided(embedding, scale)

        def net(x: Tensor, sigma: Tensor) -> Tensor:
            predict = lambda part, a, b: guided(part, sigma)  # noqa: E731
            return blended(predict, x, self.window, 3 * self.window // 4)

        return (self.latent_std * sampler(net, eps, steps, progress))[..., :length]

    def null(self, n: int) -> Embedding:
        """The learned embedding n times: what to pass for unconditional samples."""
        return self.null_embedding.detach().expand(n, -1, -1)
