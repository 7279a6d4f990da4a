"""prompt -> embedding -> z -> w: both stages in a row, any length."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import soundfile
import torch
from torch import Tensor

from mousai.checkpoint import load_dmae, load_tcld, weights_path
from mousai.config import Profile
from mousai.diffusion import Guidance, get_sampler
from mousai.dmae import DMAE
from mousai.files import aside
from mousai.inference import codec
from mousai.inference.codec import Stereo
from mousai.inference.edit import Edit
from mousai.inference.metadata import Recipe, Sampling, write_recipe
from mousai.inference.precision import Numerics, choose_device, chosen, set_numerics
from mousai.inference.windows import Given
from mousai.inference.winograd import quicken
from mousai.interop import hub
from mousai.shapes import Latent, Part, Wave, to_stride
from mousai.small.profiles import get_profile
from mousai.tcld import TCLD
from mousai.text import TextEncoder, check_texts, load_text_encoder

MAX_SECONDS = 3600
PART = re.compile(r"\b\d+ of \d+\b")
Stage = TypeVar("Stage", TCLD, DMAE)
FORMATS = {".wav": ("WAV", "PCM_24"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}


class Mousai:
    """The whole stack: text encoder, TCLD, DMAE."""

    def __init__(self, profile: Profile, text: TextEncoder, tcld: TCLD, dmae: DMAE, weights: Path | None = None):
        self.profile, self.text, self.tcld, self.dmae, self.weights = profile, text, tcld, dmae, weights

    @classmethod
    def load(
        cls,
        profile: str | Profile = "cpu",
        device: str | torch.device | None = None,
        numerics: Numerics | None = None,
    ) -> "Mousai":
        """The profile's shipped weights, from local files only.

        `numerics`: "exact" is float32 throughout, the same sum every time; "fast" takes bfloat16 and TF32 where this
        machine is measured to be faster with them; without it, as the profile says.
        """
        profile = get_profile(profile) if isinstance(profile, str) else profile
        place = choose_device(str(device) if device else None)
        text = load_text_encoder(profile.tcld.text, place)
        folder = weights_path(profile, "dmae").parent
        return cls(profile, text, load_tcld(profile, place), load_dmae(profile, place), folder).counting(numerics)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        device: str | torch.device | None = None,
        numerics: Numerics | None = None,
        revision: str | None = None,
    ) -> "Mousai":
        """What `save_pretrained` wrote to a folder, or `push_to_hub` to a repository "name/of-it".

        Raises FileNotFoundError or ValueError where a file is missing, damaged or does not fit the others.
        """
        folder, place = hub.fetch(source, revision), choose_device(str(device) if device else None)
        profile = hub.read_profile(folder)
        tcld, dmae = hub.stages(profile, folder)
        text = load_text_encoder(profile.tcld.text, place)
        return cls(profile, text, tcld.to(place), dmae.to(place), folder).counting(numerics)

    def save_pretrained(self, folder: str | Path) -> Path:
        """The weights it was loaded from, to the bit, with the profile and a page; returns the folder.

        Raises ValueError for nets that were made by hand."""
        if self.weights is None:
            raise ValueError("these nets come from no file: save them with `mousai.checkpoint.save_weights`")
        return hub.write_folder(self.profile, self.weights, Path(folder))

    def push_to_hub(self, repository: str, private: bool = True) -> str:
        """The same to a repository of the hub, "name/of-it"; returns its address."""
        with TemporaryDirectory() as folder:
            return hub.push(self.save_pretrained(folder), repository, private)

    def counting(self, numerics: Numerics | None) -> "Mousai":
        """Itself, made ready to sample with these numerics."""
        self.tcld, self.dmae = made_ready(self.tcld, numerics), made_ready(self.dmae, numerics)
        return self

    def sampling(
        self,
        tcld_steps: int | None = None,
        dmae_steps: int | None = None,
        guidance: float | Guidance | None = None,
        sampler: str | tuple[str | None, str | None] | None = None,
        negative: str = "",
    ) -> Sampling:
        """How to sample, what is None as the profile says. `sampler`: names in `diffusion.SAMPLERS`, one for both
        stages or stage 2's and stage 1's. Raises ValueError for a negative prompt where guidance is 1.
        """
        usual = self.profile.sampling
        scale = usual.guidance if guidance is None else guidance
        names = sampler if isinstance(sampler, tuple) else (sampler, sampler)
        return Sampling(
            usual.tcld_steps if tcld_steps is None else tcld_steps,
            usual.dmae_steps if dmae_steps is None else dmae_steps,
            names[0] or usual.sampler,
            names[1] or usual.sampler,
            scale if isinstance(scale, Guidance) else Guidance(scale),
            negative,
        )

    def generate(
        self,
        prompts: list[str],
        seconds: float | None = None,
        seed: int | Sequence[int] = 0,
        tcld_steps: int | None = None,
        dmae_steps: int | None = None,
        guidance: float | Guidance | None = None,
        progress: bool = False,
        sampler: str | tuple[str | None, str | None] | None = None,
        negative: str = "",
        edit: Edit | None = None,
    ) -> Wave:
        """One waveform a prompt, [n, 2, round(seconds * 48000)]: what `stream` gives, all of it at once.

        Of several seeds each gives all prompts, one after another: [seeds * n, 2, time]. The settings are `sampling`'s.
        """
        how = self.sampling(tcld_steps, dmae_steps, guidance, sampler, negative)
        seeds = seed if isinstance(seed, Sequence) else [seed]
        if not seeds:
            raise ValueError("no seed is given: choose at least one number")
        waves = [torch.cat([*self.stream(prompts, seconds, s, how, progress, edit)], dim=-1) for s in seeds]
        return torch.cat(waves)

    def stream(
        self,
        prompts: list[str],
        seconds: float | None = None,
        seed: int = 0,
        how: Sampling | None = None,
        progress: bool = False,
        edit: Edit | None = None,
    ) -> Iterator[Part]:
        """Parts of the waveforms, [n, 2, time] each, from left to right, in memory that does not grow with the length.

        Nothing is clipped or normalised. The same seed gives the same sound. `how`: by `sampling`; None is the profile.
        Either `seconds`, for a sound from nothing, or an `edit` of one that is there, as long as that says.

        Longer than a chunk, stage 2 blends windows, and each follows the prompt with a "k of n" of its own, unless the
        prompt says one. Raises ValueError for an empty or too long prompt, seconds outside (0, 3600], or an unknown
        sampler.
        """
        how, generator = how or self.sampling(), torch.Generator().manual_seed(seed)
        samples = self.length_of(seconds, edit)
        draw = partial(
            self.latents,
            prompts,
            samples,
            generator,
            guidance=how.guidance,
            progress=progress,
            sampler=how.tcld_sampler,
            negative=how.negative,
        )
        z = self.begun(edit, len(prompts), how.tcld_steps, draw) if edit else draw(how.tcld_steps)
        bar, solver = "z -> w" if progress else None, get_sampler(how.dmae_sampler)
        decode = partial(self.dmae.stream, steps=how.dmae_steps, generator=generator, progress=bar, sampler=solver)
        return edit.sound(self.dmae, z, decode) if edit else decode(z, length=samples)

    def length_of(self, seconds: float | None, edit: Edit | None) -> int:
        """Samples of what is asked for. Raises ValueError as `sample_count`, or where both or neither is given."""
        if edit is not None and seconds is None:
            seconds = edit.samples / self.profile.sample_rate
        elif edit is not None or seconds is None:
            raise ValueError("give either seconds, or an edit, which says how long: not both, and not neither")
        return sample_count(seconds, self.profile.sample_rate)

    def begun(self, edit: Edit, n: int, steps: int, draw: Callable[..., Latent]) -> Latent:
        """n latents of an edit: at noise level 0 its sound's own, else drawn from there, in so much of the steps."""
        z, stride = codec.encode(self.dmae, edit.w, self.profile.tcld.crop), self.profile.dmae.latent_stride
        if edit.noise_level == 0:
            return z.expand(n, -1, -1)
        length = to_stride(-(-edit.samples // stride), self.profile.tcld.unet.stride)
        given = edit.given(z, self.tcld.latent_std, stride, length)
        return draw(max(1, round(edit.noise_level * steps)), given=given)

    def latents(
        self,
        prompts: list[str],
        samples: int,
        generator: torch.Generator,
        steps: int | None = None,
        guidance: float | Guidance | None = None,
        progress: bool = False,
        sampler: str | None = None,
        negative: str = "",
        given: Given | None = None,
    ) -> Latent:
        """Stage 2 alone: enough latent steps for that many samples."""
        how, chunks = self.sampling(steps, None, guidance, sampler, negative), self.profile.data.chunks
        length = -(-samples // self.profile.dmae.latent_stride)
        check_texts(prompts)
        parts = [prompts]
        if length > self.tcld.window and with_part(prompts, 1, chunks) != prompts:
            parts = [with_part(prompts, k, chunks) for k in range(1, chunks + 1)]
        embeddings = [self.text(texts) for texts in parts]
        away = self.text([negative]) if negative else None
        solver, bar = get_sampler(how.tcld_sampler), "text -> z" if progress else None
        return self.tcld.sample(embeddings, length, how.tcld_steps, how.guidance, generator, bar, solver, away, given)


def made_ready(stage: Stage, numerics: Numerics | None) -> Stage:
    """Ready to sample with these numerics; without, as its profile says. On a CPU its layers are replaced by quicker
    ones, the U-Net's in the chosen precision, what else there is in float32.
    """
    if numerics is not None:
        set_numerics(numerics)
        precision = "float32" if numerics == "exact" else "fast"
        stage.config = replace(stage.config, precision=precision)  # type: ignore[reportAttributeAccessIssue]
    device = next(stage.parameters()).device
    if device.type == "cpu":
        quicken(stage.unet, chosen(stage.config.precision, device))
        quicken(stage)
    return stage


def with_part(prompts: list[str], k: int, n: int) -> list[str]:
    """Each prompt asking for part "k of n", where it does not ask for one itself."""
    return [text if PART.search(text) else f"{text}, {k} of {n}" for text in prompts]


def sample_count(seconds: float, sample_rate: int = 48_000) -> int:
    """round(seconds * sample_rate). Raises ValueError unless 0 < seconds <= 3600 and there is at least one sample."""
    if not 0 < seconds <= MAX_SECONDS or round(seconds * sample_rate) < 1:
        raise ValueError(f"seconds is {seconds}: choose more than 0 and at most {MAX_SECONDS}")
    return round(seconds * sample_rate)


def write_audio(
    w: Stereo | Iterable[Stereo], path: Path, sample_rate: int = 48_000, recipe: Recipe | None = None
) -> int:
    """WAV, FLAC (24 bit) or OGG by the file's ending, written aside and renamed; returns how many samples were clipped.

    w [2, time], or its parts from left to right, written as they come. Samples outside [-1, 1] are clipped, as every
    such file must. `recipe`: what goes into the tags. Raises ValueError for another ending.
    """
    path, clipped = Path(path), 0
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"{path.name}: cannot write {path.suffix or 'a file without ending'}, use {', '.join(FORMATS)}"
        )
    kind, subtype = FORMATS[path.suffix.lower()]
    with aside(path) as name:
        with soundfile.SoundFile(name, "w", sample_rate, 2, subtype, format=kind) as file:
            for part in [w] if isinstance(w, Tensor) else w:
                clipped += int((part.abs() > 1).sum())
                for second in part.detach().cpu().clamp(-1, 1).T.split(sample_rate):  # libvorbis dislikes more at once
                    file.write(second.numpy())
        if recipe is not None:
            write_recipe(recipe, name, path.suffix.lower())
    return clipped
