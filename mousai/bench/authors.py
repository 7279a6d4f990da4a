"""The paper's two stages built from the authors' packages, as a reference for the tests and for `mousai bench`.

Nothing else imports this file, because the packages come only with `pip install -e ".[dev]"`.
"""

from audio_diffusion_pytorch import DiffusionAE, DiffusionModel, LTPlugin, UNetV0, VDiffusion, VSampler
from audio_encoders_pytorch import ME1d, TanhBottleneck

from mousai.config import DMAEConfig, TCLDConfig, UNetConfig


def unet_arguments(config: UNetConfig) -> dict:
    """The keyword arguments for the U-Net, which both of their models take."""
    return {
        "channels": list(config.channels),
        "factors": list(config.factors),
        "items": list(config.items),
        "attentions": list(config.attentions),
        "attention_heads": config.heads,
        "attention_features": config.head_features,
        "resnet_groups": config.groups,
        "modulation_features": config.features,
        "diffusion_t": VDiffusion,
        "sampler_t": VSampler,
    }


def authors_encoder(config: DMAEConfig, use_log: bool = False) -> ME1d:
    """Their magnitude encoder; `use_log` is an option of theirs that the paper does not use."""
    return ME1d(
        in_channels=2,
        channels=config.encoder.channels,
        multipliers=[1] * (len(config.encoder.factors) + 1),
        factors=list(config.encoder.factors),
        num_blocks=list(config.encoder.blocks),
        stft_num_fft=config.n_fft,
        stft_hop_length=config.hop,
        out_channels=config.encoder.latent_channels,
        bottleneck=TanhBottleneck(),
        use_log=use_log,
    )


def authors_dmae(config: DMAEConfig) -> DiffusionAE:
    """Their stage 1, put together as the paper's parameter count and the published weights' names imply."""
    front = LTPlugin(UNetV0, num_filters=config.patch_channels // 2, window_length=config.patch, stride=config.patch)
    return DiffusionAE(
        net_t=front,
        dim=1,
        in_channels=2,
        encoder=authors_encoder(config),  # type: ignore  # as in their examples; their type hint is of a base class
        inject_depth=config.unet.inject_depth,  # type: ignore
        **unet_arguments(config.unet),
    )


def authors_tcld(config: TCLDConfig, use_text_conditioning: bool = False) -> DiffusionModel:
    """Their stage 2. It takes text as embeddings, or with `use_text_conditioning` as prompts for its own T5."""
    return DiffusionModel(
        net_t=UNetV0,
        in_channels=config.unet.in_channels,
        cross_attentions=list(config.unet.cross_attentions),
        use_embedding_cfg=True,
        use_text_conditioning=use_text_conditioning,
        embedding_max_length=config.text.tokens,
        embedding_features=config.text.features,
        **unet_arguments(config.unet),
    )
