"""Commands about weights: `mousai train | import-weights | fetch`, and what they cost: `mousai bench | plan`."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from mousai.cli.arguments import (
    COUNT,
    EFFICIENCY,
    FEW,
    LARGE,
    RESULT,
    WEIGHTS,
    Device,
    Gpu,
    Profile,
    Rivals,
    Weights,
    writable,
)
from mousai.cli.offline import offline


def train(
    model: Annotated[
        Literal["dmae", "tcld", "in-domain"], typer.Argument(metavar="MODEL", help="dmae, tcld or in-domain.")
    ],
    profile: Profile = "cpu",
    steps: Annotated[
        int | None,
        typer.Option(parser=COUNT, metavar="N", help="Training steps; by default the profile's, or the resumed run's."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=WEIGHTS, metavar="FILE", help="Weights; the run is kept beside them, in a folder of the same name."
        ),
    ] = None,
    ship: Annotated[
        bool, typer.Option("--ship", help="Replace the weights that come with the package, which `generate` uses.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that stopped; dmae and tcld.")] = False,
    start: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Start from these weights; dmae and tcld."),
    ] = None,
    weights: Weights = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Less memory, a quarter more work; dmae and tcld.")
    ] = False,
    device: Device = "",
) -> None:
    """Train stage 1, stage 2 or the model that scores music.

    dmae is stage 1, tcld is stage 2 on top of the trained stage 1, in-domain is the model that scores the music.
    """
    given = {"--start": start, "--resume": resume, "--checkpointing": checkpointing}
    for name, value in given.items():
        if value and model == "in-domain":
            raise typer.BadParameter(f"'{name}' is for dmae and tcld, in-domain trains in minutes: leave it out")
    if weights and model != "tcld":
        raise typer.BadParameter("'--weights' is for tcld, the folder of its stage 1: leave it out")
    offline(profile)
    from mousai.data.dataset import workspace
    from mousai.small.profiles import get_profile
    from mousai.small.stages import weights_path
    from mousai.training.command import summary, train_stage
    from mousai.training.resume import Run
    from mousai.training.setup import with_training

    chosen = with_training(get_profile(profile), checkpointing=checkpointing or None)
    space = workspace(chosen, os.environ, device)
    folder = out.with_suffix("") if out else space.runs / "training" / f"{profile}-{model}"
    name = model.replace("-", "_")
    path = out or folder / f"{name}.safetensors"
    if ship:
        if os.environ.get("MOUSAI_WEIGHTS"):
            raise typer.BadParameter("'--ship' replaces the package's weights: unset MOUSAI_WEIGHTS first")
        path = weights_path(chosen, name)
        writable(path.parent)
    if model != "in-domain":
        history = train_stage(space, model, path, Run(folder, resume, start), steps, weights)
    elif os.environ.get("RANK", "0") == "0":  # it is small, so that only one of several processes trains it
        from mousai.evaluation.in_domain import train_in_domain

        _, history = train_in_domain(space, steps, path)
    else:
        history = None
    if history is not None:
        print(summary(path, history))


def import_weights(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="A state dict of the authors' packages.")
    ],
    out: Annotated[Path, typer.Option(parser=writable, metavar="DIR", help="Where dmae or tcld.safetensors goes.")],
    profile: Profile = "a100",
) -> None:
    """Convert weights of the authors' packages to ours. Code in the file is never run."""
    from mousai.interop.authors import import_weights as run
    from mousai.small.profiles import get_profile
    from mousai.small.stages import weights_path

    path, card = run(file, out, get_profile(profile))
    place = weights_path(get_profile(profile), card["model"])
    loaded = "now loads them" if path.resolve() == place else f"loads what is in {place.parent}: use that as --out"
    print(f"{path}: {card['parameters']:,} parameters; --profile {profile} {loaded}")


def fetch(
    model: Annotated[Literal["dmae"], typer.Argument(metavar="MODEL", help="dmae, the authors' stage 1.")],
    out: Annotated[
        Path | None,
        typer.Option(parser=writable, metavar="DIR", help="Where dmae.safetensors goes; by default runs/published."),
    ] = None,
) -> None:
    """Download the authors' published stage 1. About 740 MB, for `--profile a100 --weights DIR`; no code is run."""
    from mousai.files import runs_dir
    from mousai.interop.published import fetch_dmae
    from mousai.small.profiles import get_profile

    path, card = fetch_dmae(out or runs_dir() / "published", get_profile("a100"))
    print(f"{path}: {card['parameters']:,} parameters, of a file of sha256 {card['source_sha256']}")
    print(f"mousai encode FILE --profile a100 --weights {shlex.quote(str(path.parent))}")


def plan(
    profile: Profile = "a100",
    gpu: Annotated[Gpu, typer.Option(metavar="NAME", help="a100-40gb, a100-80gb or h100-80gb.")] = "a100-80gb",
    batch: Annotated[
        int | None, typer.Option(parser=COUNT, metavar="N", help="Items per step; by default the profile's.")
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(metavar="NAME", help="float32 or bfloat16; by default the profile's."),
    ] = None,
    efficiency: Annotated[
        float,
        typer.Option(
            parser=EFFICIENCY, metavar="SHARE", help="Share of the peak TFLOP/s that is reached; an assumption."
        ),
    ] = 0.4,
    hours: Annotated[
        float | None,
        typer.Option(
            parser=LARGE, metavar="H", help="Hours of music on the disk; by default the profile's; the paper has 2500."
        ),
    ] = None,
    memory: Annotated[
        float | None, typer.Option("--memory-gb", parser=LARGE, metavar="GB", help="Memory of another GPU.")
    ] = None,
    tflops: Annotated[float | None, typer.Option(parser=LARGE, metavar="N", help="Peak of another GPU.")] = None,
) -> None:
    """Estimate memory, days and disk that training takes. Also the largest batch and operations; no GPU is needed."""
    from mousai.bench import plan as planned
    from mousai.small.profiles import get_profile
    from mousai.training.setup import with_training

    kind = {"float32": "float32", "bfloat16": "auto", None: None}[precision]
    chosen = with_training(get_profile(profile), batch=batch, precision=kind)
    print(planned.plan(chosen, planned.gpu_of(gpu, memory, tflops), efficiency, hours))


def bench(
    size: Annotated[Literal["smoke", "cpu", "a100"], typer.Option(help="Width: 1/16, 1/4, the paper's.")] = "cpu",
    repeats: Annotated[int, typer.Option(parser=FEW, metavar="N", help="Timed repetitions of each.")] = 5,
    against: Annotated[Rivals, typer.Option(metavar="NAMES", help="authors, or authors,riffusion.")] = "authors",
    out: Annotated[
        Path | None, typer.Option("--json", parser=RESULT, metavar="FILE", help="Write the result as JSON, too.")
    ] = None,
) -> None:
    """Time our code and the authors', in turn. Both have the same weights and steps, and their results are compared."""
    from mousai.bench import bench

    bench.show(bench.bench(size, repeats, against), out)
