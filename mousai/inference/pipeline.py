"""The pipeline for users: prompt -> embedding -> z -> w of any length, from noise or from an existing sound (ours)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, SupportsIndex

import torch

from mousai.checkpoint import read_card
from mousai.config import Profile
from mousai.dmae import DMAE
from mousai.inference import codec
from mousai.inference.acceleration import optimize_for_cpu
from mousai.inference.audio import sample_count
from mousai.inference.checks import shown, whole
from mousai.inference.editing import InitAudio
from mousai.inference.long import Run, sample_latents
from mousai.inference.precision import choose_device
from mousai.inference.sampling import Sampling, sampling_for
from mousai.inference.windows import Replacement
from mousai.shapes import Latent, Part, Wave, to_stride
from mousai.small.profiles import get_profile
from mousai.small.stages import load_dmae, load_tcld, weights_path
from mousai.tcld import TCLD
from mousai.text import TextEncoder, check_texts, load_text_encoder

SEGMENT_TAG = re.compile(r"\b\d+ of \d+\b")


class Mousai:
    """Text encoder, TCLD and DMAE of a profile. `weights`: the folder they were loaded from; None for other networks.

    `segments`: the usual n of "k of n" in the music that stage 2 learned from, by its card, else the profile's. The
    networks can be trained. `optimized_for_cpu` returns a faster copy, which cannot.
    """

    def __init__(self, profile: Profile, text: TextEncoder, tcld: TCLD, dmae: DMAE, weights: Path | None = None):
        self.profile = profile
        self.text = text
        self.tcld = tcld
        self.dmae = dmae
        self.weights = weights
        known = read_card(weights / "tcld.safetensors").get("segments") if weights else None
        self.segments = known if isinstance(known, int) and 0 < known <= 1000 else profile.data.chunks

    @classmethod
    def load(
        cls,
        profile: str | Profile = "cpu",
        device: str | torch.device | None = None,
        weights: str | Path | None = None,
    ) -> "Mousai":
        """A profile's pipeline with the weights of a folder, by default its own; without `device` on the best one.

        Raises ValueError where stage 2 was trained on the latents of another stage 1, or the weights do not fit, and
        FileNotFoundError where weights or text encoder are missing.
        """
        profile = profile if isinstance(profile, Profile) else get_profile(str(profile))
        place = choose_device(str(device) if device else None)
        text = load_text_encoder(profile.tcld.text, place)
        folder = Path(weights) if weights else weights_path(profile, "dmae").parent
        tcld = load_tcld(profile, place, folder)
        dmae = load_dmae(profile, place, folder)
        codec.check_encoder(dmae, folder)
        return cls(profile, text, tcld, dmae, folder)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, device: str | torch.device | None = None, revision: str | None = None
    ) -> "Mousai":
        """Load what `save_pretrained` wrote to a folder, or `push_to_hub` to a repository "owner/name".

        Raises FileNotFoundError or ValueError where a file is missing, damaged or does not fit the others.
        """
        from mousai.interop import hub

        folder = hub.fetch(source, revision)
        place = choose_device(str(device) if device else None)
        profile = hub.read_profile(folder)
        tcld, dmae = hub.stages(profile, folder)
        text = load_text_encoder(profile.tcld.text, place)
        return cls(profile, text, tcld.to(place), dmae.to(place), folder)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Copy the files of weights it was loaded from to `folder`, with the profile and a README; return the folder.

        Raises ValueError for networks that come from no file.
        """
        from mousai.interop import hub

        if self.weights is None:
            raise ValueError("these nets come from no file: save them with `mousai.checkpoint.save_weights`")
        return hub.write_folder(self.profile, self.weights, Path(folder))

    def push_to_hub(self, repository: str, private: bool = True) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face repository "owner/name"; return its address."""
        from mousai.interop import hub

        with TemporaryDirectory() as folder:
            return hub.push(self.save_pretrained(folder), repository, private)

    def optimized_for_cpu(self, sampling: Sampling | None = None) -> "Mousai":
        """A copy that samples faster on a CPU, with the precisions of `sampling`, and cannot be trained."""
        sampling = sampling or self.sampling()
        tcld = optimize_for_cpu(self.tcld, sampling.tcld_precision)
        dmae = optimize_for_cpu(self.dmae, sampling.dmae_precision)
        return Mousai(self.profile, self.text, tcld, dmae, self.weights)

    def sampling(self, **changes: Any) -> Sampling:
        """The profile's sampling settings with changes, which are arguments of `sampling_for`."""
        return sampling_for(self.profile, **changes)

    def generate(
        self,
        prompts: str | Sequence[str],
        seconds: float | None = None,
        seed: SupportsIndex | Iterable[SupportsIndex] = 0,
        sampling: Sampling | None = None,
        init_audio: InitAudio | None = None,
        progress: bool = False,
    ) -> Wave:
        """One waveform per prompt, [n, 2, round(seconds * 48000)]: the parts of `stream`, concatenated.

        With several seeds, all prompts are generated with each: [seeds * n, 2, time], seed by seed. (In `stream` a list
        has one seed per prompt.)
        """
        texts = as_prompts(prompts)
        waves = []
        for one in as_seeds(seed):
            parts = self.stream(texts, seconds, one, sampling, init_audio, progress)
            waves.append(torch.cat([*parts], dim=-1))
        return torch.cat(waves)

    def stream(
        self,
        prompts: str | Sequence[str],
        seconds: float | None = None,
        seed: SupportsIndex | Iterable[SupportsIndex] = 0,
        sampling: Sampling | None = None,
        init_audio: InitAudio | None = None,
        progress: bool = False,
    ) -> Iterator[Part]:
        """Parts of the waveforms, [n, 2, time] each, from left to right; memory hardly grows with the length.

        Pass either `seconds`, or `init_audio`, which sets the length. `sampling`: what `Mousai.sampling` returns; None
        is the profile's. `seed`: one for all prompts, or one per prompt. The same prompt with the same seed gives the
        same sound, alone or among others; in a list up to rounding, about 1e-6. Nothing is clipped or normalised.

        Beyond the length of a chunk, stage 2 blends windows, and conditions each on the prompt with a segment tag
        "k of n" of its own, unless the prompt has one. Raises ValueError for an empty or too long prompt, seconds
        outside (0, 3600], an unknown sampler, or a number of seeds that is neither 1 nor n.
        """
        texts = as_prompts(prompts)
        generators = as_generators(seed, len(texts))
        sampling = sampling or self.sampling()
        samples = self.sample_count(seconds, init_audio)
        decode = partial(codec.decode, self.dmae, sampling=sampling, generators=generators, progress=progress)
        if init_audio is None:
            z = self.latents(texts, samples, generators, sampling, progress=progress)
            return decode(z, length=samples)
        z = self.edited_latents(texts, init_audio, generators, sampling, progress)
        return init_audio.render(self.dmae, z, decode)

    def sample_count(self, seconds: Any, init_audio: Any) -> int:
        """Length of the sound in samples. Raises ValueError as `audio.sample_count`, or unless exactly one is given."""
        if (init_audio is None) == (seconds is None):
            raise ValueError("give either seconds or an init_audio, whose length is used, but not both")
        if not isinstance(init_audio, InitAudio | None):
            raise ValueError(
                "init_audio is not an InitAudio: make one of a sound with variation, continuation or inpainting"
            )
        if init_audio is not None:
            seconds = init_audio.samples / self.profile.sample_rate
        assert seconds is not None
        return sample_count(seconds, self.profile.sample_rate)

    def latents(
        self,
        prompts: str | Sequence[str],
        samples: int,
        generators: Sequence[torch.Generator],
        sampling: Sampling | None = None,
        replacement: Replacement | None = None,
        progress: bool = False,
    ) -> Latent:
        """Stage 2 alone: z [n, 32, ceil(samples / 1024)], one generator per prompt; `replacement` of z / latent_std."""
        texts = as_prompts(prompts)
        sampling = sampling or self.sampling()
        length = -(-samples // self.profile.dmae.latent_stride)
        check_texts(texts)
        parts = [texts]
        if length > self.tcld.window and with_segment_tag(texts, 1, self.segments) != texts:
            parts = [with_segment_tag(texts, k, self.segments) for k in range(1, self.segments + 1)]
        run = Run(
            sampling.tcld_steps,
            sampling.tcld_sampler,
            sampling.tcld_precision,
            "text -> z" if progress else None,
            sampling.guidance,
        )
        negative = self.text([sampling.negative_prompt]) if sampling.negative_prompt else None
        embeddings = [self.text(part) for part in parts]
        return sample_latents(self.tcld, embeddings, length, run, generators, negative, replacement)

    def edited_latents(
        self,
        prompts: Sequence[str],
        init_audio: InitAudio,
        generators: Sequence[torch.Generator],
        sampling: Sampling,
        progress: bool = False,
    ) -> Latent:
        """z per prompt: at noise level 0 the sound's own, else sampled from it, in that share of the steps."""
        stride = self.profile.dmae.latent_stride
        z = codec.encode(self.dmae, init_audio.audio, self.profile.tcld.crop)
        if init_audio.noise_level == 0:
            return z.expand(len(prompts), -1, -1)
        length = to_stride(-(-init_audio.samples // stride), self.profile.tcld.unet.stride)
        x_0 = torch.nn.functional.pad(z / self.tcld.latent_std, (0, length - z.shape[-1]), mode="replicate")
        steps = max(1, round(init_audio.noise_level * sampling.tcld_steps))
        sampling = replace(sampling, tcld_steps=steps)
        replacement = init_audio.latent_replacement(x_0, stride)
        return self.latents(prompts, init_audio.samples, generators, sampling, replacement, progress)


def as_prompts(prompts: Any) -> list[str]:
    """A list of prompts; a single text is one prompt. Raises ValueError for anything that is not text."""
    texts = [*prompts] if isinstance(prompts, Iterable) and not isinstance(prompts, str) else [prompts]
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"prompts holds {shown(text)}: give a text, or a list of texts")
    return texts


def as_seeds(seed: Any) -> list[int]:
    """One seed or several as a list of int. Raises ValueError for none, or unless they are integers in [0, 2^63)."""
    try:
        several = [*seed]
    except TypeError:  # a number; also an array of one, which has no length
        several = [seed]
    if not several:
        raise ValueError("no seed is given: choose at least one number")
    return [whole("seed", one, 0, 2**63 - 1) for one in several]


def as_generators(seed: SupportsIndex | Iterable[SupportsIndex], count: int) -> list[torch.Generator]:
    """A generator for each of `count` prompts. Raises ValueError unless there is 1 seed or `count` seeds."""
    seeds = as_seeds(seed)
    if len(seeds) not in (1, count):
        raise ValueError(f"{len(seeds)} seeds for {count} prompts: give one, or one for each")
    return [torch.Generator().manual_seed(seeds[i % len(seeds)]) for i in range(count)]


def with_segment_tag(prompts: Sequence[str], k: int, n: int) -> list[str]:
    """The prompts with segment tag "k of n" appended, except to those that have a segment tag."""
    return [text if SEGMENT_TAG.search(text) else f"{text}, {k} of {n}" for text in prompts]
