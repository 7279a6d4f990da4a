"""prompt -> embedding -> z -> w: both stages in a row, any length."""

from pathlib import Path

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from mousai.checkpoint import load_dmae, load_tcld
from mousai.diffusion import get_sampler
from mousai.dmae import DMAE
from mousai.files import aside
from mousai.precision import choose_device
from mousai.profiles import Profile, get_profile
from mousai.shapes import Latent, Wave
from mousai.tcld import TCLD
from mousai.text import TextEncoder, load_text_encoder

MAX_SECONDS = 3600
FORMATS = {".wav": ("WAV", "PCM_24"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}


class Mousai:
    """The whole stack: text encoder, TCLD, DMAE."""

    def __init__(self, profile: Profile, text: TextEncoder, tcld: TCLD, dmae: DMAE):
        self.profile, self.text, self.tcld, self.dmae = profile, text, tcld, dmae

    @classmethod
    def load(cls, profile: str | Profile = "cpu", device: str | torch.device | None = None) -> "Mousai":
        """The profile's shipped weights, from local files only."""
        profile = get_profile(profile) if isinstance(profile, str) else profile
        place = choose_device(str(device) if device else None)
        text = load_text_encoder(profile.tcld.text, place)
        return cls(profile, text, load_tcld(profile, place), load_dmae(profile, place))

    def generate(
        self,
        prompts: list[str],
        seconds: float,
        seed: int = 0,
        tcld_steps: int | None = None,
        dmae_steps: int | None = None,
        guidance: float | None = None,
        progress: bool = False,
        sampler: str = "ddim",
    ) -> Wave:
        """One waveform a prompt, [n, 2, round(seconds * 48000)], never clipped or normalised.

        Longer than a chunk, stage 2 blends windows that all follow the same prompt. The same seed gives the same sound.
        `sampler`: a name in `diffusion.SAMPLERS`, for both stages; the paper's is DDIM.
        Raises ValueError for an empty or too long prompt, seconds outside (0, 3600], or an unknown sampler.
        """
        samples = sample_count(seconds, self.profile.sample_rate)
        generator = torch.Generator().manual_seed(seed)
        z = self.latents(prompts, samples, generator, tcld_steps, guidance, progress, sampler)
        steps = self.profile.sampling.dmae_steps if dmae_steps is None else dmae_steps
        return self.dmae.decode(z, steps, generator, samples, "z -> w" if progress else None, get_sampler(sampler))

    def latents(
        self,
        prompts: list[str],
        samples: int,
        generator: torch.Generator,
        steps: int | None = None,
        guidance: float | None = None,
        progress: bool = False,
        sampler: str = "ddim",
    ) -> Latent:
        """Stage 2 alone: enough latent steps for that many samples."""
        settings = self.profile.sampling
        length = -(-samples // self.profile.dmae.latent_stride)
        steps = settings.tcld_steps if steps is None else steps
        scale = settings.guidance if guidance is None else guidance
        bar = "text -> z" if progress else None
        return self.tcld.sample(self.text(prompts), length, steps, scale, generator, bar, get_sampler(sampler))


def sample_count(seconds: float, sample_rate: int = 48_000) -> int:
    """round(seconds * sample_rate). Raises ValueError unless 0 < seconds <= 3600 and there is at least one sample."""
    if not 0 < seconds <= MAX_SECONDS or round(seconds * sample_rate) < 1:
        raise ValueError(f"seconds is {seconds}: choose more than 0 and at most {MAX_SECONDS}")
    return round(seconds * sample_rate)


def write_audio(w: Float[Tensor, "2 time"], path: Path, sample_rate: int = 48_000) -> None:
    """WAV, FLAC (24 bit) or OGG by the file's ending, written aside and renamed.

    Samples outside [-1, 1] are clipped, as every such file must. Raises ValueError for another ending.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"{path.name}: cannot write {path.suffix or 'a file without ending'}, use {', '.join(FORMATS)}"
        )
    kind, subtype = FORMATS[path.suffix.lower()]
    with aside(path) as name, soundfile.SoundFile(name, "w", sample_rate, 2, subtype, format=kind) as file:
        for part in w.detach().cpu().clamp(-1, 1).T.split(sample_rate):  # a second at a time: libvorbis dislikes more
            file.write(part.numpy())
