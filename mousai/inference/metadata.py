"""Generation metadata: what made a sound, in the tags of its file, so that it can be made again (ours)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mousai.inference.sampling import Sampling

TAG = "mousai"


@dataclass(frozen=True)
class SourceAudio:
    """The sound that was edited (its file's name and sha256) and how. An empty task says that there was none.

    `task`: "init-audio", "continue" or "inpaint". `regions`: (from, to) in seconds, where the task is "inpaint".
    """

    task: str = ""
    name: str = ""
    sha256: str = ""
    noise_level: float = 1.0
    regions: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class GenerationMetadata:
    """All that determines one generated file; `read_metadata` gets it back from the file's tags.

    `seconds`: length of the whole file. `profile`: its name. `tcld_sha256`, `dmae_sha256`: of the files of weights.
    `version`: of this package. `loudness`: in LUFS; None leaves the level as the model made it.
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
    """Add the metadata to the tags of a sound file: Vorbis comments, or ID3 in WAV. The prompt becomes the title."""
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
    """The metadata in a file's tags. Raises ValueError where there is none, or none that this version can read."""
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
        said = json.loads(text)
        if isinstance(said, dict) and isinstance(said.get("sampling"), dict):
            said["sampling"].setdefault("refinement_steps", 0)  # older files have no such tag
        return built(GenerationMetadata, said, "settings")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its tags hold no settings of this version: {error}") from error


def open_tags(path: Path, ending: str):
    """The file, opened by mutagen. `ending` gives its format, because while it is written its name ends differently."""
    from mutagen.flac import FLAC
    from mutagen.oggvorbis import OggVorbis
    from mutagen.wave import WAVE

    return {".wav": WAVE, ".flac": FLAC, ".ogg": OggVorbis}[ending](path)
