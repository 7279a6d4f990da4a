"""prompt -> embedding -> z -> w: both stages in a row, any length."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from mousai import hub
from mousai.checkpoint import load_dmae, load_tcld, weights_path
from mousai.diffusion import Guidance, get_sampler
from mousai.dmae import DMAE
from mousai.files import aside
from mousai.precision import Numerics, choose_device, set_numerics
from mousai.profiles import Profile, get_profile
from mousai.shapes import Latent, Part, Wave
from mousai.tcld import TCLD
from mousai.text import TextEncoder, check_texts, load_text_encoder
from mousai.winograd import quicken

MAX_SECONDS = 3600
Stereo = Float[Tensor, "2 _"]
PART = re.compile(r"\b\d+ of \d+\b")
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
        if numerics is not None:
            set_numerics(numerics)
            precision = "float32" if numerics == "exact" else "fast"
            self.tcld.config = replace(self.tcld.config, precision=precision)
            self.dmae.config = replace(self.dmae.config, precision=precision)
        for stage in (self.tcld, self.dmae):
            on_cpu = next(stage.parameters()).device.type == "cpu"
            if on_cpu and stage.config.precision == "float32":
                quicken(stage)
        return self

    def generate(
        self,
        prompts: list[str],
        seconds: float,
        seed: int = 0,
        tcld_steps: int | None = None,
        dmae_steps: int | None = None,
        guidance: float | Guidance | None = None,
        progress: bool = False,
        sampler: str | None = None,
    ) -> Wave:
        """One waveform a prompt, [n, 2, round(seconds * 48000)]: what `stream` gives, all of it at once."""
        parts = self.stream(prompts, seconds, seed, tcld_steps, dmae_steps, guidance, progress, sampler)
        return torch.cat([*parts], dim=-1)

    def stream(
        self,
        prompts: list[str],
        seconds: float,
        seed: int = 0,
        tcld_steps: int | None = None,
        dmae_steps: int | None = None,
        guidance: float | Guidance | None = None,
        progress: bool = False,
        sampler: str | None = None,
    ) -> Iterator[Part]:
        """Parts of the waveforms, [n, 2, time] each, from left to right, in memory that does not grow with the length.

        Nothing is clipped or normalised. The same seed gives the same sound.

        Longer than a chunk, stage 2 blends windows, and each follows the prompt with a "k of n" of its own, unless the
        prompt says one. `sampler`: a name in `diffusion.SAMPLERS`, for both stages. What is None is the profile's.
        Raises ValueError for an empty or too long prompt, seconds outside (0, 3600], or an unknown sampler.
        """
        samples = sample_count(seconds, self.profile.sample_rate)
        generator = torch.Generator().manual_seed(seed)
        z = self.latents(prompts, samples, generator, tcld_steps, guidance, progress, sampler)
        steps = self.profile.sampling.dmae_steps if dmae_steps is None else dmae_steps
        solver, bar = get_sampler(sampler or self.profile.sampling.sampler), "z -> w" if progress else None
        return self.dmae.stream(z, steps, generator, samples, bar, solver)

    def latents(
        self,
        prompts: list[str],
        samples: int,
        generator: torch.Generator,
        steps: int | None = None,
        guidance: float | Guidance | None = None,
        progress: bool = False,
        sampler: str | None = None,
    ) -> Latent:
        """Stage 2 alone: enough latent steps for that many samples."""
        settings, chunks = self.profile.sampling, self.profile.data.chunks
        length = -(-samples // self.profile.dmae.latent_stride)
        steps = settings.tcld_steps if steps is None else steps
        scale = settings.guidance if guidance is None else guidance
        check_texts(prompts)
        parts = [prompts]
        if length > self.tcld.window and with_part(prompts, 1, chunks) != prompts:
            parts = [with_part(prompts, k, chunks) for k in range(1, chunks + 1)]
        embeddings = [self.text(texts) for texts in parts]
        solver, bar = get_sampler(sampler or settings.sampler), "text -> z" if progress else None
        return self.tcld.sample(embeddings, length, steps, scale, generator, bar, solver)


def with_part(prompts: list[str], k: int, n: int) -> list[str]:
    """Each prompt asking for part "k of n", where it does not ask for one itself."""
    return [text if PART.search(text) else f"{text}, {k} of {n}" for text in prompts]


def sample_count(seconds: float, sample_rate: int = 48_000) -> int:
    """round(seconds * sample_rate). Raises ValueError unless 0 < seconds <= 3600 and there is at least one sample."""
    if not 0 < seconds <= MAX_SECONDS or round(seconds * sample_rate) < 1:
        raise ValueError(f"seconds is {seconds}: choose more than 0 and at most {MAX_SECONDS}")
    return round(seconds * sample_rate)


def write_audio(w: Stereo | Iterable[Stereo], path: Path, sample_rate: int = 48_000) -> int:
    """WAV, FLAC (24 bit) or OGG by the file's ending, written aside and renamed; returns how many samples were clipped.

    w [2, time], or its parts from left to right, written as they come. Samples outside [-1, 1] are clipped, as every
    such file must. Raises ValueError for another ending.
    """
    path, clipped = Path(path), 0
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"{path.name}: cannot write {path.suffix or 'a file without ending'}, use {', '.join(FORMATS)}"
        )
    kind, subtype = FORMATS[path.suffix.lower()]
    with aside(path) as name, soundfile.SoundFile(name, "w", sample_rate, 2, subtype, format=kind) as file:
        for part in [w] if isinstance(w, Tensor) else w:
            clipped += int((part.abs() > 1).sum())
            for second in part.detach().cpu().clamp(-1, 1).T.split(sample_rate):  # libvorbis dislikes more at a time
                file.write(second.numpy())
    return clipped
