"""The shell's way in: `mousai reproduce | generate | train | data | report`, thin, one function a command.

Bad input is one line on stderr that names it and the mend, exit code 2, nothing written; checked before torch loads.
"""

import math
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

NAMES = ("smoke", "cpu", "a100")  # as in mousai.profiles, which would import torch
ENDINGS = (".wav", ".flac", ".ogg")
EXAMPLE = "Metal, 1883, Ryan's Mammoth Collection, 2 of 4"

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Moûsai: text to music in two diffusion stages.",
)
train = typer.Typer(rich_markup_mode=None, help="Train one model.")
data = typer.Typer(rich_markup_mode=None, help="The embedded music.")
app.add_typer(train, name="train")
app.add_typer(data, name="data")


def as_profile(text: str) -> str:
    """A profile's name, or a line that lists them."""
    if text not in NAMES:
        raise typer.BadParameter(f"unknown profile {text!r}: choose one of {', '.join(NAMES)}")
    return text


def as_device(text: str) -> str:
    """A device's name; whether it is there is seen once torch is."""
    if text and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", text):
        raise typer.BadParameter(f"unknown device {text!r}: choose cpu, cuda, cuda:1 or mps, or leave it out")
    return text


def as_count(text: str | int) -> int:
    """A whole number of 1 or more."""
    if not re.fullmatch(r"\d+", text := str(text)) or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is not a count: say a whole number of 1 or more")
    return int(text)


def as_seed(text: str | int) -> int:
    """A whole number from 0 to 2^63 - 1."""
    if not re.fullmatch(r"\d+", text := str(text)) or int(text) >= 2**63:
        raise typer.BadParameter(f"{text!r} is not a seed: say a whole number from 0 on")
    return int(text)


def as_seconds(text: str | float) -> float:
    """A length above 0 and up to an hour."""
    value = as_number(text)
    if not 0.5 / 48_000 < value <= 3600:
        raise typer.BadParameter(f"{text} is no length: say more than 0 and at most 3600")
    return value


def as_number(text: str | float) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{text!r} is not a number: say one such as 3 or 20.5")
    return value


def as_prompt(text: str) -> str:
    """Words to play."""
    if not text.strip():
        raise typer.BadParameter(f"the prompt is empty: say what to play, for example {EXAMPLE!r}")
    return text


def as_sound(text: str | Path) -> Path:
    """A sound file that can be written."""
    if Path(text).suffix.lower() not in ENDINGS:
        raise typer.BadParameter(f"cannot write {str(text)!r}: choose a name that ends in {', '.join(ENDINGS)}")
    return as_file(str(text))


def as_weights(text: str) -> Path:
    """A weights file that can be written."""
    if Path(text).suffix != ".safetensors":
        raise typer.BadParameter(f"cannot write {text!r}: choose a name that ends in .safetensors")
    return as_file(text)


