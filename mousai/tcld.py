"""Stage 2, text-conditioned latent diffusion: caption -> z (Section 3.2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mousai.config import TCLDConfig
from mousai.diffusion import ddim, diffusion_loss, gaussian_like, guidance
from mousai.shapes import Embedding, Latent, Level, to_stride
from mousai.unet import UNet


class TCLD(nn.Module):
    """Stage 2. `forward` is the training loss on latents of one chunk; `sample` draws latents.

    `null_embedding` [64, features] is learned and stands for "no text". `window` is the training crop in latent steps.
    Latents are divided by `latent_std`, measured in training, so that they vary as much as the noise (ours).
    """

    latent_std: Tensor

    def __init__(self, config: TCLDConfig, window: int):
        super().__init__()
        self.config = config
        self.window = window
        self.unet = UNet(config.unet)
        self.null_embedding = nn.Parameter(torch.randn(config.text.tokens, config.text.features))
        self.register_buffer("latent_std", torch.ones(()))

    def forward(self, z: Latent, embedding: Embedding, generator: torch.Generator) -> Float[Tensor, ""]:
        """Training loss on latents z [batch, 32, window] with the embeddings of their captions.

        With probability 0.1 the null embedding replaces an item's text, which trains the prediction without text.
        """
        masked = torch.rand(len(z), generator=generator) < self.config.mask_share
        embedding = torch.where(masked[:, None, None].to(z.device), self.null_embedding, embedding)
        x_0 = z / self.latent_std
        eps = gaussian_like(x_0, generator)
        sigma = torch.rand(len(z), generator=generator).to(z)
        return diffusion_loss(lambda x, s: self.unet(x, s, embedding=embedding), x_0, eps, sigma).mean()

    def velocity(self, x: Latent, sigma: Level, embedding: Embedding, scale: float) -> Latent:
        """v_hat with classifier-free guidance; at scale 1 the prediction without text is not needed.

        Both predictions come from one batch; with `paper_exact.guidance` from two network evaluations.
        """
        if scale == 1:
            return self.unet(x, sigma, embedding=embedding)
        null = self.null_embedding.expand_as(embedding)
        if self.config.unet.paper_exact.guidance:
            v_uncond = self.unet(x, sigma, embedding=null)
            v_cond = self.unet(x, sigma, embedding=embedding)
        else:
            both = self.unet(x.repeat(2, 1, 1), sigma.repeat(2), embedding=torch.cat([null, embedding]))
            v_uncond, v_cond = both.chunk(2)
        return guidance(v_uncond, v_cond, scale)

    @torch.no_grad()
    def sample(self, embedding: Embedding, length: int, steps: int, scale: float, generator: torch.Generator) -> Latent:
        """Embeddings [n, 64, features] -> z [n, 32, length] by DDIM, in one pass over the whole length.

        Where `length` is not a multiple of the U-Net's stride, more is sampled and cut; with
        `paper_exact.lengths` ValueError is raised.
        """
        padded = to_stride(length, self.config.unet.stride, self.config.unet.paper_exact.lengths)
        eps = gaussian_like(embedding.new_empty(len(embedding), self.config.unet.in_channels, padded), generator)
        x_0 = ddim(lambda x, sigma: self.velocity(x, sigma, embedding, scale), eps, steps)
        return self.latent_std * x_0[..., :length]

    def null(self, n: int) -> Embedding:
        """The null embedding [n, 64, features], to pass as the embedding for samples without text."""
        return self.null_embedding.detach().expand(n, -1, -1)
