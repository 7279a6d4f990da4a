"""A blind listening test on one HTML page: clips of ours, of baselines and of real music, shuffled and equally loud.

Listeners choose one of the genres (Figure 5), then rate four qualities from 1 to 5 (Table 5). The page does not say
where a clip comes from; the key does, which stays with the experimenter. `answers` reads what listeners send back.
"""

import base64
import hashlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from torch import Tensor

from mousai.data.records import Sound
from mousai.evaluation.samples import ClipSet
from mousai.report.page import render

SECONDS = 10.0  # of a clip, at most
FADE = 0.05  # seconds
RMS, PEAK = 0.1, 0.9  # the common level, and the largest peak, which leaves room for what MP3 adds to it
# 192 kbit/s. MP3, because Chromium, Firefox and every Safari play it; older Safaris do not play Ogg Vorbis.
MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": 0.4}
# The paper's names of the ratings. How it worded the questions is unknown; these are ours.
RATINGS = {
    "fidelity": "How good is the sound, apart from the music?",
    "melody": "Is there a tune worth following?",
    "harmony": "Do the notes that sound together fit?",
    "clarity": "Can you tell the instruments apart?",
}


class Clip(NamedTuple):
    """One clip of the test: its model, prompted genre, tune, prompt, and sound [2, time], float32."""

    model: str
    genre: str
    title: str
    text: str
    w: Sound


class Answer(NamedTuple):
    """One listener's answer about one clip: the genre chosen and the four ratings, each from 1 to 5."""

    listener: str
    clip: str
    genre: str
    ratings: dict[str, int]


def choose(sets: dict[str, ClipSet], per_genre: int, seed: int, rate: int = 48_000) -> list[Clip]:
    """`per_genre` clips of each model and genre, or all where there are fewer: at random, least used tunes first."""
    rng = np.random.default_rng(seed)
    used = Counter()
    chosen = []
    genres = sorted({genre for clips in sets.values() for genre in clips.genres})
    for model, clips in sets.items():
        for genre in genres:
            own = [i for i in rng.permutation(len(clips)).tolist() if clips.prompts[i].genre == genre]
            for _ in range(min(per_genre, len(own))):
                i = min(own, key=lambda i: used[clips.prompts[i].title])
                own.remove(i)
                prompt = clips.prompts[i]
                used[prompt.title] += 1
                chosen.append(Clip(model, genre, prompt.title, prompt.text, excerpt(clips[i], rate)))
    return chosen


def excerpt(w: Tensor, rate: int = 48_000) -> Sound:
    """The middle of w [2, time], at most 10 s, faded in and out over 50 ms. Raises ValueError on silence or nan."""
    time = min(w.shape[-1], round(SECONDS * rate))
    start = (w.shape[-1] - time) // 2
    cut = w[:, start : start + time].detach().cpu().numpy().astype(np.float32)
    ramp = np.minimum(1.0, np.arange(time) / min(FADE * rate, time / 2))
    cut *= np.minimum(ramp, ramp[::-1]).astype(np.float32)
    if not np.isfinite(cut).all() or not cut.any():
        raise ValueError("a clip is silent or not finite: look at the weights, or leave it out with another --seed")
    return cut


def levelled(waves: list[Sound]) -> list[Sound]:
    """The waveforms at the same RMS: 0.1, or less for all of them where otherwise a peak would exceed 0.9."""
    rms = [float(np.sqrt((w**2).mean())) for w in waves]
    level = min([RMS, *(PEAK * size / float(np.abs(w).max()) for w, size in zip(waves, rms, strict=True))])
    return [w * (level / size) for w, size in zip(waves, rms, strict=True)]


def mp3(w: Sound, rate: int = 48_000) -> bytes:
    """w [2, time] as an MP3 file; the same sound gives the same bytes."""
    file = io.BytesIO()
    soundfile.write(file, w.T, rate, **MP3)
    return file.getvalue()


