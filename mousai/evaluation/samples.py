"""The clips that every metric measures, each with its prompt. They are never clipped, normalised or selected.

Generated and reconstructed clips are cached under `runs/samples`, in a folder named by a hash of weights, data and
settings, so that notebooks 06, 07, 08 and 10 measure the same ones. An interrupted run continues at the next batch.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mousai.checkpoint import save_tensors
from mousai.data.dataset import Workspace
from mousai.data.records import Record, prompt
from mousai.files import sha256
from mousai.inference.pipeline import Mousai
from mousai.inference.precision import choose_device
from mousai.progress import progress_bar
from mousai.small.stages import weights_path

BATCH = 4  # clips made at a time, to bound memory
NOISE_RMS = 0.1
AFTER_SAMPLING = ("refinement_steps", "phase_share", "magnitude_contrast")  # fields of `SmallDMAEConfig`


class Prompt(NamedTuple):
    """What a clip was generated for. k: segment, from 1. title: the tune. text: the whole prompt."""

    genre: str
    k: int
    title: str
    text: str


@dataclass(frozen=True)
class ClipSet:
    """Clips with their prompts, read one at a time: `clips[i]` is a waveform [2, time].

    load: number of a clip -> its waveform. context: the settings that the clips were made with.
    """

    name: str
    prompts: Sequence[Prompt]
    load: Callable[[int], Tensor]
    context: dict

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, i: int) -> Tensor:
        if not 0 <= i < len(self):
            raise IndexError(f"clip {i} of {len(self)} in set {self.name!r}")
        return self.load(i)

    @property
    def genres(self) -> list[str]:
        """The prompted genre of each clip."""
        return [prompt.genre for prompt in self.prompts]

    @property
    def titles(self) -> list[str]:
        """The tune of each clip: the groups that `bootstrap` resamples as a whole."""
        return [prompt.title for prompt in self.prompts]

    def of_genres(self, genres: Sequence[str]) -> "ClipSet":
        """The clips of these genres, because a test piece may have a genre that no training piece has."""
        picks = [i for i, prompt in enumerate(self.prompts) if prompt.genre in genres]
        return replace(self, prompts=[self.prompts[i] for i in picks], load=lambda i: self.load(picks[i]))

    def first(self, n: int) -> "ClipSet":
        """The first n clips, or all where there are fewer."""
        return replace(self, prompts=self.prompts[:n])


def as_prompt(work: Workspace, record: Record, k: int) -> Prompt:
    """The prompt of chunk k of a record, without the elements that would make it too long for the text encoder."""
    return Prompt(record.genre, k, record.title, prompt(record, k, work.fits))


def held_out(work: Workspace) -> Sequence[Record]:
    """The records of the test split. Raises ValueError where it is empty."""
    records = work.data.records("test")
    if not records:
        mend = "import more music, three pieces at least, or by a list whose column `split` says test"
        raise ValueError(f"{work.root}: no piece is in the test split, so nothing can be evaluated: {mend}")
    return records


def evaluation_prompts(work: Workspace, per_genre: int | None = None) -> list[Prompt]:
    """`per_genre` prompts for each genre of the data set, from the records of the test split.

    Segments "k of n" rotate, so that all n are prompted equally often. Where there are more prompts than pieces, pieces
    are used again with another k. A genre without test pieces uses those of other genres under its own name.
    """
    records = held_out(work)
    count = per_genre or work.profile.evaluation.prompts_per_genre
    prompts = []
    for g, genre in enumerate(work.data.genres or ("",)):
        own = [record for record in records if record.genre == genre]
        own = own or [replace(record, genre=genre) for record in records]
        for i in range(count):
            turn, tune = divmod(i, len(own))
            k = (2 * g + tune + turn) % own[tune].chunks + 1
            prompts.append(as_prompt(work, own[tune], k))
    return prompts


def prompts_of_all_seeds(work: Workspace, per_genre: int | None = None) -> list[Prompt]:
    """The prompt of each generated clip: all evaluation prompts, repeated `evaluation.seeds` times."""
    return evaluation_prompts(work, per_genre) * work.profile.evaluation.seeds


def generated_set(work: Workspace, unconditional: bool = False, per_genre: int | None = None) -> ClipSet:
    """`evaluation.seeds` clips of a chunk's length for each evaluation prompt, by the weights in use; cached.

    No two start from the same noise. unconditional: guidance 0, so that the text has no influence; three tenths as many
    clips (at least 4), with prompts from the same list to score them against.
    """
    profile = work.profile
    prompts = prompts_of_all_seeds(work, per_genre)
    if unconditional:
        count = max(4, 3 * len(prompts) // 10)
        prompts = [prompts[i] for i in np.linspace(0, len(prompts) - 1, count).astype(int)]
    name = "unconditional" if unconditional else "generated"
    sampling = asdict(profile.sampling) | ({"guidance": 0.0} if unconditional else {})
    context = model_context(work, ("dmae", "tcld")) | sampling | {"seed": profile.seed}
    model = cache(lambda: Mousai.load(profile, work.device).optimized_for_cpu())  # only where a clip is missing

    def make(indices: list[int]) -> Tensor:
        texts = [prompts[i].text for i in indices]
        seconds = profile.tcld.crop / profile.sample_rate
        seeds = [1000 * profile.seed + i for i in indices]
        how = model().sampling(guidance=sampling["guidance"])
        return torch.cat([*model().stream(texts, seconds, seeds, how)], dim=-1)

    return cached(work, name, prompts, make, context)


def pairs_of_prompts(ours: ClipSet, real: ClipSet) -> tuple[list[int], list[int]]:
    """(positions in `ours`, positions in `real`) of the clips whose prompt occurs in both sets."""
    shared = set(ours.prompts) & set(real.prompts)
    picks = [[i for i, prompt in enumerate(clips.prompts) if prompt in shared] for clips in (ours, real)]
    return picks[0], picks[1]


def noise_set(work: Workspace) -> ClipSet:
    """White Gaussian noise with the generated clips' prompts: channels independent, RMS 0.1, clip i from seed i."""
    shape = (2, work.profile.tcld.crop)

    def load(i: int) -> Tensor:
        return NOISE_RMS * torch.randn(shape, generator=torch.Generator().manual_seed(i))

    return ClipSet("noise", prompts_of_all_seeds(work), load, {"crop": shape[1], "rms": NOISE_RMS})


