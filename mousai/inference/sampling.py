"""How both stages sample: all settings travel as one object."""

from dataclasses import dataclass

from mousai.config import Profile
from mousai.inference.samplers import Guidance

NEGATIVE_RESCALE = 1.0  # of guidance, where there is a negative prompt and nothing else is said


@dataclass(frozen=True)
class Sampling:
    """Steps and sampler of each stage, guidance, negative prompt, precision.

    Samplers are names in `SAMPLERS`. `negative_prompt`: what guidance leads away from, in place of the null embedding.
    `precision`: "float32", "auto" (bfloat16 where the hardware has it), "fast" (bfloat16 where it is measured to be
    faster), None for that of the profile.
    Raises ValueError for a negative prompt at a guidance scale of 1, where it has no influence.
    """

    tcld_steps: int
    dmae_steps: int
    tcld_sampler: str
    dmae_sampler: str
    guidance: Guidance
    negative_prompt: str = ""
    precision: str | None = None

    def __post_init__(self):
        if self.negative_prompt and self.guidance.scale == 1:
            raise ValueError(
                f"guidance is 1, so the negative prompt {self.negative_prompt[:40]!r} has no influence: "
                "choose another, 3 for example"
            )


def guidance_for(
    scale: float, negative_prompt: str = "", interval: tuple[float, float] = (0.0, 1.0), rescale: float | None = None
) -> Guidance:
    """Guidance at that scale; without `rescale` it is rescaled where there is a negative prompt.

    A negative prompt lies farther from the prompt than the null embedding, and else changes the level by many dB.
    """
    if rescale is None:
        rescale = NEGATIVE_RESCALE if negative_prompt else 0.0
    return Guidance(scale, *interval, rescale)


def sampling_for(
    profile: Profile,
    tcld_steps: int | None = None,
    dmae_steps: int | None = None,
    guidance: float | Guidance | None = None,
    sampler: str | tuple[str | None, str | None] | None = None,
    negative_prompt: str = "",
    precision: str | None = None,
) -> Sampling:
    """How to sample; what is None is the profile's.

    `sampler`: one for both stages, or stage 2's and stage 1's. `guidance`: a scale, as for `guidance_for`, or all of
    it. Raises ValueError as `Sampling`.
    """
    defaults = profile.sampling
    if guidance is None:
        guidance = defaults.guidance
    if not isinstance(guidance, Guidance):
        guidance = guidance_for(guidance, negative_prompt)
    tcld_sampler, dmae_sampler = sampler if isinstance(sampler, tuple) else (sampler, sampler)
    return Sampling(
        tcld_steps=defaults.tcld_steps if tcld_steps is None else tcld_steps,
        dmae_steps=defaults.dmae_steps if dmae_steps is None else dmae_steps,
        tcld_sampler=tcld_sampler or defaults.sampler,
        dmae_sampler=dmae_sampler or defaults.sampler,
        guidance=guidance,
        negative_prompt=negative_prompt,
        precision=precision,
    )
