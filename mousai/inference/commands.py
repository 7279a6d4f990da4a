"""What the commands generate, encode and decode do; `mousai.cli` parses their arguments."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mousai.config import Profile
from mousai.files import sha256
from mousai.inference import codec
from mousai.inference.audio import SAMPLE_RATE, Stereo, check_measurable, read_audio, sample_count, write_audio
from mousai.inference.codec import LatentCard, encoder_hash
from mousai.inference.editing import InitAudio, continuation, inpainting, variation
from mousai.inference.metadata import GenerationMetadata, SourceAudio, read_metadata
from mousai.inference.pipeline import Mousai, as_generators, optimize_for_cpu
from mousai.inference.precision import choose_device, set_gpu_precision
from mousai.inference.sampling import Sampling, sampling_for
from mousai.small.profiles import get_profile
from mousai.small.stages import describe_weights, load_dmae, weights_path

SECONDS = 20.0  # of new music by default
INIT_LEVEL = 0.6  # default noise level of the task init-audio


def load(profile: str, device: str, sampling: Sampling, weights: Path | None = None) -> Mousai:
    """The pipeline with the weights of a folder, by default the profile's; on a CPU as an accelerated copy.

    With an empty `device` the best one is used. Calls `set_gpu_precision`, which holds for the whole process.
    """
    set_gpu_precision(sampling.tcld_precision)
    return Mousai.load(profile, device or None, weights).optimized_for_cpu(sampling)


def say_weights(profile: Profile, weights: Path | None, *names: str) -> None:
    """Print on stderr which files of weights are used, a line for each of `names`."""
    for name in names:
        print(f"{name}: {describe_weights(weights_path(profile, name, weights))}", file=sys.stderr)


def source_audio(
    task: str, file: Path | None, noise_level: float | None, regions: Sequence[tuple[float, float]]
) -> tuple[SourceAudio, Stereo | None]:
    """The sound to be edited: its description for the metadata, and its samples; without a file an empty one, None."""
    if file is None:
        return SourceAudio(), None
    level = (INIT_LEVEL if task == "init-audio" else 1.0) if noise_level is None else noise_level
    return SourceAudio(task, file.name, sha256(file), level, tuple(regions)), read_audio(file)


def init_audio_of(source: SourceAudio, w: Stereo | None, seconds: float) -> InitAudio | None:
    """The `InitAudio` of w for the source's task, None without w. Raises as the task's function."""
    if w is None:
        return None
    if source.task == "continue":
        return continuation(w, round(seconds * SAMPLE_RATE))
    if source.task == "inpaint":
        return inpainting(w, source.regions, source.noise_level)
    return variation(w, source.noise_level)


def planned_seconds(source: SourceAudio, w: Stereo | None, seconds: float | None, loudness: float | None) -> float:
    """The length of each file, by default that of the sound to be edited, 20 s more where it is continued.

    Raises ValueError, before anything is loaded, where the sound cannot be so edited, or a loudness not be measured.
    """
    if seconds is None:
        there = w.shape[-1] / SAMPLE_RATE if w is not None else 0.0
        seconds = there if source.task in ("init-audio", "inpaint") else there + SECONDS
    samples = sample_count(seconds)
    init_audio_of(source, w, seconds)
    if loudness is not None:
        check_measurable(samples)
    return seconds


def shared_metadata(
    music: Mousai,
    sampling: Sampling,
    seconds: float,
    source: SourceAudio,
    loudness: float | None,
) -> GenerationMetadata:
    """The metadata that all files of a command share; prompt and seed are still empty."""
    tcld_sha256, dmae_sha256 = weights_sha256(music)
    return GenerationMetadata(
        prompt="",
        seconds=seconds,
        seed=0,
        sampling=sampling,
        profile=music.profile.name,
        tcld_sha256=tcld_sha256,
        dmae_sha256=dmae_sha256,
        version=package_version(),
        source=source,
        loudness=loudness,
    )


def generate(
    music: Mousai,
    prompts: Sequence[str],
    seeds: Sequence[int],
    shared: GenerationMetadata,
    w: Stereo | None,
    outputs: Sequence[Path],
) -> None:
    """Write one of `outputs` for each prompt and seed; seeds vary fastest. w is the sound to be edited."""
    say_weights(music.profile, music.weights, "tcld", "dmae")
    wanted = [replace(shared, prompt=prompt, seed=seed) for prompt in prompts for seed in seeds]
    for metadata, path in zip(wanted, outputs, strict=True):
        generate_file(music, metadata, w, path)


def generate_again(file: Path, out: Path, device: str, weights: Path | None = None) -> None:
    """Generate the sound of `file` again, from the metadata in its tags, and write it to `out`.

    Raises ValueError where the tags name other weights, FileNotFoundError where the sound that was edited is neither in
    the current folder nor beside `file`.
    """
    metadata = read_metadata(file)
    source = find_source(metadata.source, file) if metadata.source.task else None
    refuse_overwriting([out], file, source)
    w = read_audio(source) if source else None
    music = load(metadata.profile, device, metadata.sampling, weights)
    if (metadata.tcld_sha256, metadata.dmae_sha256) != weights_sha256(music):
        raise ValueError(
            f"{file}: made by other weights than those of {metadata.profile} here: it cannot be made again"
        )
    say_weights(music.profile, music.weights, "tcld", "dmae")
    generate_file(music, metadata, w, out)


def generate_file(music: Mousai, metadata: GenerationMetadata, w: Stereo | None, path: Path) -> None:
    """Generate one sound, write it, and print a line about it."""
    started = time.monotonic()
    init_audio = init_audio_of(metadata.source, w, metadata.seconds)
    seconds = None if init_audio else metadata.seconds
    parts = music.stream([metadata.prompt], seconds, metadata.seed, metadata.sampling, init_audio, progress=True)
    clipped = write_audio((part[0] for part in parts), path, metadata=metadata, loudness=metadata.loudness)
    samples = music.sample_count(seconds, init_audio)
    print(f"{path}: {metadata.prompt!r}, seed {metadata.seed}: {summary(samples, time.monotonic() - started, clipped)}")


def summary(samples: int, took: float, clipped: int) -> str:
    """One line: samples of sound, seconds that it took, real-time factor, and how many samples were clipped."""
    note = f", {clipped} samples beyond full scale clipped" if clipped else ""
    factor = took * SAMPLE_RATE / samples
    return f"{samples} samples of 48 kHz stereo in {took:.1f} s, real-time factor {factor:.2f}{note}"


def refuse_overwriting(outputs: Sequence[Path], *inputs: Path | None) -> None:
    """Raise ValueError where an output is one of the input files, also by another name; OSError for too long a name."""
    for out in outputs:
        for file in inputs:
            if out.exists() and file is not None and file.exists() and out.samefile(file):
                raise ValueError(f"{out}: it would replace the sound it is made from: choose another --out")


def numbered(out: Path, count: int) -> list[Path]:
    """The names of `count` files: `out` itself for one, else out-0, out-1, and so on."""
    return [out] if count == 1 else [out.with_name(f"{out.stem}-{i}{out.suffix}") for i in range(count)]


def weights_sha256(music: Mousai) -> tuple[str, str]:
    """sha256 of stage 2's and of stage 1's weights; empty texts for networks that come from no file."""
    if music.weights is None:
        return "", ""
    return sha256(music.weights / "tcld.safetensors"), sha256(music.weights / "dmae.safetensors")


def package_version() -> str:
    """The version of this package; empty where it is used without being installed."""
    try:
        return version("mousai")
    except PackageNotFoundError:
        return ""


def find_source(source: SourceAudio, file: Path) -> Path:
    """The sound that was edited, by name and sha256, in the current folder or beside `file`; else FileNotFoundError."""
    name = Path(source.name).name
    for place in (Path(name), file.parent / name):
        if place.is_file() and sha256(place) == source.sha256:
            return place
    raise FileNotFoundError(f"{source.name}, of which {file} was made, is neither here nor beside it: put it there")


def encode(file: Path, out: Path, profile: str, device: str, weights: Path | None = None) -> None:
    """Encode a sound, write its latent to `out`, and print how many numbers that saves."""
    w = read_audio(file)
    chosen = get_profile(profile)
    set_gpu_precision(chosen.sampling.dmae_precision)
    dmae = load_dmae(chosen, choose_device(device or None), weights)
    say_weights(chosen, weights, "dmae")
    card = LatentCard(profile, encoder_hash(dmae), chosen.sample_rate, w.shape[-1])
    z = codec.encode(optimize_for_cpu(dmae), w, chosen.tcld.crop)
    codec.save_latent(z, card, out)
    saved = f"{w.numel()} numbers become {z.numel()}, {codec.compression(z, card.samples):.2f} times fewer"
    print(f"{out}: z {[*z.shape]} of {card.samples} samples of 48 kHz stereo: {saved}")


def decode(
    file: Path,
    out: Path,
    changes: dict[str, Any],
    seed: int,
    loudness: float | None,
    device: str,
    weights: Path | None = None,
) -> None:
    """Decode a file of `encode` and write the sound to `out`; `changes` are arguments of `sampling_for`.

    Raises ValueError where another encoder made the latent.
    """
    started = time.monotonic()
    z, card = codec.load_latent(file)
    if loudness is not None:
        check_measurable(card.samples, card.sample_rate)
    profile = get_profile(card.profile)
    place = choose_device(device or None)
    dmae = load_dmae(profile, place, weights)
    if card.encoder != encoder_hash(dmae) or z.shape[1] != profile.dmae.encoder.latent_channels:
        raise ValueError(f"{file}: encoded by other weights than those of {card.profile} here: encode the sound again")
    say_weights(profile, weights, "dmae")
    sampling = sampling_for(profile, **changes)
    set_gpu_precision(sampling.dmae_precision)
    optimized = optimize_for_cpu(dmae, sampling.dmae_precision)
    parts = codec.decode(optimized, z.to(place), sampling, as_generators(seed, 1), card.samples, progress=True)
    clipped = write_audio((part[0] for part in parts), out, card.sample_rate, loudness=loudness)
    print(f"{out}: {summary(card.samples, time.monotonic() - started, clipped)}")
