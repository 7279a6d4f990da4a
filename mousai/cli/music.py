"""Commands that make music, and stage 1 alone as a codec: `mousai generate | encode | decode`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mousai.cli.arguments import (
    COUNT,
    EXAMPLE,
    PROMPT,
    SCALE,
    SECONDS,
    SEED,
    SEEDS,
    SHARE,
    SOUND,
    TIME,
    WEIGHTS,
    Device,
    Missing,
    Precision,
    Profile,
    Sampler,
    Weights,
    alone,
    edited,
    number,
)
from mousai.cli.offline import offline

ALONE = "alone; by default --sampler's or the profile's."
LOUDNESS = partial(number, kind=float, low=-70, high=0)
STEPS_AFTER = partial(number, kind=int, low=0, high=1000)
Loudness = Annotated[
    float | None, typer.Option(parser=LOUDNESS, metavar="LUFS", help="Loudness of the whole file, for example -14.")
]
Refinement = Annotated[
    int | None,
    typer.Option(parser=STEPS_AFTER, metavar="N", help="Griffin-Lim steps after stage 1; 0 is diffusion alone."),
]


def generate(
    context: typer.Context,
    prompts: Annotated[
        list[str] | None, typer.Argument(parser=PROMPT, metavar="PROMPT", help=f"For example {EXAMPLE!r}.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(parser=SECONDS, metavar="S", help="Length, up to 3600; by default 20 for new music.")
    ] = None,
    seed: Annotated[str, typer.Option(parser=SEEDS, metavar="N,N", help="The same seed, the same sound.")] = "0",
    out: Annotated[
        Path, typer.Option(parser=SOUND, metavar="FILE", help="WAV, FLAC or OGG; several become FILE-0, FILE-1 ...")
    ] = Path("out.wav"),
    profile: Profile = "cpu",
    negative: Annotated[
        str, typer.Option("--negative-prompt", metavar="TEXT", help="What the music should not be.")
    ] = "",
    init_audio: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Make a variation of this sound.")
    ] = None,
    noise_level: Annotated[
        float | None,
        typer.Option(parser=SHARE, metavar="L", help="How far from --init-audio or --inpaint: 0 keeps it, 1 forgets."),
    ] = None,
    onward: Annotated[
        Path | None,
        typer.Option(
            "--continue",
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Continue this sound; --seconds counts both.",
        ),
    ] = None,
    inpaint: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Replace parts of this sound:")
    ] = None,
    start: Annotated[
        list[float] | None, typer.Option("--from", parser=TIME, metavar="S", help="where a part begins, in seconds;")
    ] = None,
    end: Annotated[
        list[float] | None, typer.Option("--to", parser=TIME, metavar="S", help="where it ends; one for each --from.")
    ] = None,
    again: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Make FILE again from its tags.")
    ] = None,
    tcld_steps: Annotated[int | None, typer.Option(parser=COUNT, metavar="N", help="Sampler steps, stage 2.")] = None,
    dmae_steps: Annotated[int | None, typer.Option(parser=COUNT, metavar="N", help="Sampler steps, stage 1.")] = None,
    refinement_steps: Refinement = None,
    guidance: Annotated[
        float | None, typer.Option(parser=SCALE, metavar="S", help="Guidance scale; 1 is no guidance.")
    ] = None,
    interval: Annotated[
        tuple[float, float],
        typer.Option("--guidance-interval", metavar="LOW HIGH", help="Guide only between these noise levels."),
    ] = (0.0, 1.0),
    rescale: Annotated[
        float | None,
        typer.Option(
            "--guidance-rescale",
            parser=SHARE,
            metavar="R",
            help="0 is off, 1 keeps the level; by default 1 with a negative prompt, else 0.",
        ),
    ] = None,
    sampler: Annotated[
        Sampler | None, typer.Option(metavar="NAME", help="Sampler of both stages: ddim, multistep or heun.")
    ] = None,
    loudness: Loudness = None,
    tcld_sampler: Annotated[Sampler | None, typer.Option(metavar="NAME", help=f"Sampler of stage 2 {ALONE}")] = None,
    dmae_sampler: Annotated[Sampler | None, typer.Option(metavar="NAME", help=f"Sampler of stage 1 {ALONE}")] = None,
    precision: Precision = None,
    weights: Weights = None,
    device: Device = "",
) -> None:
    """Write music for each PROMPT and seed. 48 kHz stereo of the given length, with its settings in the file's tags."""
    task, file = edited(init_audio, onward, inpaint, noise_level, (start or [], end or []), seconds)
    if again:
        alone(context, "again", "out", "device", "weights")
    elif not prompts:
        raise Missing(f"Missing argument 'PROMPT': say what to play, for example {EXAMPLE!r}")
    offline(profile)
    from mousai.inference import commands
    from mousai.inference.sampling import guidance_for, sampling_for
    from mousai.small.profiles import get_profile

    if again:
        return commands.generate_again(again, out, device, weights)
    seeds = [int(one) for one in seed.split(",")]
    outputs = commands.numbered(out, len(prompts or []) * len(seeds))
    commands.refuse_overwriting(outputs, file)
    source, w = commands.source_audio(task, file, noise_level, [*zip(start or [], end or [], strict=True)])
    seconds = commands.planned_seconds(source, w, seconds, loudness)
    sizes = get_profile(profile)
    scale = sizes.sampling.guidance if guidance is None else guidance
    sampling = sampling_for(
        sizes,
        guidance_for(scale, negative, interval, rescale),
        (tcld_sampler or sampler, dmae_sampler or sampler),
        negative,
        precision,
        tcld_steps=tcld_steps,
        dmae_steps=dmae_steps,
        refinement_steps=refinement_steps,
    )
    music = commands.load(profile, device, sampling, weights)
    shared = commands.shared_metadata(music, sampling, seconds, source, loudness)
    commands.generate(music, prompts or [], seeds, shared, w, outputs)


def encode(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="A sound.")],
    out: Annotated[Path, typer.Option(parser=WEIGHTS, metavar="FILE", help="Where z goes.")] = Path("z.safetensors"),
    profile: Profile = "cpu",
    weights: Weights = None,
    device: Device = "",
) -> None:
    """Encode a sound with stage 1. Its latent holds 64 times fewer numbers."""
    offline(profile)
    from mousai.inference import commands

    commands.encode(file, out, profile, device, weights)


def decode(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="What `encode` wrote.")],
    out: Annotated[Path, typer.Option(parser=SOUND, metavar="FILE", help="WAV, FLAC or OGG.")] = Path("out.wav"),
    steps: Annotated[int | None, typer.Option(parser=COUNT, metavar="N", help="Sampler steps.")] = None,
    refinement_steps: Refinement = None,
    seed: Annotated[int, typer.Option(parser=SEED, metavar="N", help="The same seed, the same sound.")] = 0,
    sampler: Annotated[Sampler | None, typer.Option(metavar="NAME", help="ddim, multistep or heun.")] = None,
    loudness: Loudness = None,
    precision: Precision = None,
    weights: Weights = None,
    device: Device = "",
) -> None:
    """Decode a latent to sound with stage 1."""
    from mousai.inference import commands

    changes = {"dmae_steps": steps, "refinement_steps": refinement_steps, "sampler": sampler, "precision": precision}
    commands.decode(file, out, changes, seed, loudness, device, weights)
