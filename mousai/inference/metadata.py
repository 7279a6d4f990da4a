"""All that a sound is made by, in the tags of its file: the same file can be made again (ours)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mousai.diffusion import Guidance
from mousai.interop.hub import built

TAG = "mousai"


@dataclass(frozen=True)
class Sampling:
    """How both stages sample; `Mousai.sampling` takes from the profile what is not said."""

    tcld_steps: int
    dmae_steps: int
    tcld_sampler: str
    dmae_sampler: str
    guidance: Guidance
    negative: str = ""  # a prompt to be led away from, in place of no text

    def __post_init__(self):
        """Raises ValueError for a negative prompt that nobody would hear."""
        if self.negative and self.guidance.scale == 1:
            raise ValueError(f"guidance is 1, so {self.negative[:40]!r} is not heard: choose another, 3 for example")


@dataclass(frozen=True)
class Source:
    """The sound that is edited, by its file's name and sha256, and what is done with it; without a task there is none.

    `regions`: from and to seconds, those that inpaint makes anew.
    """

    task: str = ""  # init-audio, continue or inpaint
    name: str = ""
    sha256: str = ""
    noise_level: float = 1.0
    regions: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Recipe:
    """What makes one file; the weights of both stages are named by their sha256."""

    prompt: str
    seconds: float  # of the whole file
    seed: int
    how: Sampling
    profile: str
    numerics: str | None
    tcld: str
    dmae: str
    version: str
    source: Source = Source()


def write_recipe(recipe: Recipe, path: Path, ending: str) -> None:
    """Into the tags of a file that is there: Vorbis comments, in WAV an ID3 chunk. The prompt becomes the title."""
    from mutagen.id3 import TIT2, TXXX

    file, text = opened(path, ending), json.dumps(asdict(recipe), ensure_ascii=False)
    if ending == ".wav":
        file.add_tags()
        file.tags.add(TIT2(encoding=3, text=[recipe.prompt]))
        file.tags.add(TXXX(encoding=3, desc=TAG, text=[text]))
    else:
        file["title"], file[TAG] = recipe.prompt, text
    file.save()


def read_recipe(path: Path) -> Recipe:
    """What the tags say. Raises ValueError where they say nothing, or nothing that this version understands."""
    try:
        file = opened(path, path.suffix.lower())
        text = str((file.tags or {})[f"TXXX:{TAG}" if path.suffix.lower() == ".wav" else TAG][0])
    except Exception as error:  # mutagen's parsers of strangers' files raise nearly anything
        raise ValueError(
            f"{path}: no settings in its tags: only what `mousai generate` wrote can be made again"
        ) from error
    try:
        return built(Recipe, json.loads(text), "settings")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its tags hold no settings of this version: {error}") from error


def opened(path: Path, ending: str):
    """The file with its tags, by its ending and not its name: it may be written aside."""
    from mutagen.flac import FLAC
    from mutagen.oggvorbis import OggVorbis
    from mutagen.wave import WAVE

    return {".wav": WAVE, ".flac": FLAC, ".ogg": OggVorbis}[ending](path)