def study(chosen: list[Clip], profile: str, seed: int, rate: int = 48_000) -> tuple[str, dict]:
    """(page, key): the HTML for the listeners, and what each clip is, which they must not see.

    A clip's id is a hash of the seed and its sound, the study's id a hash of the key. Clips are in the order of their
    ids. Raises ValueError where there is no clip, or where two clips are exactly equal.
    """
    if not chosen:
        raise ValueError("no clip to listen to: the test split has none of the genres of the train split")
    sounds = {}
    facts = {}
    for clip, w in zip(chosen, levelled([clip.w for clip in chosen]), strict=True):
        sound = mp3(w, rate)
        name = hashlib.sha256(f"{seed} ".encode() + sound).hexdigest()[:12]
        if name in sounds:
            raise ValueError(f"{clip.model}, {clip.text!r}: sounds exactly as another clip: choose another --seed")
        sounds[name] = sound
        facts[name] = {"model": clip.model, "genre": clip.genre, "title": clip.title, "prompt": clip.text}
    key = {"profile": profile, "seed": seed, "clips": dict(sorted(facts.items()))}
    key = {"study": digest(key)} | key
    return page(key["study"], genres_of(key), dict(sorted(sounds.items()))), key


def genres_of(key: dict) -> list[str]:
    """The prompted genres of a study's clips, in alphabetical order, from which its listeners choose."""
    return sorted({clip["genre"] for clip in key["clips"].values()})


def digest(key: dict) -> str:
    """The study's id: a hash of profile, seed and every clip's id, model, genre, tune and prompt."""
    kept = {name: key[name] for name in ("profile", "seed", "clips")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def page(name: str, genres: list[str], sounds: dict[str, bytes]) -> str:
    """The HTML page, with the clips inside; it loads nothing else. name: the study's id. sounds: clip id -> MP3."""
    clips = {clip: base64.b64encode(sound).decode() for clip, sound in sounds.items()}
    study = {"study": name, "genres": genres, "ratings": RATINGS, "clips": clips}
    return render("listening.html", study=json.dumps(study))


# Below: reading the answers that listeners send back.


def answers(files: list[Path], key: dict) -> list[Answer]:
    """Every answer in those files. Raises ValueError, which names the file, for the first that does not fit the key."""
    given = []
    seen = {}
    for path in files:
        listener, clips = read(path, key)
        if listener in seen:
            raise ValueError(f"{path}: listener {listener} is in {seen[listener]} too: keep the later file of the two")
        seen[listener] = path
        given += [checked(path, listener, clip, said, key) for clip, said in clips.items()]
    return given


def read(path: Path, key: dict) -> tuple[str, dict]:
    """(listener, clip id -> answer, not checked yet) of one file. Raises ValueError where it is not of this study."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # also where it is no UTF-8
        raise ValueError(f"{path}: not readable as JSON: ask its listener to save once more") from None
    fields = content if isinstance(content, dict) else {}
    listener = fields.get("listener")
    clips = fields.get("answers")
    if not (isinstance(listener, str) and listener.isalnum() and isinstance(clips, dict)):
        raise ValueError(f"{path}: no answers of a listening test: give the file that the page saved")
    if fields.get("study") != key["study"]:
        raise ValueError(
            f"{path}: of study {fields.get('study')!r}, not {key['study']!r}: give --out that study's folder"
        )
    if not clips:
        raise ValueError(f"{path}: holds no answer: leave it out")
    return listener, clips


def checked(path: Path, listener: str, clip: str, said: object, key: dict) -> Answer:
    """One answer, checked. Raises ValueError where clip or genre are unknown, or a rating is not from 1 to 5."""
    where = f"{path}: clip {clip!r}"
    said = said if isinstance(said, dict) else {}
    if clip not in key["clips"]:
        raise ValueError(f"{where}: not in this study: leave the file out")
    genres = genres_of(key)
    if said.get("genre") not in genres:
        raise ValueError(f"{where}: genre {said.get('genre')!r} is not one of {', '.join(genres)}: leave the file out")
    for name in RATINGS:
        value = said.get(name)
        if type(value) is not int or not 1 <= value <= 5:
            raise ValueError(f"{where}: {name} is {value!r}, not a whole number from 1 to 5: leave the file out")
    return Answer(listener, clip, said["genre"], {name: said[name] for name in RATINGS})
