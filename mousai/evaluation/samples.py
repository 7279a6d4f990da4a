"""The clips every metric looks at, and the prompt each stands for. All raw: never clipped, normalised or picked out.

Generated and reconstructed clips are kept under `runs/samples`, in a folder named by a hash of weights and settings, so
that notebooks 06, 07, 08 and 10 hear the same ones. An interrupted run goes on at the next batch.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mousai.checkpoint import load_dmae, save_tensors, weights_path
from mousai.config import Profile
from mousai.data.clips import RandomCrops
from mousai.data.embedded import data_dir, load_records
from mousai.data.records import Record, load_chunk, prompt
from mousai.diffusion import get_sampler
from mousai.evaluation.griffin_lim import fit_pca, pca_griffin_lim, reader_griffin_lim
from mousai.files import home, sha256
from mousai.inference.pipeline import Mousai
from mousai.inference.precision import choose_device
from mousai.progress import progress_bar
from mousai.shapes import Wave
from mousai.small.profiles import GENRES

BATCH = 4  # clips made at a time: bounds memory
NOISE_RMS = 0.1
PCA_CROPS = 64  # training crops the yardstick learns its directions from, as in notebook 04
ITERATIONS = 32  # of Griffin-Lim
AFTER_SAMPLING = ("polish", "phase_share", "magnitude_contrast")  # stage 1's fields


class Prompt(NamedTuple):
    """What a clip was asked to be. k counts segments from 1; `title` is the tune, which the splits keep apart."""

    genre: str
    k: int
    title: str
    text: str


@dataclass(frozen=True)
class ClipSet:
    """Clips with their prompts, read one at a time: `clips[i]` is a waveform [2, time]."""

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
        """The genre asked for, one a clip."""
        return [prompt.genre for prompt in self.prompts]

    @property
    def titles(self) -> list[str]:
        """The tune of each clip: the groups that `bootstrap` keeps together."""
        return [prompt.title for prompt in self.prompts]

    def first(self, n: int) -> "ClipSet":
        """The first n clips, or all where there are fewer."""
        return replace(self, prompts=self.prompts[:n])


def evaluation_prompts(profile: Profile, per_genre: int | None = None) -> list[Prompt]:
    """`per_genre` prompts for each of the four genres, from test records: no tune of theirs was seen in training.

    Segments "k of n" rotate, so that all n are asked for equally often. More prompts than tunes start over with another
    k; a genre without test tunes borrows the others' tunes under its own name.
    """
    records = load_records(profile, "test")
    count = per_genre or profile.evaluation.prompts_per_genre
    prompts = []
    for g, genre in enumerate(GENRES):
        own = [record for record in records if record.genre == genre]
        own = own or [replace(record, genre=genre) for record in records]
        for i in range(count):
            record, k = own[i % len(own)], (2 * g + i % len(own) + i // len(own)) % profile.data.chunks + 1
            prompts.append(as_prompt(record, k))
    return prompts


def asked(profile: Profile, per_genre: int | None = None) -> list[Prompt]:
    """The prompt of each generated clip: every evaluation prompt once a seed, all of one seed before the next."""
    return evaluation_prompts(profile, per_genre) * profile.evaluation.seeds


def as_prompt(record: Record, k: int) -> Prompt:
    """The prompt of chunk k of a record."""
    return Prompt(record.genre, k, record.title, prompt(record, k))


def generated_set(
    profile: Profile, device: str | None = None, unconditional: bool = False, per_genre: int | None = None
) -> ClipSet:
    """`evaluation.seeds` clips of a chunk's length for each evaluation prompt, by the shipped weights; read from disk
    once made. No two start from the same noise.

    `unconditional`: guidance 0, so the text has no say; three tenths as many clips, scored against the same prompts.
    """
    prompts = asked(profile, per_genre)
    if unconditional:
        prompts = [prompts[i] for i in np.linspace(0, len(prompts) - 1, max(4, 3 * len(prompts) // 10)).astype(int)]
    name = "unconditional" if unconditional else "generated"
    sampling = asdict(profile.sampling) | ({"guidance": 0.0} if unconditional else {})
    context = model_context(profile, device, ("dmae", "tcld")) | sampling | {"seed": profile.seed}
    model: list[Mousai] = []

    def make(indices: list[int]) -> Tensor:
        model[:] = model or [Mousai.load(profile, device)]
        texts = [prompts[i].text for i in indices]
        seconds, seed = profile.tcld.crop / profile.sample_rate, 1000 * profile.seed + indices[0]
        return model[0].generate(texts, seconds, seed, guidance=sampling["guidance"])

    return cached(profile, name, prompts, make, context)


def reconstruction_set(profile: Profile, device: str | None = None) -> ClipSet:
    """The chunks of `original_set` through stage 1 and back."""
    real = original_set(profile)
    steps, sampler = profile.sampling.dmae_steps, profile.sampling.sampler
    context = model_context(profile, device, ("dmae",))
    context |= {"dmae_steps": steps, "sampler": sampler, "seed": profile.seed}
    model = []

    def make(indices: list[int]) -> Tensor:
        model[:] = model or [load_dmae(profile, choose_device(device))]
        w = torch.stack([real[i] for i in indices]).to(next(model[0].parameters()).device)
        generator = torch.Generator().manual_seed(1000 * profile.seed + indices[0])
        return model[0].decode(model[0].encode(w), steps, generator, w.shape[-1], None, get_sampler(sampler))

    return cached(profile, "reconstruction", real.prompts, make, context)


def original_set(profile: Profile) -> ClipSet:
    """`evaluation.reconstructions` real test chunks, from the first half of the pieces."""
    pieces = held_out_pieces(profile)
    return in_turn(profile, pieces[: max(1, len(pieces) // 2)], profile.evaluation.reconstructions)


def other_set(profile: Profile) -> ClipSet:
    """As many real test chunks, from the other half."""
    pieces = held_out_pieces(profile)
    return in_turn(profile, pieces[len(pieces) // 2 :], profile.evaluation.reconstructions)


def in_turn(profile: Profile, pieces: Sequence[Record], n: int) -> ClipSet:
    """n chunks, at most all, of as many of those pieces as there are: two clips of one piece say much the same.

    Genres and segments "k of n" take turns too; when every piece has given one chunk, each gives its next.
    """
    chunks = profile.data.chunks
    turns = [divmod(i, len(pieces)) for i in range(min(n, chunks * len(pieces)))]
    return chunk_set(profile, [(pieces[i], (i + i // len(GENRES) + turn) % chunks + 1) for turn, i in turns])


def pca_set(profile: Profile) -> ClipSet:
    """The chunks of `reconstruction_set` through the yardstick: PCA to as many numbers, then Griffin-Lim."""
    real, dmae, pca = original_set(profile), profile.dmae, []
    context = {"crop": profile.tcld.crop, "n_fft": dmae.n_fft, "hop": dmae.hop, "iterations": ITERATIONS}
    context |= {"directions": dmae.encoder.latent_channels, "pca_crops": PCA_CROPS, "seed": profile.seed}

    def make(indices: list[int]) -> Tensor:
        pca[:] = pca or [fit_pca(training_crops(profile), dmae, profile.seed)]
        return pca_griffin_lim(torch.stack([real[i] for i in indices]), pca[0], dmae, ITERATIONS)

    return cached(profile, "pca_griffin_lim", real.prompts, make, context)


def training_crops(profile: Profile) -> Wave:
    """What the yardstick learns from: random crops of the train split [64, 2, crop]."""
    records, root = load_records(profile, "train"), data_dir(profile)
    return RandomCrops(records, root, profile.dmae.crop, PCA_CROPS, profile.seed)(0)


def griffin_lim_set(profile: Profile, device: str | None = None) -> ClipSet:
    """The chunks of `reconstruction_set` from what the DMAE's reader reads of z, without diffusion.

    Raises ValueError where the profile's DMAE has no reader.
    """
    if not (profile.dmae.envelope_bands or profile.dmae.readout_weight):
        raise ValueError(f"profile {profile.name}: its DMAE has no reader: there is nothing to start Griffin-Lim from")
    real, model = original_set(profile), []
    context = model_context(profile, device, ("dmae",)) | {"iterations": ITERATIONS, "seed": profile.seed}

    def make(indices: list[int]) -> Tensor:
        model[:] = model or [load_dmae(profile, choose_device(device))]
        return reader_griffin_lim(model[0], torch.stack([real[i] for i in indices]), ITERATIONS, profile.seed)

    return cached(profile, "griffin_lim_from_z", real.prompts, make, context)


def model_context(profile: Profile, device: str | None, names: tuple[str, ...]) -> dict:
    """Which weights, by sha256, what length, and what is done after sampling: all that two runs' clips can differ by.

    Raises FileNotFoundError where weights are not shipped.
    """
    paths = {name: weights_path(profile, name) for name in names}
    for path in paths.values():
        if not path.is_file():
            raise FileNotFoundError(f"no weights at {path}: train them with `mousai train {path.stem}`")
    hashes = {f"{name}_sha256": sha256(path) for name, path in paths.items()}
    after = {name: getattr(profile.dmae, name) for name in AFTER_SAMPLING}
    return hashes | after | {"crop": profile.tcld.crop, "device": choose_device(device).type}


def cached(profile: Profile, name: str, prompts: Sequence[Prompt], make: Callable, context: dict) -> ClipSet:
    """Make what is missing, in batches of 4, each file written aside and renamed; returns the set that reads them."""
    settings = json.dumps([context, prompts, data_dir(profile).name, BATCH], sort_keys=True)
    folder = home() / "samples" / f"{profile.name}-{name}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    batches = [list(range(i, min(i + BATCH, len(prompts)))) for i in range(0, len(prompts), BATCH)]
    missing = [batch for batch in batches if not all(clip_path(folder, i).is_file() for i in batch)]
    for batch in progress_bar(missing, f"{name} clips", unit="batch", show=bool(missing)):
        for i, w in zip(batch, make(batch), strict=True):
            save_tensors({"w": w}, clip_path(folder, i))
    return ClipSet(name, list(prompts), lambda i: load_file(clip_path(folder, i))["w"], context)


def clip_path(folder: Path, i: int) -> Path:
    return folder / f"{i:04d}.safetensors"


def shuffled(clips: ClipSet, seed: int = 0) -> ClipSet:
    """The same sounds, each beside another prompt: a random cycle of the prompts, so that no sound keeps its own."""
    distinct = list(dict.fromkeys(clips.prompts))
    order = np.random.default_rng(seed).permutation(len(distinct))
    others = {distinct[i]: distinct[j] for i, j in zip(order, np.roll(order, 1), strict=True)}
    prompts = [others[prompt] for prompt in clips.prompts]
    return ClipSet("shuffled", prompts, clips.load, clips.context | {"shuffle_seed": seed})


def noise_set(profile: Profile) -> ClipSet:
    """White noise beside the generated clips' prompts: Gaussian, channels independent, RMS 0.1, clip i from seed i."""
    shape = (2, profile.tcld.crop)

    def load(i: int) -> Tensor:
        return NOISE_RMS * torch.randn(shape, generator=torch.Generator().manual_seed(i))

    return ClipSet("noise", asked(profile), load, {"crop": profile.tcld.crop, "rms": NOISE_RMS})


