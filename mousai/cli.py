"""The shell's way in, one function a command: `mousai reproduce | generate | encode | train | listen ...`.

Bad input is one line on stderr that names it and the mend, exit code 2, nothing written; checked before torch loads.
"""

import errno
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.exceptions import TyperException

from mousai.arguments import (
    COUNT,
    EFFICIENCY,
    EXAMPLE,
    FEW,
    LARGE,
    MEGABYTES,
    MINUTES,
    PROMPT,
    RESULT,
    SCALE,
    SECONDS,
    SEED,
    SEEDS,
    SHARE,
    SOUND,
    TIME,
    WEIGHTS,
    Device,
    Folder,
    Gpu,
    Numerics,
    Optimizer,
    Profile,
    Rivals,
    Sampler,
    Solver,
    alone,
    edited,
    writable,
)

INTERRUPTED = 130
HELP = "Moûsai: text to music in two diffusion stages."
REHEARSE = "A step of everything in a100's sizes, on this machine, nothing fetched; wants --profile a100."
PAPER_SIZE = "Also the paper's size, Riffusion's, and the bench, in notebook 09: 18 minutes, 16 GB."

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, help=HELP)
data = typer.Typer(rich_markup_mode=None, help="The embedded music, or your own.")
app.add_typer(data, name="data")


@app.command()
def reproduce(
    profile: Profile = "cpu",
    only: Annotated[str, typer.Option(metavar="06,07", help="These notebooks alone.")] = "",
    start: Annotated[str, typer.Option("--from", metavar="04", help="This notebook and the later ones.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Run also what is still good.")] = False,
    out: Folder = None,
    device: Device = "",
    paper_size: Annotated[bool, typer.Option("--paper-size", help=PAPER_SIZE)] = False,
    rehearse: Annotated[bool, typer.Option("--rehearse", help=REHEARSE)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="After a failure run all but what needs it.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(parser=MINUTES, metavar="MINUTES", help="End a notebook that takes longer.")
    ] = None,
) -> None:
    """Run the notebooks, draw reports/PROFILE."""
    from mousai.batch.lessons import UPSTREAM, select

    select(list(UPSTREAM), only, start)
    if rehearse and profile != "a100":
        raise typer.BadParameter(f"'--rehearse' is for a100, {profile} runs here as it is: add --profile a100")
    profile = "a100-rehearsal" if rehearse else profile
    from mousai.batch.reproduce import reproduce as run

    raise typer.Exit(run(profile, only, start, force, out or "", device, paper_size, dry_run, keep_going, timeout))


@app.command()
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
    from mousai.batch import making
    from mousai.diffusion import Guidance
    from mousai.generate import Mousai

    if again:
        return making.again(again, out, device)
    source, w = making.source_of(task, file, noise_level, [*zip(start or [], end or [], strict=True)])
    music = Mousai.load(profile, device or None, numerics)
    scale = music.profile.sampling.guidance if guidance is None else guidance
    solvers = (tcld_sampler or sampler, dmae_sampler or sampler)
    how = music.sampling(tcld_steps, dmae_steps, Guidance(scale, *interval, rescale), solvers, negative)
    making.make(music, prompts or [], seconds, [*map(int, seed.split(","))], how, numerics, source, w, out)


@app.command()
def encode(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="A sound.")],
    out: Annotated[Path, typer.Option(parser=WEIGHTS, metavar="FILE", help="Where z goes.")] = Path("z.safetensors"),
    profile: Profile = "cpu",
    device: Device = "",
) -> None:
    """Stage 1's first half: a sound to its latent, 64 times fewer numbers."""
    offline(profile)
    from mousai.batch import making

    making.encode(file, out, profile, device)


@app.command()
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
    from mousai.batch import making

    making.decode(file, out, steps, seed, sampler, numerics, device)


@app.command()
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
    from mousai import stages
    from mousai.checkpoint import load_dmae, read_card, weights_path
    from mousai.evaluation.watch import watch_dmae, watch_tcld
    from mousai.files import home
    from mousai.precision import choose_device
    from mousai.profiles import get_profile
    from mousai.train import is_main, main_first

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


