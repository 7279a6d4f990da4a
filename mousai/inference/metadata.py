"""Generation metadata: all that a sound is made by, in the tags of its file, so that it can be made again (ours)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mousai.inference.sampling import Sampling

TAG = "mousai"


@dataclass(frozen=True)
class SourceAudio:
    """The sound that is edited, by its file's name and sha256, and how; without a task there is none.

    `task`: init-audio, continue or inpaint. `regions`: from and to seconds, those that are inpainted.
    """

    task: str = ""
    name: str = ""
    sha256: str = ""
    noise_level: float = 1.0
    regions: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class GenerationMetadata:
    """What one file is made by; the weights of both stages are named by their sha256.

    `seconds`: of the whole file. `loudness`: in LUFS, None where the level is the model's own.
    """

    prompt: str
    seconds: float
    seed: int
    sampling: Sampling
    profile: str
    tcld_sha256: str
    dmae_sha256: str
    version: str
    source: SourceAudio = SourceAudio()
    loudness: float | None = None


def write_metadata(metadata: GenerationMetadata, path: Path, ending: str) -> None:
    """Add tags to the sound file at `path`: Vorbis comments, in WAV an ID3 chunk. The prompt becomes the title."""
    from mutagen.id3 import TIT2, TXXX

    file = open_tags(path, ending)
    text = json.dumps(asdict(metadata), ensure_ascii=False)
    if ending == ".wav":
        file.add_tags()
        file.tags.add(TIT2(encoding=3, text=[metadata.prompt]))
        file.tags.add(TXXX(encoding=3, desc=TAG, text=[text]))
    else:
        file["title"] = metadata.prompt
        file[TAG] = text
    file.save()


def read_metadata(path: Path) -> GenerationMetadata:
    """What the tags say. Raises ValueError where they say nothing, or nothing that this version understands."""
    from mousai.interop.hub import built

    ending = path.suffix.lower()
    key = f"TXXX:{TAG}" if ending == ".wav" else TAG
    try:
        text = str((open_tags(path, ending).tags or {})[key][0])
    except Exception as error:  # mutagen's parsers of foreign files raise nearly anything
        raise ValueError(
            f"{path}: no settings in its tags: only what `mousai generate` wrote can be made again"
        ) from error
    try:
        return built(GenerationMetadata, json.loads(text), "settings")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its tags hold no settings of this version: {error}") from error


def open_tags(path: Path, ending: str):
    """The file with its tags. Its kind is given by `ending`, because a file that is being written has another name."""
    from mutagen.flac import FLAC
    from mutagen.oggvorbis import OggVorbis
    from mutagen.wave import WAVE

    return {".wav": WAVE, ".flac": FLAC, ".ogg": OggVorbis}[ending](path)