def silence_set(work: Workspace) -> ClipSet:
    """Zeros with the generated clips' prompts."""
    shape = (2, work.profile.tcld.crop)
    return ClipSet("silence", prompts_of_all_seeds(work), lambda i: torch.zeros(shape), {"crop": shape[1]})


def shuffled(clips: ClipSet, seed: int = 0) -> ClipSet:
    """The same sounds, each with another prompt: prompts move along a random cycle, so that no sound keeps its own."""
    distinct = list(dict.fromkeys(clips.prompts))
    order = np.random.default_rng(seed).permutation(len(distinct))
    others = {distinct[i]: distinct[j] for i, j in zip(order, np.roll(order, 1), strict=True)}
    prompts = [others[prompt] for prompt in clips.prompts]
    return ClipSet("shuffled", prompts, clips.load, clips.context | {"shuffle_seed": seed})


def model_context(work: Workspace, names: tuple[str, ...]) -> dict:
    """What a cached clip depends on beside sampling: sha256 of the weights `names`, what is done after sampling, the
    clip's length, the device. Raises FileNotFoundError where weights are missing.
    """
    profile = work.profile
    paths = {name: weights_path(profile, name) for name in names}
    for path in paths.values():
        if not path.is_file():
            train = f"mousai train {path.stem.replace('_', '-')} --profile {profile.name} --ship"
            raise FileNotFoundError(f"no weights at {path}: train them with `{train}`")
    hashes = {f"{name}_sha256": sha256(path) for name, path in paths.items()}
    after = {name: getattr(profile.dmae, name) for name in AFTER_SAMPLING if hasattr(profile.dmae, name)}
    return hashes | after | {"crop": profile.tcld.crop, "device": choose_device(work.device).type}


def cached(
    work: Workspace, name: str, prompts: Sequence[Prompt], make: Callable[[list[int]], Tensor], context: dict
) -> ClipSet:
    """A set of cached clips. `make`: numbers of clips -> their waveforms [n, 2, time]; it is called for what is
    missing.

    The cache's folder depends on `context`, the prompts and the data set.
    """
    settings = json.dumps([context, prompts, work.data.key, BATCH], sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
    folder = work.runs / "samples" / f"{work.name}-{name}-{digest}"
    batches = [list(range(i, min(i + BATCH, len(prompts)))) for i in range(0, len(prompts), BATCH)]
    missing = [batch for batch in batches if not all(clip_path(folder, i).is_file() for i in batch)]
    for batch in progress_bar(missing, f"{name} clips", unit="batch", show=bool(missing)):
        for i, w in zip(batch, make(batch), strict=True):
            save_tensors({"w": w}, clip_path(folder, i))
    return ClipSet(name, list(prompts), lambda i: load_file(clip_path(folder, i))["w"], context)


def clip_path(folder: Path, i: int) -> Path:
    """The file of clip i."""
    return folder / f"{i:04d}.safetensors"