@app.command()
def listen(
    files: Annotated[
        list[Path] | None, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="Answers to collect.")
    ] = None,
    collect: Annotated[bool, typer.Option("--collect", help="Turn the FILES people sent into rows.")] = False,
    profile: Profile = "cpu",
    out: Annotated[
        Path | None, typer.Option(parser=writable, metavar="DIR", help="Page and key; runs/listening/PROFILE.")
    ] = None,
    per_genre: Annotated[int, typer.Option(parser=FEW, metavar="N", help="Clips of each model and genre.")] = 3,
    seed: Annotated[int, typer.Option(parser=SEED, metavar="N", help="Which clips are drawn.")] = 0,
    report: Annotated[
        Path | None, typer.Option(parser=writable, metavar="DIR", help="Where the rows go; reports/PROFILE.")
    ] = None,
    device: Device = "",
) -> None:
    """Write a blind listening test, one HTML page; with --collect, check the answers and count them."""
    if bool(files) != collect:
        mend = "give the files people sent" if collect else "add --collect to count answers, or leave the files out"
        raise typer.BadParameter(f"{'no FILE' if collect else 'FILE without --collect'}: {mend}")
    offline(profile)
    from mousai.batch import people
    from mousai.files import home
    from mousai.profiles import get_profile

    folder = out or home() / "listening" / profile
    if files:
        print(people.collect(files, folder, report))
    else:
        print(people.hold(get_profile(profile), folder, per_genre, seed, device))


@app.command()
def import_weights(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="A state dict of theirs.")],
    out: Annotated[Path, typer.Option(parser=writable, metavar="DIR", help="Where dmae or tcld.safetensors goes.")],
    profile: Profile = "a100",
) -> None:
    """Turn a file of weights of the authors' packages into ours; code in it is never run."""
    from mousai.checkpoint import weights_path
    from mousai.interop import import_weights as run
    from mousai.profiles import get_profile

    path, card = run(file, out, get_profile(profile))
    place = weights_path(get_profile(profile), card["model"])
    loaded = "now loads them" if path.resolve() == place else f"loads what is in {place.parent}: use that as --out"
    print(f"{path}: {card['parameters']:,} parameters; --profile {profile} {loaded}")


@app.command()
def bench(
    size: Annotated[Literal["smoke", "cpu", "a100"], typer.Option(help="Width: 1/16, 1/4, the paper's.")] = "cpu",
    repeats: Annotated[int, typer.Option(parser=FEW, metavar="N", help="Timed turns of each.")] = 5,
    against: Annotated[Rivals, typer.Option(metavar="NAMES", help="authors, or authors,riffusion.")] = "authors",
    out: Annotated[Path | None, typer.Option("--json", parser=RESULT, metavar="FILE", help="Also as JSON.")] = None,
) -> None:
    """Time ours against the authors' packages: same weights, same steps, turn about; compare what they give."""
    from mousai.batch import bench

    bench.show(bench.bench(size, repeats, against), out)


@app.command()
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
        from mousai.batch.measured import show

        raise typer.Exit(0 if show() else 1)
    from mousai.batch import plan as planned
    from mousai.profiles import get_profile

    kind = {"float32": "float32", "bfloat16": "auto", None: None}[precision]
    chosen = planned.trained(get_profile(profile), batch=batch, precision=kind, optimizer=optimizer)
    print(planned.plan(chosen, planned.gpu_of(gpu, memory, tflops), efficiency, hours))


@data.command("import")
def import_music(
    source: Annotated[
        Path, typer.Argument(exists=True, metavar="FROM", help="A folder, a .zip, a .tar, or a list: CSV, TSV, JSON.")
    ],
    out: Annotated[Path, typer.Option(parser=writable, metavar="DIR", help="Where the data set goes.")],
    profile: Profile = "a100",
    jobs: Annotated[int, typer.Option(parser=FEW, metavar="N", help="Processes.")] = 2,
    audio: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, metavar="DIR", help="Where a list's files are.")
    ] = None,
) -> None:
    """Turn tagged music of your own into a data set: 48 kHz, cut into the profile's chunks, split by artist."""
    from mousai.data.imported import import_music as run
    from mousai.profiles import get_profile

    chosen = get_profile(profile)
    counts = run(source, out, chosen.tcld.crop, chosen.data, jobs, audio)
    pieces, chunks, skipped = counts.pop("pieces"), counts.pop("chunks"), sum(counts.values())
    why = f" ({', '.join(f'{n} {reason}' for reason, n in counts.items())}): see skipped.csv" if skipped else ""
    print(f"{out}: {pieces} pieces, {chunks} chunks, {skipped} files skipped{why}")
    print(f"MOUSAI_DATA={shlex.quote(str(out))} mousai train dmae --profile {profile}")


@data.command("prepare")
def prepare(
    profile: Profile = "cpu",
    jobs: Annotated[int, typer.Option(parser=COUNT, metavar="N", help="Processes.")] = 2,
) -> None:
    """Arrange and render the embedded music; what is there already is kept."""
    from mousai.data.embedded import prepare as run
    from mousai.profiles import get_profile

    print(run(get_profile(profile), jobs))


