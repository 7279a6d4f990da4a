"""The sizes and settings of the small profiles, `smoke` and `cpu`, and of the preflight of `a100`.

`A100`, the paper, is in `mousai.config`. A profile writes down only where it departs from the defaults there, and why.
"""

from dataclasses import replace

from mousai.config import (
    A100,
    GENRES,
    DataConfig,
    EvaluationConfig,
    Profile,
    SampleConfig,
    TCLDConfig,
    TextConfig,
    TrainConfig,
)
from mousai.small.config import SmallDMAEConfig, SmallEncoderConfig, SmallUNetConfig

__all__ = ["A100", "A100_REHEARSAL", "CPU", "GENRES", "PROFILES", "REHEARSAL", "SMOKE", "get_profile"]

REHEARSAL = "REHEARSAL"  # in the names of files that a preflight makes or uses, and nothing else

# fmt: off
# The paper's method at a size for a laptop. Sizes are ours; departures have their reasons in `mousai.small.config`.
CPU = Profile(
    name="cpu", data=DataConfig(pieces=400, piece_samples=2**21),
    dmae=SmallDMAEConfig(
        crop=2**16, octaves=((64, 1), (32, 2), (32, 4), (224, 8)),  # 12 Hz bands below 750 Hz to 94 Hz above 3 kHz
        unet=SmallUNetConfig(
            in_channels=128, channels=(128, 128), factors=(1, 2), items=(2, 1), attentions=(0, 0),
            cross_attentions=(0, 0), inject_depth=0, inject_channels=128, features=256, skip_start=0.5,
        ),
        encoder=SmallEncoderConfig(channels=224, blocks=(1, 2), log_floor=1e-3, pca_start=True),
        wave_scale=40.0, preemphasis=0.97, head_width=192, encoder_pretrain_steps=2400, magnitude_contrast=1.14,
        phase_share=0.1, refinement_steps=2,
    ),
    tcld=TCLDConfig(
        crop=2**19, text=TextConfig(encoder="minilm", features=384, paper_exact=False), title_drop=0.9,
        unet=SmallUNetConfig(
            in_channels=32, channels=(128, 192, 256, 256, 256), factors=(1, 2, 2, 2, 2), items=(1, 1, 1, 2, 2),
            attentions=(0, 0, 1, 1, 1), cross_attentions=(1,) * 5, heads=4, embedding_features=384, features=256,
            skip_start=0.5,
        ),
    ),
    dmae_train=TrainConfig(
        steps=6000, notebook_steps=40, batch=8, lr=2.5e-3, betas=(0.9, 0.99), eps=1e-8, ema_beta=0.998, warmup=100,
        decay=True, schedule_restart=2400, encoder_lr_scale=0.1, max_grad_norm=1.0, precision="auto",
    ),
    tcld_train=TrainConfig(
        steps=5000, notebook_steps=300, notebook_pieces=80, batch=8, lr=5e-4, eps=1e-8, warmup=100, decay=True,
        max_grad_norm=1.0, precision="auto",
    ),
    sampling=SampleConfig(tcld_steps=20, dmae_steps=8, guidance=3.0, sampler="multistep", dmae_precision="auto"),
    evaluation=EvaluationConfig(
        reconstructions=40, reconstructed_chunks=20, real_clips=120, structure_samples=40, repeats=3, study_steps=20,
        attention_steps=24, in_domain_steps=800, solver_clips=8, reference_steps=50,
    ),
)

# For the tests, in minutes: every line of code runs; the sound is not expected to be music.
SMOKE = replace(
    CPU, name="smoke",
    data=DataConfig(pieces=20, piece_samples=2**19, valid_share=0.2, test_share=0.2),
    dmae=replace(
        CPU.dmae, crop=2**15, octaves=((32, 1), (16, 2), (48, 4)), octave_units=256, head_width=32,
        encoder_pretrain_steps=4, unet=replace(CPU.dmae.unet, channels=(32, 32), items=(1, 1), features=64),
        encoder=replace(CPU.dmae.encoder, channels=32, blocks=(1, 1)),
    ),
    tcld=replace(
        CPU.tcld, crop=2**17,
        unet=replace(
            CPU.tcld.unet, channels=(32,) * 3, factors=(1, 2, 2), items=(1,) * 3, attentions=(0, 0, 1),
            cross_attentions=(1,) * 3, heads=2, head_features=16, features=64,
        ),
    ),
    dmae_train=TrainConfig(steps=60, notebook_steps=8, batch=2, lr=1e-3, encoder_lr_scale=0.1, max_grad_norm=1.0),
    tcld_train=TrainConfig(steps=60, notebook_steps=8, batch=4, lr=1e-3),
    sampling=SampleConfig(tcld_steps=3, dmae_steps=3, guidance=3.0, dmae_precision="auto"),
    evaluation=EvaluationConfig(
        prompts_per_genre=2, reconstructions=4, reconstructed_chunks=4, real_clips=12, structure_samples=8, repeats=2,
        study_steps=6, attention_steps=4, in_domain_steps=20, solver_clips=4, reference_steps=6,
    ),
)

# The preflight of a100: its networks, lengths and data formats, but one training step and few items, through the last
# notebook. A wrong shape, parameter or path is then found before a machine is paid for. Its results mean nothing.
A100_REHEARSAL = replace(
    A100, name="a100-rehearsal",
    data=replace(A100.data, pieces=12),  # one of each genre in each split
    tcld=replace(A100.tcld, text=replace(A100.tcld.text, encoder=f"{REHEARSAL}/t5-base")),  # random weights
    dmae_train=replace(A100.dmae_train, steps=1, notebook_steps=3, batch=1),  # 3, because a notebook compares thirds
    tcld_train=replace(A100.tcld_train, steps=1, notebook_steps=3, batch=1),
    # notebook 05 tests guidance by itself
    sampling=replace(A100.sampling, tcld_steps=1, dmae_steps=1, guidance=1.0, dmae_precision="fast"),
    evaluation=EvaluationConfig(
        prompts_per_genre=2, reconstructions=4, reconstructed_chunks=4, real_clips=8, structure_samples=8, repeats=2,
        study_steps=3, attention_steps=1, in_domain_steps=3, solver_clips=3, reference_steps=1,
    ),
)
# fmt: on

PROFILES = {profile.name: profile for profile in (SMOKE, CPU, A100, A100_REHEARSAL)}


def get_profile(name: str) -> Profile:
    """The profile of that name. Raises ValueError that lists the known names."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
