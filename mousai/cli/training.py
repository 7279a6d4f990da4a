"""Commands about weights: `mousai train | import-weights`, and what they cost: `mousai bench | plan`."""

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
    Optimizer,
    Profile,
    Rivals,
    writable,
)
from mousai.cli.offline import offline


def train(
    model: Annotated[Literal["dmae", "tcld", "judge"], typer.Argument(metavar="MODEL", help="dmae, tcld or judge.")],
    profile: Profile = "cpu",
    steps: Annotated[int | None, typer.Option(parser=COUNT, metavar="N", help="Training steps; the profile's.")] = None,
    out: Annotated[Path | None, typer.Option(parser=WEIGHTS, metavar="FILE", help="Weights; the run's folder.")] = None,
    ship: Annotated[bool, typer.Option("--ship", help="Replace the package's own weights, for `generate`.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped; dmae and tcld.")] = False,
    start: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Go on from these; dmae and tcld.")
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Less memory, a quarter more work; dmae and tcld.")
    ] = False,
    optimizer: Annotated[
        Optimizer | None, typer.Option(help="adamw, or adamw8bit by bitsandbytes; dmae and tcld.")
    ] = None,
    device: Device = "",
) -> None:
    """Train one model: dmae (stage 1), tcld (stage 2, over the trained stage 1) or judge, which scores the music."""
    given = {"--start": start, "--resume": resume, "--checkpointing": checkpointing, "--optimizer": optimizer}
    for name, value in given.items():
        if value and model == "judge":
            raise typer.BadParameter(f"'{name}' is for dmae and tcld: the judge trains in minutes, leave it out")
    offline(profile)
    from mousai.checkpoint import load_dmae, read_card, weights_path
    from mousai.files import home
    from mousai.inference.precision import choose_device
    from mousai.small.profiles import get_profile
    from mousai.train import is_main, main_first
    from mousai.training import setup as stages
    from mousai.training.validation import watch_dmae, watch_tcld

    chosen = stages.switched(get_profile(profile), checkpointing, optimizer)
    place, run = choose_device(device or None), home() / "training" / f"{profile}-{model}"
    path = weights_path(chosen, model) if ship else out or run / f"{model}.safetensors"
    before = read_card(start) if start else None  # now: with --ship its file may be replaced
    if model == "judge":
        if not is_main():
            return  # it is small: one process trains it
        from mousai.evaluation.judge import train_judge

        _, history = train_judge(chosen, steps, path, str(place))
    else:
        with main_first(place):
            dmae = load_dmae(chosen, place) if model == "tcld" else None
            watch = watch_tcld(chosen, dmae, run, place, resume) if dmae else watch_dmae(chosen, run, place, resume)
        if dmae:
            net, history = stages.train_tcld(chosen, dmae, steps, run, resume, place, watch=watch, start=start)
        else:
            net, history = stages.train_dmae(chosen, steps, run, resume, place, watch, start)
        if not is_main():
            return  # of several processes one writes
        stages.ship(chosen, model, net, history, path, before, watch.last())
    hours, waited = history["seconds"].sum() / 3600, history["waited"].sum() / history["seconds"].sum()
    made = f"{len(history)} steps, loss {history['loss'].tail(100).mean():.4f}"
    print(f"{path}: {made}, {hours:.3f} hours, {waited:.0%} of them waiting for data")


def import_weights(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="A state dict of theirs.")],
    out: Annotated[Path, typer.Option(parser=writable, metavar="DIR", help="Where dmae or tcld.safetensors goes.")],
    profile: Profile = "a100",
) -> None:
    """Turn a file of weights of the authors' packages into ours; code in it is never run."""
    from mousai.checkpoint import weights_path
    from mousai.interop.authors import import_weights as run
    from mousai.small.profiles import get_profile

    path, card = run(file, out, get_profile(profile))
    place = weights_path(get_profile(profile), card["model"])
    loaded = "now loads them" if path.resolve() == place else f"loads what is in {place.parent}: use that as --out"
    print(f"{path}: {card['parameters']:,} parameters; --profile {profile} {loaded}")


def plan(
    profile: Profile = "a100",
    gpu: Annotated[Gpu, typer.Option(metavar="NAME", help="a100-40gb, a100-80gb or h100-80gb.")] = "a100-80gb",
    batch: Annotated[int | None, typer.Option(parser=COUNT, metavar="N", help="Items a step; the profile's.")] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"] | None, typer.Option(metavar="NAME", help="float32 or bfloat16; the profile's.")
    ] = None,
    optimizer: Annotated[Optimizer | None, typer.Option(help="The profile's.")] = None,
    efficiency: Annotated[
        float, typer.Option(parser=EFFICIENCY, metavar="SHARE", help="Of the peak TFLOP/s; an assumption.")
    ] = 0.4,
    hours: Annotated[
        float | None, typer.Option(parser=LARGE, metavar="H", help="Music on the disk; the profile's, the paper 2500.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option("--memory-gb", parser=LARGE, metavar="GB", help="Of another GPU.")
    ] = None,
    tflops: Annotated[float | None, typer.Option(parser=LARGE, metavar="N", help="Peak of another GPU.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Measure small ones on this CPU instead: minutes.")] = False,
) -> None:
    """Reckon what training takes: memory by part, the largest batch, operations, days, disk; no GPU needed."""
    if check:
        from mousai.training.estimator_check import show

        raise typer.Exit(0 if show() else 1)
    from mousai.small.profiles import get_profile
    from mousai.training import plan as planned

    kind = {"float32": "float32", "bfloat16": "auto", None: None}[precision]
    chosen = planned.trained(get_profile(profile), batch=batch, precision=kind, optimizer=optimizer)
    print(planned.plan(chosen, planned.gpu_of(gpu, memory, tflops), efficiency, hours))


def bench(
    size: Annotated[Literal["smoke", "cpu", "a100"], typer.Option(help="Width: 1/16, 1/4, the paper's.")] = "cpu",
    repeats: Annotated[int, typer.Option(parser=FEW, metavar="N", help="Timed turns of each.")] = 5,
    against: Annotated[Rivals, typer.Option(metavar="NAMES", help="authors, or authors,riffusion.")] = "authors",
    out: Annotated[Path | None, typer.Option("--json", parser=RESULT, metavar="FILE", help="Also as JSON.")] = None,
) -> None:
    """Time ours against the authors' packages: same weights, same steps, turn about; compare what they give."""
    from mousai.bench import bench

    bench.show(bench.bench(size, repeats, against), out)