@data.command("shards")
def shards(
    out: Annotated[Path, typer.Option(parser=writable, metavar="DIR", help="Where the shards go.")],
    profile: Profile = "cpu",
    shard_size: Annotated[int, typer.Option(parser=MEGABYTES, metavar="MB", help="At most so large, each.")] = 512,
    jobs: Annotated[int, typer.Option(parser=FEW, metavar="N", help="Processes.")] = 2,
) -> None:
    """Write the data set in use, embedded or of MOUSAI_DATA, as WebDataset shards; finished ones are kept."""
    from mousai.data.packing import write_shards
    from mousai.profiles import get_profile

    index = write_shards(get_profile(profile), out, shard_size, jobs)
    written = [shard for split in index.splits.values() for shard in split]
    print(f"{out}: {sum(shard.records for shard in written)} records in {len(written)} shards")
    print(f"MOUSAI_DATA={shlex.quote(str(out))} mousai train dmae --profile {profile}")


@data.command("latents")
def latents(profile: Profile = "cpu", device: Device = "") -> None:
    """Encode the data set in use with the trained stage 1, for `train tcld`; of several processes each its share."""
    offline(profile)
    from mousai.checkpoint import load_dmae
    from mousai.precision import choose_device
    from mousai.profiles import get_profile
    from mousai.stages import cache_latents
    from mousai.train import processes

    rank, world, chosen = int(os.environ.get("RANK", "0")), processes(), get_profile(profile)
    dmae = load_dmae(chosen, choose_device(device or None))
    for split in ("train", "valid"):
        folder, left = cache_latents(chosen, dmae, split, rank=rank, world=world)
        print(f"{folder}: " + (f"{left} parts are left to the other processes" if left else "whole"))


@app.command()
def report(profile: Profile = "cpu", out: Folder = None) -> None:
    """Draw the report again from its results, in seconds; with the committed one, what README and weights say of it."""
    from mousai.batch.build import build, front_page
    from mousai.batch.cards import write_cards
    from mousai.batch.reproduce import ROOT
    from mousai.batch.results import Results
    from mousai.checkpoint import weights_path
    from mousai.profiles import get_profile

    print(page := build(out or ROOT / "reports" / profile, profile))
    if page.parent == ROOT / "reports" / "cpu":
        front_page(page.parent, profile, ROOT / "README.md")
        write_cards(Results.read(page.parent, profile), weights_path(get_profile(profile), "dmae").parent)


@app.command()
def verify(
    profile: Profile = "cpu",
    out: Folder = None,
    redraw_only: Annotated[bool, typer.Option("--redraw-only", help="Run no notebook again.")] = False,
) -> None:
    """Say what of a report differs from its results, its hashes and a second run; exit code 1 where something does."""
    offline(profile)
    from mousai.batch.reproduce import ROOT
    from mousai.batch.verify import CHEAP
    from mousai.batch.verify import verify as run

    differs = run(out or ROOT / "reports" / profile, profile, () if redraw_only else CHEAP)
    print("\n".join(differs) if differs else "nothing differs")
    raise typer.Exit(1 if differs else 0)


def offline(profile: str) -> None:
    """Only a100 may ask a hub for anything; the others have all they need, and a rehearsal is kept apart."""
    if profile != "a100":
        os.environ["HF_HUB_OFFLINE"] = "1"
    if profile == "a100-rehearsal":
        from mousai.batch.rehearsal import apart

        apart()


def of_the_system(error: OSError) -> str:
    """Which file, what happened, and the mend."""
    if error.errno is None or error.strerror is None:
        return str(error)
    mends = {
        errno.ENOSPC: "free some space and run the same again: what is finished is kept",
        errno.EDQUOT: "free some space and run the same again: what is finished is kept",
        errno.EFBIG: "this place takes no file so large: choose another",
        errno.EROFS: "choose a place that can be written, MOUSAI_HOME moves runs/",
        errno.EACCES: "choose a place that can be written, MOUSAI_HOME moves runs/",
    }
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror}" + (f": {mends[error.errno]}" if error.errno in mends else "")


def main(arguments: list[str] | None = None) -> None:
    """Run one command; every expected error is one line and exit code 2, an interruption one line and 130."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):  # a name may hold any bytes
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: work is saved, kernels are stopped
    try:
        code, problem = app(arguments or ["--help"], prog_name="mousai", standalone_mode=False) or 0, ""
    except TyperException as error:
        code, problem = 2, error.format_message()
        if "Invalid value" not in problem:
            problem = f"{problem.rstrip('.')}: see mousai --help"
    except OSError as error:
        code, problem = 2, of_the_system(error)
    except (ValueError, ImportError) as error:
        code, problem = 2, str(error)
    except (KeyboardInterrupt, typer.Abort):
        code, problem = INTERRUPTED, ""
    if code == INTERRUPTED:  # typer turns Ctrl-C into this code, silently
        trained = arguments[:1] == ["train"] and "judge" not in arguments
        problem = "interrupted" + (": what was trained is kept, go on with --resume" if trained else "")
    if problem:
        print(f"mousai: {' '.join(problem.replace('Value error, ', '').split())}", file=sys.stderr)
    sys.exit(code)
