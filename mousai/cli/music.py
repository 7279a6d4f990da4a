"""Commands that make music, and the codec by itself: `mousai generate | encode | decode`."""

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
    Numerics,
    Profile,
    Sampler,
    Solver,
    alone,
    edited,
)
from mousai.cli.offline import offline


def generate(
    context: typer.Context,
    prompts: Annotated[
        list[str] | None, typer.Argument(parser=PROMPT, metavar="PROMPT", help=f"For example {EXAMPLE!r}.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(parser=SECONDS, metavar="S", help="Length, up to 3600; 20 of new music.")
    ] = None,
    seed: Annotated[str, typer.Option(parser=SEEDS, metavar="N,N", help="The same seed, the same sound.")] = "0",
    out: Annotated[
        Path, typer.Option(parser=SOUND, metavar="FILE", help="WAV, FLAC or OGG; of several FILE-0, FILE-1 ...")
    ] = Path("out.wav"),
    profile: Profile = "cpu",
    negative: Annotated[str, typer.Option("--negative-prompt", metavar="TEXT", help="What to lead away from.")] = "",
    init_audio: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Begin from this sound.")
    ] = None,
    noise_level: Annotated[
        float | None, typer.Option(parser=SHARE, metavar="L", help="How far from it: 0, as it is, to 1, forgotten.")
    ] = None,
    onward: Annotated[
        Path | None,
        typer.Option("--continue", exists=True, dir_okay=False, metavar="FILE", help="Go on; --seconds in all."),
    ] = None,
    inpaint: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Make parts of it anew:")
    ] = None,
    start: Annotated[
        list[float] | None, typer.Option("--from", parser=TIME, metavar="S", help="second a part begins;")
    ] = None,
    end: Annotated[
        list[float] | None, typer.Option("--to", parser=TIME, metavar="S", help="second it ends; as often as --from.")
    ] = None,
    again: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Make FILE again, by its tags.")
    ] = None,
    tcld_steps: Annotated[int | None, typer.Option(parser=COUNT, metavar="N", help="Sampler steps, stage 2.")] = None,
    dmae_steps: Annotated[int | None, typer.Option(parser=COUNT, metavar="N", help="Sampler steps, stage 1.")] = None,
    guidance: Annotated[float | None, typer.Option(parser=SCALE, metavar="S", help="1 is none.")] = None,
    interval: Annotated[
        tuple[float, float], typer.Option("--guidance-interval", metavar="LOW HIGH", help="Noise levels it is for.")
    ] = (0.0, 1.0),
    rescale: Annotated[
        float, typer.Option("--guidance-rescale", parser=SHARE, metavar="R", help="0, off, to 1: keeps loudness.")
    ] = 0.0,
    sampler: Annotated[Sampler | None, typer.Option(metavar="NAME", help="ddim, multistep or heun.")] = None,
    tcld_sampler: Solver = None,
    dmae_sampler: Solver = None,
    numerics: Numerics = None,
    device: Device = "",
) -> None:
    """Write music for each PROMPT and seed: 48 kHz stereo, exactly that long, its settings in the file's tags."""
    task, file = edited(init_audio, onward, inpaint, noise_level, (start or [], end or []), seconds)
    if again:
        alone(context, "again", "out", "device")
    elif not prompts:
        raise typer.BadParameter(f"Missing argument 'PROMPT': say what to play, for example {EXAMPLE!r}")
    offline(profile)
    from mousai.diffusion import Guidance
    from mousai.inference import commands as making
    from mousai.inference.pipeline import Mousai

    if again:
        return making.again(again, out, device)
    source, w = making.source_of(task, file, noise_level, [*zip(start or [], end or [], strict=True)])
    music = Mousai.load(profile, device or None, numerics)
    scale = music.profile.sampling.guidance if guidance is None else guidance
    solvers = (tcld_sampler or sampler, dmae_sampler or sampler)
    how = music.sampling(tcld_steps, dmae_steps, Guidance(scale, *interval, rescale), solvers, negative)
    making.make(music, prompts or [], seconds, [*map(int, seed.split(","))], how, numerics, source, w, out)


def encode(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="A sound.")],
    out: Annotated[Path, typer.Option(parser=WEIGHTS, metavar="FILE", help="Where z goes.")] = Path("z.safetensors"),
    profile: Profile = "cpu",
    device: Device = "",
) -> None:
    """Stage 1's first half: a sound to its latent, 64 times fewer numbers."""
    offline(profile)
    from mousai.inference import commands as making

    making.encode(file, out, profile, device)


def decode(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="What `encode` wrote.")],
    out: Annotated[Path, typer.Option(parser=SOUND, metavar="FILE", help="WAV, FLAC or OGG.")] = Path("out.wav"),
    steps: Annotated[int | None, typer.Option(parser=COUNT, metavar="N", help="Sampler steps.")] = None,
    seed: Annotated[int, typer.Option(parser=SEED, metavar="N", help="The same seed, the same sound.")] = 0,
    sampler: Annotated[Sampler | None, typer.Option(metavar="NAME", help="ddim, multistep or heun.")] = None,
    numerics: Numerics = None,
    device: Device = "",
) -> None:
    """Stage 1's second half: a latent to sound."""
    from mousai.inference import commands as making

    making.decode(file, out, steps, seed, sampler, numerics, device)
