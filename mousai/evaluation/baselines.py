"""The systems beside ours in Figure 5 and on the listening page; Riffusion's clips where its weights are here.

Riffusion is run with diffusers' own pipeline. A picture becomes sound as in Riffusion's code: the red channel is
flipped upside down and inverted, its fourth power is the mel amplitude, then Griffin-Lim; the sound is mono, with its
peak at 1.
"""

import math
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from jaxtyping import Float
from torch import Tensor
from torchaudio.functional import resample

from mousai.data.dataset import Workspace
from mousai.evaluation.griffin_lim import griffin_lim_set, has_magnitude_head
from mousai.evaluation.real import real_set
from mousai.evaluation.samples import ClipSet, cached, generated_set, prompts_of_all_seeds
from mousai.inference.audio import sample_count
from mousai.inference.precision import choose_device
from mousai.interop.riffusion import GUIDANCE, HOP, RATE, SIZE, STEPS, Sound
from mousai.shapes import Wave

REPO = "riffusion/riffusion-model-v1"
PART = (SIZE - 1) * HOP  # samples that Griffin-Lim gives for a picture, at 44.1 kHz
POWER = 4.0  # exponent from the picture's values to amplitudes


def systems(work: Workspace) -> dict[str, ClipSet]:
    """System -> its clips of the data set's genres: ours, real test music, ours without text, Griffin-Lim from z where
    there is a magnitude head, Riffusion where its weights are in the cache.

    Raises ValueError where the data set has no genres.
    """
    genres = work.data.genres
    if not genres:
        raise ValueError(
            f"{work.root}: no training piece has a genre: import it again with `--genre NAME`, or with tags"
        )
    sets = {"ours": generated_set(work), "real": real_set(work)}
    sets["unconditional"] = generated_set(work, unconditional=True)
    if has_magnitude_head(work.profile.dmae):
        sets["griffin_lim_from_z"] = griffin_lim_set(work)
    if not riffusion_missing():
        sets["riffusion"] = riffusion_set(work)
    return {name: clips.of_genres(genres) for name, clips in sets.items()}


def riffusion_folder() -> Path | None:
    """Where the Hugging Face cache keeps Riffusion's pipeline, or None."""
    index = try_to_load_from_cache(REPO, "model_index.json")
    return Path(index).parent if isinstance(index, str) else None


def riffusion_missing() -> str | None:
    """None where Riffusion can be loaded without internet access, else one line that says how to fetch it."""
    if riffusion_folder():
        return None
    return f"Riffusion is not in the Hugging Face cache (HF_HOME): fetch it once with `hf download {REPO}`"


def riffusion_set(work: Workspace) -> ClipSet:
    """Riffusion's clips for the prompts of our generated clips, of the same length; cached.

    Raises FileNotFoundError where its weights are not in the cache.
    """
    if (folder := riffusion_folder()) is None:
        raise FileNotFoundError(riffusion_missing())
    context = {"riffusion": folder.name, "steps": STEPS, "guidance": GUIDANCE, "levels": "peak 1, as its code does"}
    profile = work.profile
    context |= {"crop": profile.tcld.crop, "seed": profile.seed, "device": choose_device(work.device).type}
    prompts = prompts_of_all_seeds(work)
    riffusion = cache(lambda: Riffusion(work.device))  # only where a clip is missing

    def make(indices: list[int]) -> Tensor:
        seconds = profile.tcld.crop / profile.sample_rate
        seed = 1000 * profile.seed + indices[0]
        return riffusion().generate([prompts[i].text for i in indices], seconds, seed)

    return cached(work, "riffusion", prompts, make, context)


class Riffusion:
    """Riffusion's pipeline from local files. Raises FileNotFoundError, with what to fetch, where they are missing."""

    def __init__(self, device: str | None = None):
        if (folder := riffusion_folder()) is None:
            raise FileNotFoundError(riffusion_missing())
        from diffusers import StableDiffusionPipeline

        pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True)
        self.pipe: Any = pipe.to(choose_device(device))
        self.pipe.set_progress_bar_config(disable=True)
        self.sound = Sound()

    @torch.no_grad()
    def generate(self, texts: list[str], seconds: float, seed: int = 0, sample_rate: int = 48_000) -> Wave:
        """A waveform for each text, [n, 2, round(seconds * sample_rate)]: both channels are equal, the peak is 1.

        Music longer than a picture is several pictures' sounds, end to end.
        """
        samples = sample_count(seconds, sample_rate)
        generator = torch.Generator().manual_seed(seed)
        parts = [self.part(texts, generator) for _ in range(math.ceil(seconds * RATE / PART))]
        w = resample(torch.cat(parts, dim=1), RATE, sample_rate)[:, None, :samples]
        return (w / w.abs().amax(dim=2, keepdim=True).clamp_min(1e-9)).expand(-1, 2, -1).contiguous()

    def part(self, texts: list[str], generator: torch.Generator) -> Float[Tensor, "n time"]:
        """The sound of one picture for each text, at 44.1 kHz. Torch's global random state is restored afterwards."""
        asks = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "height": SIZE, "width": SIZE}
        pictures = self.pipe(texts, generator=generator, output_type="np", **asks).images
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return self.sound(amplitudes(torch.from_numpy(pictures)))


def amplitudes(pictures: Float[Tensor, "n 512 512 3"]) -> Float[Tensor, "n 512 512"]:
    """Mel amplitudes, low bands first, of pictures in [0, 1], whose low bands are at the bottom; black is loud."""
    return (1 - pictures[..., 0].flip(1)).pow(POWER)