def silence_set(profile: Profile) -> ClipSet:
    """Exact zeros beside the generated clips' prompts."""
    shape = (2, profile.tcld.crop)
    return ClipSet("silence", asked(profile), lambda i: torch.zeros(shape), {"crop": profile.tcld.crop})


def held_out_pieces(profile: Profile) -> list[Record]:
    """The test records, one of each genre in turn, so that any first few are balanced."""
    records = load_records(profile, "test")
    by_genre = [[record for record in records if record.genre == genre] for genre in GENRES]
    longest = max(len(own) for own in by_genre)
    return [own[i] for i in range(longest) for own in by_genre if i < len(own)]


def real_clips(profile: Profile, records: Sequence[Record], limit: int) -> ClipSet:
    """Every chunk of those records, whole pieces in order, at most `limit` clips."""
    items = [(record, k) for record in records for k in range(1, record.chunks + 1)]
    return chunk_set(profile, items[:limit])


def chunk_set(profile: Profile, items: Sequence[tuple[Record, int]]) -> ClipSet:
    """Those chunks (record, k), each with its own prompt; read from the data set."""
    root = data_dir(profile)
    prompts = [as_prompt(record, k) for record, k in items]
    load = lambda i: torch.from_numpy(load_chunk(items[i][0], items[i][1], root))  # noqa: E731
    return ClipSet("real", prompts, load, {"crop": profile.tcld.crop, "split": "test"})


def real_set(profile: Profile) -> ClipSet:
    """Real test music, each chunk with its own prompt: the ceiling."""
    return real_clips(profile, held_out_pieces(profile), profile.evaluation.real_clips)


def real_halves(profile: Profile, n: int) -> tuple[ClipSet, ClipSet]:
    """(at most n clips that stand for "real", the reference): two sets of real test music that share no piece."""
    pieces = held_out_pieces(profile)
    first = max(1, min(-(-n // profile.data.chunks), len(pieces) // 2))
    limit = profile.evaluation.real_clips
    return real_clips(profile, pieces[:first], n), real_clips(profile, pieces[first:], limit)
