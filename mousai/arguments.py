"""What the shell may pass: each kind of argument says what fits it, before torch loads."""

import re
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

ENDINGS = (".wav", ".flac", ".ogg")
EXAMPLE = "Metal, 1883, Ryan's Mammoth Collection, 2 of 4"


def number(text: str | float, kind: type, low: float, high: float) -> int | float:
    """A number from low to high."""
    with suppress(ValueError):
        if low <= (value := kind(text)) <= high:
            return value
    whole = "a whole number" if kind is int else "a number"
    raise typer.BadParameter(f"'{text}' does not fit: say {whole} from {low} to {high}")


def writable(text: str | Path, endings: tuple[str, ...] = ()) -> Path:
    """A file that can be written and ends so; without endings a folder, which may be missing."""
    path = Path(text)
    if endings and path.suffix.lower() not in endings:
        raise typer.BadParameter(f"cannot write '{text}': choose a name that ends in {', '.join(endings)}")
    if path.exists() and path.is_dir() == bool(endings):
        raise typer.BadParameter(f"'{text}' is a {'folder' if endings else 'file'}: choose another name")
    folder = path.parent if endings else next(p for p in (path, *path.absolute().parents) if p.exists())
    try:  # rights alone do not tell on every file system
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise typer.BadParameter(f"cannot write '{text}': {error.strerror}: choose another place") from None
    return path


def matching(text: str, pattern: str, mend: str) -> str:
    """Words of that pattern."""
    if not re.fullmatch(pattern, text):
        raise typer.BadParameter(f"{text!r} does not fit: {mend}")
    return text


COUNT, SEED = partial(number, kind=int, low=1, high=10**9), partial(number, kind=int, low=0, high=2**63 - 1)
FEW = partial(number, kind=int, low=1, high=100)
SECONDS, SCALE = partial(number, kind=float, low=0.001, high=3600), partial(number, kind=float, low=-1000, high=1000)
SHARE = partial(number, kind=float, low=0, high=1)
EFFICIENCY, LARGE = partial(number, kind=float, low=0.01, high=1), partial(number, kind=float, low=0.1, high=10**6)
MINUTES = partial(number, kind=float, low=0.001, high=100_000)
RESULT = partial(writable, endings=(".json",))
SOUND, WEIGHTS = partial(writable, endings=ENDINGS), partial(writable, endings=(".safetensors",))
DEVICE = partial(matching, pattern=r"(cpu|mps|cuda(:\d+)?)?", mend="choose cpu, cuda, cuda:1 or mps, or leave it out")
PROMPT = partial(matching, pattern=r"(?s).*\S.*", mend=f"say what to play, for example {EXAMPLE!r}")

Profile = Annotated[Literal["smoke", "cpu", "a100"], typer.Option(help="Size: smoke, cpu, a100.")]
Device = Annotated[str, typer.Option(parser=DEVICE, metavar="NAME", help="cpu, cuda or mps; the best by itself.")]
Sampler = Literal["ddim", "multistep", "heun"]
Optimizer = Literal["adamw", "adamw8bit"]
Gpu = Literal["a100-40gb", "a100-80gb", "h100-80gb"]
Rivals = Literal["authors", "authors,riffusion"]
Numerics = Annotated[Literal["exact", "fast"] | None, typer.Option(help="float32, or whatever is faster here.")]
Folder = Annotated[Path | None, typer.Option(parser=writable, metavar="DIR", help="Report folder; reports/PROFILE.")]
