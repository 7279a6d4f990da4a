"""The kinds of arguments of the command line. Each is checked before torch loads; the error says what would fit."""

import re
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

ENDINGS = (".wav", ".flac", ".ogg")
EXAMPLE = "Metal, 1883, Ryan's Mammoth Collection, 2 of 4"


class Missing(typer.BadParameter):
    """An argument is missing: the message stands alone, because no value was invalid."""

    def format_message(self) -> str:
        return self.message


def number(text: str | float, kind: type, low: float, high: float) -> int | float:
    """The text as a number from low to high. Raises BadParameter."""
    with suppress(ValueError):
        if low <= (value := kind(text)) <= high:
            return value
    whole = "a whole number" if kind is int else "a number"
    raise typer.BadParameter(f"'{text}' must be {whole} from {low} to {high}")


def writable(text: str | Path, endings: tuple[str, ...] = (), makes_folder: bool = False) -> Path:
    """The path of a file that can be written and has one of these endings; without endings, of a folder.

    The folder may be missing; that of a file only where the command `makes_folder`. Raises BadParameter.
    """
    path = Path(text)
    if endings and path.suffix.lower() not in endings:
        raise typer.BadParameter(f"cannot write '{text}': choose a name that ends in {', '.join(endings)}")
    if path.exists() and path.is_dir() == bool(endings):
        raise typer.BadParameter(f"'{text}' is a {'folder' if endings else 'file'}: choose another name")
    folder = path.parent if endings else path
    if makes_folder or not endings:
        folder = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:  # because access rights alone are not reliable on every file system
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise typer.BadParameter(f"cannot write '{text}': {error.strerror}: choose another place") from None
    return path


def weights_folder(text: str | Path) -> Path:
    """A folder of weights, or that of a repository, which is fetched from the Hugging Face hub after loading torch."""
    if Path(text).is_dir():
        return Path(text)
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", str(text)):
        raise typer.BadParameter(
            f"no folder '{text}': give a folder of weights, or OWNER/NAME of a Hugging Face repository"
        )
    from mousai.interop.hub import fetch

    return fetch(text)


def matching(text: str, pattern: str, mend: str) -> str:
    """The text, which must match `pattern`. Raises BadParameter, which ends with `mend`."""
    if not re.fullmatch(pattern, text):
        raise typer.BadParameter(f"{text!r} is not valid: {mend}")
    return text


def seeds(text: str) -> str:
    """Whole numbers, separated by commas; returned as text. Raises BadParameter."""
    for one in text.split(","):
        number(one, int, 0, 2**63 - 1)
    return text


def edited(
    init_audio: Path | None,
    onward: Path | None,
    inpaint: Path | None,
    noise_level: float | None,
    regions: tuple[list[float], list[float]],
    seconds: float | None,
) -> tuple[str, Path | None]:
    """(how a sound is edited, its file): "init-audio", "continue" or "inpaint"; ("", None) for new music.

    regions: beginnings and ends in seconds. Raises BadParameter for options that do not belong together.
    """
    files = {"init-audio": init_audio, "continue": onward, "inpaint": inpaint}
    task, *more = [name for name, file in files.items() if file] or [""]
    if more:
        raise typer.BadParameter(f"'--{task}' and '--{more[0]}' at once: edit with one, then the result with the other")
    if len(regions[0]) != len(regions[1]) or (task == "inpaint") != bool(regions[0]):
        raise typer.BadParameter("'--inpaint' needs pairs of '--from' and '--to', in seconds; nothing else takes them")
    if noise_level is not None and task not in ("init-audio", "inpaint"):
        raise typer.BadParameter("'--noise-level' is for '--init-audio' and '--inpaint': name a file to begin from")
    if seconds is not None and task in ("init-audio", "inpaint"):
        raise typer.BadParameter(f"'--seconds' with '--{task}': the result is as long as the file, leave it out")
    return task, files.get(task)


def alone(context: typer.Context, *allowed: str) -> None:
    """Raises BadParameter where the command line gives any parameter but those `allowed` beside '--again'."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in allowed and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"'--again' takes settings from the file: leave {parameter.opts[0]!r} out")


COUNT = partial(number, kind=int, low=1, high=10**9)
SEED = partial(number, kind=int, low=0, high=2**63 - 1)
SEEDS = seeds
FEW = partial(number, kind=int, low=1, high=100)
SECONDS = partial(number, kind=float, low=0.001, high=3600)
TIME = partial(number, kind=float, low=0, high=3600)
MINUTES = partial(number, kind=float, low=0.001, high=100_000)
SCALE = partial(number, kind=float, low=-1000, high=1000)
SHARE = partial(number, kind=float, low=0, high=1)
MEGABYTES = partial(number, kind=int, low=1, high=100_000)
EFFICIENCY = partial(number, kind=float, low=0.01, high=1)
LARGE = partial(number, kind=float, low=0.1, high=10**6)
RESULT = partial(writable, endings=(".json",))
SOUND = partial(writable, endings=ENDINGS)
WEIGHTS = partial(writable, endings=(".safetensors",), makes_folder=True)
DEVICE = partial(matching, pattern=r"(cpu|mps|cuda(:\d+)?)?", mend="choose cpu, cuda, cuda:1 or mps, or leave it out")
PROMPT = partial(matching, pattern=r"(?s).*\S.*", mend=f"say what to play, for example {EXAMPLE!r}")

Sizes = Literal["smoke", "cpu", "a100", "a100-rehearsal"]
Profile = Annotated[Sizes, typer.Option(metavar="NAME", help="Size: smoke, cpu, a100 or a100-rehearsal.")]
Device = Annotated[
    str, typer.Option(parser=DEVICE, metavar="NAME", help="cpu, cuda or mps; by default the fastest there is.")
]
Sampler = Literal["ddim", "multistep", "heun"]
Weights = Annotated[
    Path | None,
    typer.Option(
        parser=weights_folder, metavar="DIR", help="Weights: a folder, or OWNER/NAME on the hub; by default ours."
    ),
]
Gpu = Literal["a100-40gb", "a100-80gb", "h100-80gb"]
Rivals = Literal["authors", "authors,riffusion"]
Precision = Annotated[Literal["float32", "fast"] | None, typer.Option(help="float32, or whatever is faster here.")]
Folder = Annotated[
    Path | None, typer.Option(parser=writable, metavar="DIR", help="Report folder; by default reports/PROFILE.")
]