def as_file(text: str) -> Path:
    """A file that can be written: its folder is there and takes files."""
    path = Path(text)
    if path.is_dir():
        raise typer.BadParameter(f"{text!r} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"cannot write {text!r}: there is no folder {str(path.parent)!r}: make it first")
    takes_files(path.parent, text)
    return path


def as_folder(text: str) -> Path:
    """A folder that is there and takes files, or can be made."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise typer.BadParameter(f"{text!r} is a file: name a folder")
    takes_files(next(place for place in (path, *path.absolute().parents) if place.exists()), text)
    return path


def takes_files(folder: Path, text: str) -> None:
    """Try it: rights alone do not tell on every file system."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise typer.BadParameter(f"cannot write {text!r}: {error.strerror}: choose another place") from None


Profile = Annotated[str, typer.Option(parser=as_profile, metavar="NAME", help=f"Size: {', '.join(NAMES)}.")]
Device = Annotated[str, typer.Option(parser=as_device, metavar="NAME", help="cpu, cuda or mps; the best by itself.")]
Steps = Annotated[int | None, typer.Option(parser=as_count, metavar="N", help="Training steps; the profile's.")]
Weights = Annotated[
    Path | None, typer.Option(parser=as_weights, metavar="FILE", help="Where the weights go; the run's folder.")
]
Folder = Annotated[Path | None, typer.Option(parser=as_folder, metavar="DIR", help="Report folder; reports/PROFILE.")]
Ship = Annotated[bool, typer.Option("--ship", help="Replace the package's own weights, which `generate` loads.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]


@app.command()
def reproduce(
    profile: Profile = "cpu",
    only: Annotated[str, typer.Option(metavar="06,07", help="These notebooks alone.")] = "",
    start: Annotated[str, typer.Option("--from", metavar="04", help="This notebook and the later ones.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Run also what is still good.")] = False,
    out: Folder = None,
    device: Device = "",
) -> None:
    """Run the notebooks, draw reports/PROFILE."""
    from mousai.batch.lessons import UPSTREAM, select

    select(list(UPSTREAM), only, start)
    from mousai.batch.reproduce import reproduce as run

    raise typer.Exit(run(profile, only, start, force, out or "", device))


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(parser=as_prompt, metavar="PROMPT", help=f"For example {EXAMPLE!r}.")],
    seconds: Annotated[float, typer.Option(parser=as_seconds, metavar="S", help="Length, up to 3600.")] = 20.0,
    seed: Annotated[int, typer.Option(parser=as_seed, metavar="N", help="The same seed, the same sound.")] = 0,
    out: Annotated[Path, typer.Option(parser=as_sound, metavar="FILE", help="WAV, FLAC or OGG.")] = Path("out.wav"),
    profile: Profile = "cpu",
    tcld_steps: Annotated[int | None, typer.Option(parser=as_count, metavar="N", help="DDIM steps, stage 2.")] = None,
    dmae_steps: Annotated[int | None, typer.Option(parser=as_count, metavar="N", help="DDIM steps, stage 1.")] = None,
    guidance: Annotated[float | None, typer.Option(parser=as_number, metavar="S", help="1 is none.")] = None,
    device: Device = "",
) -> None:
    """Write music for PROMPT: 48 kHz stereo, exactly that long."""
    offline(profile)
    from mousai.generate import Mousai, write_audio

    started = time.monotonic()
    music = Mousai.load(profile, device or None)
    wave = music.generate([prompt], seconds, seed, tcld_steps, dmae_steps, guidance, progress=True)[0]
    write_audio(wave, out)
    clipped, took = int((wave.abs() > 1).sum()), time.monotonic() - started
    note = f", {clipped} samples beyond full scale clipped" if clipped else ""
    print(f"{out}: {wave.shape[-1]} samples of 48 kHz stereo in {took:.1f} s, {seconds / took:.2f} x real time{note}")


@train.command("dmae")
def train_dmae(
    profile: Profile = "cpu",
    steps: Steps = None,
    out: Weights = None,
    ship: Ship = False,
    resume: Resume = False,
    device: Device = "",
) -> None:
    """Stage 1: the diffusion autoencoder, on random crops of the embedded music."""
    offline(profile)
    from mousai import train as training
    from mousai.profiles import choose_device, get_profile, home

    chosen, place = get_profile(profile), choose_device(device or None)
    run = home() / "training" / f"{profile}-dmae"
    keep(*training.train_dmae(chosen, steps, run, resume, place), "dmae", profile, out, ship)


@train.command("tcld")
def train_tcld(
    profile: Profile = "cpu",
    steps: Steps = None,
    out: Weights = None,
    ship: Ship = False,
    resume: Resume = False,
    device: Device = "",
) -> None:
    """Stage 2: text to latents, over the trained stage 1."""
    offline(profile)
    from mousai import train as training
    from mousai.checkpoint import load_dmae
    from mousai.profiles import choose_device, get_profile, home

    chosen, place = get_profile(profile), choose_device(device or None)
    run = home() / "training" / f"{profile}-tcld"
    keep(*training.train_tcld(chosen, load_dmae(chosen, place), steps, run, resume, place), "tcld", profile, out, ship)


@train.command("judge")
def train_judge(
    profile: Profile = "cpu", steps: Steps = None, out: Weights = None, ship: Ship = False, device: Device = ""
) -> None:
    """The in-domain judge that scores generated music."""
    offline(profile)
    from mousai.evaluation.judge import train_judge as run
    from mousai.profiles import get_profile

    path = target("judge", profile, out, ship)
    _, history = run(get_profile(profile), steps, path, device or None)
    print(f"{path}: {len(history)} steps, last loss {history['loss'].iloc[-1]:.3f}")


def keep(model, history, name: str, profile: str, out: Path | None, ship: bool) -> None:
    """Write trained weights and their card; say where."""
    from mousai import train as training
    from mousai.profiles import get_profile

    card = training.ship(get_profile(profile), name, model, history, path := target(name, profile, out, ship))
    print(f"{path}: {card['steps']} steps, loss {card['final_loss']}, {card['hours']} hours")


def target(name: str, profile: str, out: Path | None, ship: bool) -> Path:
    """Where trained weights go: the package's own place, the file asked for, or the run's folder."""
    from mousai.checkpoint import weights_path
    from mousai.profiles import get_profile, home

    if ship:
        return weights_path(get_profile(profile), name)
    return out or home() / "training" / f"{profile}-{name}" / f"{name}.safetensors"


@data.command("prepare")
def prepare(
    profile: Profile = "cpu",
    jobs: Annotated[int, typer.Option(parser=as_count, metavar="N", help="Processes.")] = 2,
) -> None:
    """Arrange and render the embedded music; what is there already is kept."""
    from mousai.data.embedded import prepare as run
    from mousai.profiles import get_profile

    print(run(get_profile(profile), jobs))


@app.command()
def report(profile: Profile = "cpu", out: Folder = None) -> None:
    """Draw the report again from its results, in seconds."""
    from mousai.batch.build import build, front_page
    from mousai.batch.reproduce import ROOT

    print(page := build(out or ROOT / "reports" / profile, profile))
    if page.parent == ROOT / "reports" / "cpu":
        front_page(page.parent, profile, ROOT / "README.md")


def offline(profile: str) -> None:
    """Only a100 may ask a hub for anything; the others have all they need."""
    if profile != "a100":
        os.environ["HF_HUB_OFFLINE"] = "1"


def main(arguments: list[str] | None = None) -> None:
    """Run one command; every expected error is one line and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(app(arguments or ["--help"], prog_name="mousai", standalone_mode=False) or 0)
    except TyperException as error:
        problem = error.format_message()
        if "Invalid value" not in problem:
            problem = f"{problem.rstrip('.')}: see mousai --help"
    except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        problem = str(error)
    except (KeyboardInterrupt, typer.Abort):
        print("mousai: interrupted", file=sys.stderr)
        sys.exit(130)
    print(f"mousai: {' '.join(problem.split())}", file=sys.stderr)
    sys.exit(2)
