"""Ablations, one change at a time (ours): the profiles of short runs that show what each part of a network adds."""

from dataclasses import replace

from mousai.config import EncoderConfig, Profile
from mousai.small.config import SmallDMAEConfig
from mousai.small.profiles import CPU
from mousai.training.setup import shortened

RATES = (0.2, 5.0)  # multiples of the profile's learning rate


def variants(profile: Profile) -> dict[str, Profile]:
    """Name -> profile of a short run; the first is the profile itself, with a narrower net and shorter crops.

    Nothing is refined after sampling, so that differences come from the net. A profile whose stage 1 is the paper's,
    such as `a100`, varies that of `cpu`.
    """
    chosen = profile.dmae if isinstance(profile.dmae, SmallDMAEConfig) else CPU.dmae
    assert isinstance(chosen, SmallDMAEConfig)
    unet = replace(chosen.unet, channels=tuple(width // 32 * 8 for width in chosen.unet.channels))
    base = replace(chosen, crop=chosen.crop // 2, refinement_steps=0, unet=unet)
    rows = {"as the profile": base} | changes(base)
    named = {name: short(profile, dmae) for name, dmae in rows.items()}
    return named | {f"learning rate x {rate:g}": short(profile, base, rate) for rate in RATES}


def changes(base: SmallDMAEConfig) -> dict[str, SmallDMAEConfig]:
    """Name -> `base` with one change; only the last, patches in place of bands, needs a net of another shape."""
    fresh = replace(base.encoder, pca_start=False)

    def encoder(config: EncoderConfig) -> SmallDMAEConfig:
        return replace(base, encoder=config)

    return {
        "level of the waveform: raw": replace(base, wave_scale=1.0),
        "no pre-emphasis": replace(base, preemphasis=0.0),
        "no PCA start": encoder(fresh),
        "no PCA start, linear magnitude": encoder(replace(fresh, log_floor=None)),
        "patches, trained together": in_patches(base),
    }


def in_patches(base: SmallDMAEConfig) -> SmallDMAEConfig:
    """Stage 1 with the paper's front end, patches of 64 samples without overlap, and five depths below it."""
    unet = replace(
        base.unet, in_channels=128, channels=(max(base.unet.channels),) * 5, factors=(1, 2, 2, 2, 2), items=(1,) * 5,
        attentions=(0,) * 5, cross_attentions=(0,) * 5, inject_depth=4, inject_channels=base.encoder.latent_channels,
    )  # fmt: skip
    return replace(base, octaves=None, patch=64, patch_channels=128, unet=unet)


def short(profile: Profile, dmae: SmallDMAEConfig, rate: float = 1.0) -> Profile:
    """The profile with this stage 1, for a run of `study_steps`. rate: multiple of the learning rate."""
    train = replace(profile.dmae_train, lr=rate * profile.dmae_train.lr, batch=min(4, profile.dmae_train.batch))
    return shortened(replace(profile, dmae=dmae, dmae_train=train), profile.evaluation.study_steps)


def with_and_without_attention(profile: Profile) -> dict[str, Profile]:
    """Two narrow nets of stage 2 that differ in self-attention alone.

    They are trained without text, because text could make both ends of a clip agree in another way.
    """
    unet = profile.tcld.unet
    thin = replace(unet, channels=tuple(width // 2 for width in unet.channels))
    without = replace(thin, attentions=(0,) * len(thin.channels))
    nets = {"attention": thin, "no_attention": without}
    return {name: replace(profile, tcld=replace(profile.tcld, mask_share=1.0, unet=net)) for name, net in nets.items()}
