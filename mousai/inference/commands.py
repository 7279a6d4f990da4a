"""What makers ask of the shell: music in files, edited, and made again from a file's tags; the 64x codec by itself."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from mousai.checkpoint import load_dmae
from mousai.data.decoded import Skipped, resampled_blocks
from mousai.data.sound import SAMPLE_RATE
from mousai.diffusion import get_sampler
from mousai.files import sha256
from mousai.inference import codec
from mousai.inference.codec import LatentCard, Stereo
from mousai.inference.edit import Edit, continued, inpainted, varied
from mousai.inference.metadata import Recipe, Sampling, Source, read_recipe
from mousai.inference.pipeline import Mousai, made_ready, write_audio
from mousai.inference.precision import Numerics, choose_device
from mousai.small.profiles import get_profile
from mousai.training.setup import encoder_hash

SECONDS = 20.0  # of new music where nothing is said
INIT_LEVEL = 0.6  # of an init audio


def read_sound(file: Path) -> Stereo:
    """Any file that can be imported, as 48 kHz stereo, float32 [2, samples]: resampled, mono twice.

    Held in a temporary file, not in memory. Raises ValueError where it holds no sound.
    """
    with tempfile.TemporaryFile() as held:
        try:
            for wave in resampled_blocks(file):
                held.write(np.ascontiguousarray(wave.T).tobytes())
        except Skipped as reason:
            raise ValueError(f"{file}: {reason}: choose another file") from None
        held.flush()
        if not held.tell():
            raise ValueError(f"{file}: no sound in it: choose another file")
        return torch.from_numpy(np.memmap(held, np.float32, "c", shape=(held.tell() // 8, 2))).T


def source_of(
    task: str, file: Path | None, noise_level: float | None, regions: Sequence[tuple[float, float]]
) -> tuple[Source, Stereo | None]:
    """The sound to be edited, as tags say it, and itself."""
    if file is None:
        return Source(), None
    level = (INIT_LEVEL if task == "init-audio" else 1.0) if noise_level is None else noise_level
    return Source(task, file.name, sha256(file), level, tuple(regions)), read_sound(file)


def edit_of(recipe: Recipe, w: Stereo | None) -> Edit | None:
    """What is done with w. Raises ValueError where that cannot be."""
    source = recipe.source
    if w is None:
        return None
    if source.task == "continue":
        return continued(w, round(recipe.seconds * SAMPLE_RATE))
    return inpainted(w, source.regions, source.noise_level) if source.regions else varied(w, source.noise_level)


def make(
    music: Mousai,
    prompts: list[str],
    seconds: float | None,
    seeds: list[int],
    how: Sampling,
    numerics: Numerics | None,
    source: Source,
    w: Stereo | None,
    out: Path,
) -> None:
    """A file for each prompt and seed, the seeds of a prompt together; w is the sound to be edited."""
    there = w.shape[-1] / SAMPLE_RATE if w is not None else 0.0
    length = seconds or (there if source.task in ("init-audio", "inpaint") else there + SECONDS)
    first = Recipe("", length, 0, how, music.profile.name, numerics, *weights_of(music), version_here(), source)
    recipes = [replace(first, prompt=prompt, seed=seed) for prompt in prompts for seed in seeds]
    for recipe, path in zip(recipes, names(out, len(recipes)), strict=True):
        perform(music, recipe, w, path)


def again(file: Path, out: Path, device: str) -> None:
    """The same sound from what the tags of `file` say. Raises ValueError where weights are others than those it names,
    FileNotFoundError where the sound that was edited is neither here nor beside it.
    """
    recipe = read_recipe(file)
    numerics: Numerics | None = "exact" if recipe.numerics == "exact" else "fast" if recipe.numerics else None
    w = read_sound(found(recipe.source, file)) if recipe.source.task else None
    music = Mousai.load(recipe.profile, device or None, numerics)
    if (recipe.tcld, recipe.dmae) != weights_of(music):
        raise ValueError(f"{file}: made by other weights than those of {recipe.profile} here: it cannot be made again")
    perform(music, recipe, w, out)


def perform(music: Mousai, recipe: Recipe, w: Stereo | None, out: Path) -> None:
    """Make it, write it, say so."""
    started, edit = time.monotonic(), edit_of(recipe, w)
    seconds = None if edit else recipe.seconds
    parts = music.stream([recipe.prompt], seconds, recipe.seed, recipe.how, True, edit)
    clipped = write_audio((part[0] for part in parts), out, recipe=recipe)
    note = f", {clipped} samples beyond full scale clipped" if clipped else ""
    took, samples = time.monotonic() - started, music.length_of(seconds, edit)
    made = f"{samples} samples of 48 kHz stereo in {took:.1f} s, {recipe.seconds / took:.2f} x real time{note}"
    print(f"{out}: {recipe.prompt!r}, seed {recipe.seed}: {made}")


def names(out: Path, count: int) -> list[Path]:
    """`out` itself, or of several files out-0, out-1, and so on."""
    return [out] if count == 1 else [out.with_name(f"{out.stem}-{i}{out.suffix}") for i in range(count)]


def weights_of(music: Mousai) -> tuple[str, str]:
    """sha256 of stage 2's and stage 1's weights; empty for nets that come from no file."""
    if music.weights is None:
        return "", ""
    return sha256(music.weights / "tcld.safetensors"), sha256(music.weights / "dmae.safetensors")


def version_here() -> str:
    """The version of this package; empty where it is not installed but only there."""
    try:
        return version("mousai")
    except PackageNotFoundError:
        return ""


def found(source: Source, file: Path) -> Path:
    """The sound that was edited, here or beside the file that came of it."""
    for place in (Path(Path(source.name).name), file.parent / Path(source.name).name):
        if place.is_file() and sha256(place) == source.sha256:
            return place
    raise FileNotFoundError(f"{source.name}, of which {file} was made, is neither here nor beside it: put it there")


def encode(file: Path, out: Path, profile: str, device: str) -> None:
    """A sound's latent to a file, and how many numbers that saves."""
    w, chosen = read_sound(file), get_profile(profile)
    dmae = load_dmae(chosen, choose_device(device or None))
    card = LatentCard(profile, encoder_hash(dmae), chosen.sample_rate, w.shape[-1])
    made_ready(dmae, None)
    z = codec.encode(dmae, w, chosen.tcld.crop)
    codec.save_latent(z, card, out)
    numbers = f"{w.numel()} numbers become {z.numel()}, {codec.fewer(z, card.samples):.2f} times fewer"
    print(f"{out}: z {[*z.shape]} of {card.samples} samples of 48 kHz stereo: {numbers}")


def decode(
    file: Path, out: Path, steps: int | None, seed: int, sampler: str | None, numerics: Numerics | None, device: str
) -> None:
    """A latent's sound. Raises ValueError where these weights cannot read it."""
    z, card = codec.load_latent(file)
    chosen, place, started = get_profile(card.profile), choose_device(device or None), time.monotonic()
    dmae = load_dmae(chosen, place)
    if card.encoder != encoder_hash(dmae) or z.shape[1] != chosen.dmae.encoder.latent_channels:
        raise ValueError(f"{file}: encoded by other weights than those of {card.profile} here: encode the sound again")
    made_ready(dmae, numerics)
    solver, usual = get_sampler(sampler or chosen.sampling.sampler), chosen.sampling.dmae_steps
    generator = torch.Generator().manual_seed(seed)
    parts = dmae.stream(z.to(place), steps or usual, generator, card.samples, "z -> w", solver)
    clipped = write_audio((part[0] for part in parts), out, card.sample_rate)
    note = f", {clipped} samples beyond full scale clipped" if clipped else ""
    print(f"{out}: {card.samples} samples of 48 kHz stereo in {time.monotonic() - started:.1f} s{note}")
