"""Made-up clips and made-up listeners, for the tests of the listening test. Nobody heard any of them."""

import json
import math
import re

import pytest
import torch

from mousai import cli
from mousai.config import GENRES
from mousai.evaluation.samples import ClipSet, Prompt

RATE, MODELS = 48_000, ("ours", "real", "unconditional")
GOOD = {"genre": "Pop", "fidelity": 1, "melody": 5, "harmony": 3, "clarity": 2}


def made_up(model: str, per_genre: int = 2) -> ClipSet:
    """Tones over noise, 0.8 s, each of another level and pitch; two clips of a genre share no tune."""
    number = MODELS.index(model)
    prompts = [
        Prompt(genre, 1 + i, f"Tune {genre} {number} {i}", f"{genre}, Tune {genre} {number} {i}, {1 + i} of 4")
        for genre in GENRES
        for i in range(per_genre)
    ]

    def load(i: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(100 * number + i)
        tone = torch.sin(torch.arange(38_400) * (2 * math.pi * (200 + 40 * i + 7 * number) / RATE))
        return (0.05 + 0.02 * i) * (tone + 0.1 * torch.randn(2, 38_400, generator=generator))

    return ClipSet(model, prompts, load, {"tcld_sha256": f"of {model}"})


def key_of(folder):
    return json.loads((folder / "key.json").read_text())


def told(page: str) -> dict:
    """The data inside a page."""
    return json.loads(re.search(r'<script type="application/json" id="study">(.*?)</script>', page, re.DOTALL)[1])


def clip_of(key: dict, model: str, genre: str) -> str:
    return next(name for name, clip in key["clips"].items() if (clip["model"], clip["genre"]) == (model, genre))


def write_answers(folder, listener: str, answers: dict, /, **fields):
    path = folder / f"answers-{listener}.json"
    content = {"study": key_of(folder)["study"], "listener": listener, "answers": answers}
    path.write_text(json.dumps(content | fields))
    return path


def run(*words) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(["listen", *map(str, words)])
    return left.value.code


def by_hand(held) -> list:
    """A hears ours and the real clips, B ours alone. Of ours A mistakes Pop for Metal, B Hip Hop for Electronic."""
    key = key_of(held)
    heard = {
        "aa": {"Electronic": "Electronic", "Hip Hop": "Hip Hop", "Metal": "Metal", "Pop": "Metal"},
        "bb": {"Electronic": "Electronic", "Hip Hop": "Electronic", "Metal": "Metal", "Pop": "Pop"},
    }
    files = []
    for listener, choices in heard.items():
        given = {
            clip_of(key, "ours", genre): {"genre": choice, "fidelity": i if listener == "aa" else 5}
            | {"melody": 3, "harmony": 1, "clarity": 4}
            for i, (genre, choice) in enumerate(choices.items(), 1)
        }
        if listener == "aa":
            given |= {clip_of(key, "real", genre): GOOD | {"genre": genre} for genre in GENRES}
        files.append(write_answers(held, listener, given))
    return files
