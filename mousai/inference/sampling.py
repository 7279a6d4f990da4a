"""How both stages are sampled: all settings in one object (ours)."""

from dataclasses import dataclass, replace

from mousai.config import Profile
from mousai.inference.checks import shown, whole
from mousai.inference.samplers import Guidance, get_sampler

PRECISIONS = ("float32", "auto", "fast")
MOST_STEPS = 10**9
NEGATIVE_RESCALE = 1.0  # default of `Guidance.rescale` where there is a negative prompt


@dataclass(frozen=True)
class Sampling:
    """Steps, sampler and precision of each stage, guidance, negative prompt.

    Samplers are names in `SAMPLERS`. `negative_prompt`: a text to guide away from, in place of the null embedding.
    Precision is "float32", "auto" (bfloat16 where the hardware has it) or "fast" (where it is measured to be faster).
    Raises ValueError for a setting that is none, and for a negative prompt at a guidance scale of 1, where it has no
    influence.
    """

    tcld_steps: int
    dmae_steps: int
    tcld_sampler: str
    dmae_sampler: str
    guidance: Guidance
    negative_prompt: str = ""
    tcld_precision: str = "float32"
    dmae_precision: str = "float32"
    refinement_steps: int = 0  # of Griffin-Lim after stage 1's diffusion; small profiles only

    def __post_init__(self):
        whole("refinement_steps", self.refinement_steps, 0, MOST_STEPS)
        for stage in ("tcld", "dmae"):
            whole(f"{stage}_steps", getattr(self, f"{stage}_steps"), 1, MOST_STEPS)
            get_sampler(getattr(self, f"{stage}_sampler"))
            precision = getattr(self, f"{stage}_precision")
            if precision not in PRECISIONS:
                raise ValueError(f"{stage}_precision is {shown(precision)}: choose one of {', '.join(PRECISIONS)}")
        if not isinstance(self.negative_prompt, str):
            raise ValueError(f"negative_prompt is {shown(self.negative_prompt)}: give a text")
        if self.negative_prompt and self.guidance.scale == 1:
            raise ValueError(
                f"guidance is 1, so the negative prompt {self.negative_prompt[:40]!r} has no influence: "
                "choose another, 3 for example"
            )


def guidance_for(
    scale: float, negative_prompt: str = "", interval: tuple[float, float] = (0.0, 1.0), rescale: float | None = None
) -> Guidance:
    """Guidance at that scale, between the noise levels of `interval`.

    With a negative prompt it is rescaled per channel, fully unless `rescale` is given, because a negative prompt is
    farther from the prompt than the null embedding is, and would change the loudness by many dB.
    """
    if rescale is None:
        rescale = NEGATIVE_RESCALE if negative_prompt else 0.0
    return Guidance(scale, *interval, rescale, per_channel=bool(negative_prompt))


def sampling_for(
    profile: Profile,
    guidance: float | Guidance | None = None,
    sampler: str | tuple[str | None, str | None] | None = None,
    negative_prompt: str = "",
    precision: str | None = None,
    **counts: int | None,
) -> Sampling:
    """The profile's settings with changes; None keeps the profile's.

    `sampler`: one for both stages, or (stage 2's, stage 1's). `guidance`: a scale, which `guidance_for` completes, or a
    `Guidance`. `precision`: of both stages. `counts`: tcld_steps, dmae_steps, refinement_steps. Raises ValueError as
    `Sampling`.
    """
    defaults = profile.sampling
    if guidance is None:
        guidance = defaults.guidance
    if not isinstance(guidance, Guidance):
        guidance = guidance_for(guidance, negative_prompt)
    tcld_sampler, dmae_sampler = sampler if isinstance(sampler, tuple) else (sampler, sampler)
    sampling = Sampling(
        tcld_steps=defaults.tcld_steps,
        dmae_steps=defaults.dmae_steps,
        tcld_sampler=tcld_sampler or defaults.sampler,
        dmae_sampler=dmae_sampler or defaults.sampler,
        guidance=guidance,
        negative_prompt=negative_prompt,
        tcld_precision=precision or defaults.tcld_precision,
        dmae_precision=precision or defaults.dmae_precision,
        refinement_steps=getattr(profile.dmae, "refinement_steps", 0),
    )
    return replace(sampling, **{name: count for name, count in counts.items() if count is not None})
