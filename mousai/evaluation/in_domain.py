"""The in-domain audio-text model (ours): a small contrastive model in the manner of CLAP, trained on the train split.

It knows only this data set, so its scores rank our own rows and are never compared with the paper's. Audio goes through
a convolutional net on log-mel spectrograms, text through the frozen MiniLM and a linear layer; both give unit vectors
of 96 features.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.checkpoint import load_weights, save_tensors, save_weights
from mousai.config import TextConfig, TrainConfig
from mousai.data.clips import Chunks
from mousai.data.dataset import Workspace
from mousai.data.lengths import fits_encoder
from mousai.data.records import Fits, Record, training_caption
from mousai.data.shards import Shards
from mousai.evaluation.samples import ClipSet
from mousai.files import sha256
from mousai.inference.precision import choose_device
from mousai.progress import progress_bar
from mousai.shapes import Wave
from mousai.small.stages import weights_path
from mousai.spectrogram import log_mel
from mousai.text import load_text_encoder
from mousai.training.loop import fit

NAME = "in_domain"  # of its weights file
WINDOW = 480_000  # samples, 10 s at 48 kHz: CLAP's own length
TEXT = TextConfig(encoder="minilm", features=384, paper_exact=False)
WIDTHS = (80, 128, 192, 256, 256)
FEATURES = 96
CAPTIONS = 2  # drawn once for each chunk, before training
MAX_CHUNKS = 4096  # bounds memory where the data set is large
TRAIN = TrainConfig(batch=64, lr=2e-3, weight_decay=0.05, warmup=20, decay=True, ema_beta=0.98)

Unit = Float[Tensor, "n features"]
Encoder = Callable[[list[str]], Tensor]  # a frozen text encoder: texts -> [n, 64, 384], zeros at the padding


class InDomainNet(nn.Module):
    """The trained part of both towers, audio and text. `forward` is the training loss, as `fit` expects it."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        for i, (inside, out) in enumerate(pairwise(WIDTHS)):
            conv = nn.Conv1d(inside, out, 5, stride=2 if i < 3 else 1, padding=2)
            layers += [conv, nn.GroupNorm(8, out), nn.SiLU()]
        self.convs = nn.Sequential(*layers)
        self.audio_projection = nn.Linear(2 * WIDTHS[-1], FEATURES)
        self.text_projection = nn.Linear(TEXT.features, FEATURES)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def audio(self, mels: Float[Tensor, "n mels frames"]) -> Unit:
        """Log-mel spectrograms -> unit vectors [n, 96], from mean and standard deviation of the features over time."""
        x = self.convs((mels + 1.5) / 0.8)
        pooled = torch.cat([x.mean(dim=-1), (x.var(dim=-1, unbiased=False) + 1e-5).sqrt()], dim=1)
        return F.normalize(self.audio_projection(pooled), dim=1)

    def text(self, states: Float[Tensor, "n text_features"]) -> Unit:
        """Means of the tokens' states -> unit vectors [n, 96]."""
        return F.normalize(self.text_projection(states), dim=1)

    def forward(
        self,
        mels: Float[Tensor, "n mels frames"],
        states: Float[Tensor, "n text_features"],
        true: Bool[Tensor, "n n"],
        generator: torch.Generator,
        step: int = 0,
    ) -> Float[Tensor, ""]:
        """The InfoNCE loss in both directions. true[i, j]: text j describes sound i.

        Where several texts describe a sound, or the reverse, each of them gets an equal share of the target.
        """
        mels = mels + 0.1 * torch.randn(mels.shape, generator=generator).to(mels)
        logits = self.log_scale.exp().clamp(max=100) * self.audio(mels) @ self.text(states).T
        target = true.to(logits)
        to_text = -(target / target.sum(dim=1, keepdim=True) * logits.log_softmax(dim=1)).sum(dim=1)
        to_audio = -(target / target.sum(dim=0, keepdim=True) * logits.log_softmax(dim=0)).sum(dim=0)
        return (to_text.mean() + to_audio.mean()) / 2


@dataclass(frozen=True)
class InDomain:
    """The trained model with its text encoder: it embeds sounds and prompts as vectors [n, 96].

    sha256: of its weights file. card: what training recorded about it.
    """

    net: InDomainNet
    encoder: Encoder
    sha256: str
    card: dict
    name: str = "in-domain audio-text model"

    @torch.no_grad()
    def embed_audio(self, w: Wave) -> Unit:
        """w [n, 2, time] -> [n, 96]: the mean of the unit vectors of fixed 10 s windows.

        It is not a unit vector itself, so that its product with a text's unit vector is the mean of the windows'
        cosines.
        """
        device = next(self.net.parameters()).device
        return torch.stack([self.net.audio(log_mels(windows(clip.to(device)))).mean(dim=0) for clip in w]).cpu()

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Unit:
        """Prompts -> unit vectors [n, 96]."""
        device = next(self.net.parameters()).device
        return self.net.text(text_states(self.encoder, texts).to(device)).cpu()

    def embed_clips(self, clips: ClipSet) -> np.ndarray:
        """`embed_audio` of every clip of a set, read one at a time: [n, 96]."""
        return np.concatenate([self.embed_audio(clips[i][None]).numpy() for i in range(len(clips))])

    def context(self) -> dict:
        """What is stored with every number that this model measures."""
        return {"model": self.name, "model_sha256": self.sha256, "window_seconds": 10, "loudness": "raw levels"}


def windows(w: Float[Tensor, "rows time"], length: int = WINDOW) -> Float[Tensor, "windows rows length"]:
    """The fewest windows, by default of 10 s, that cover the clip, evenly spaced; a shorter clip whole."""
    time = w.shape[-1]
    if time <= length:
        return w[None]
    count = -(-time // length)
    starts = [round(i * (time - length) / (count - 1)) for i in range(count)]
    return torch.stack([w[:, start : start + length] for start in starts])


def log_mels(w: Wave) -> Float[Tensor, "batch 80 frames"]:
    """Log-mel spectrograms at half the usual frame rate: 21 ms a frame."""
    return F.avg_pool1d(log_mel(w), 2)


def cached_log_mels(chunks: Chunks | Shards, picks: list[int], path: Path) -> Float[Tensor, "n 80 frames"]:
    """Log-mel spectrograms, float16, of the chunks with the numbers `picks`; cached at `path` for a second training."""
    if path.is_file():
        return load_file(path)["mels"]

    def of_chunk(i: int) -> Tensor:
        return log_mels(torch.from_numpy(chunks[i][2])[None])[0].half()

    with ThreadPoolExecutor(2) as pool:
        bar = progress_bar(pool.map(of_chunk, picks), "log-mels", len(picks))
        mels = torch.stack(list(bar))
    save_tensors({"mels": mels}, path)
    return mels


@torch.no_grad()
def text_states(encoder: Encoder, texts: list[str], batch: int = 64) -> Float[Tensor, "n text_features"]:
    """Mean of each text's token states, without the padding, whose states are zeros.

    Texts of similar length share a batch, for speed.
    """
    order = np.argsort([len(text) for text in texts], kind="stable")
    means = {}
    for part in np.array_split(order, -(-len(texts) // batch)):
        states = encoder([texts[i] for i in part])
        count = (states != 0).any(dim=-1).sum(dim=1, keepdim=True)
        means |= dict(zip(part.tolist(), (states.sum(dim=1) / count).cpu(), strict=True))
    return torch.stack([means[i] for i in range(len(texts))])


class Pairs:
    """Step -> (log-mel windows, text states, which text describes which sound); it depends only on (seed, step).

    A text is a caption as in training (half of the time), the genre alone, or genre and segment tag (a quarter each). A
    caption describes its own chunk only; a short text describes every chunk of that genre, or genre and segment.
    """

    def __init__(self, work: Workspace, encoder: Encoder):
        profile = work.profile
        rng = np.random.default_rng(profile.seed)
        chunks = work.data.chunks("train")
        picks = np.sort(rng.permutation(len(chunks))[:MAX_CHUNKS]).tolist()
        items = [chunks.about(i) for i in picks]
        path = work.runs / "in_domain" / f"{work.data.key}-{profile.seed}-mels.safetensors"
        self.mels = cached_log_mels(chunks, picks, path)
        self.frames = min(self.mels.shape[-1], log_mels(torch.zeros(1, 2, WINDOW)).shape[-1])
        fits = fits_encoder(TEXT)
        texts = [self.texts(record, k, rng, profile.tcld.title_drop, fits) for record, k in items]
        known = {text: i for i, text in enumerate(dict.fromkeys(text for row in texts for text in row))}
        self.states = text_states(encoder, list(known))
        self.text_ids = np.array([[known[text] for text in row] for row in texts])
        self.keys = np.array([[i, *self.text_ids[i, CAPTIONS:]] for i in range(len(items))])
        self.seed = profile.seed

    @staticmethod
    def texts(record: Record, k: int, rng: np.random.Generator, title_drop: float, fits: Fits) -> list[str]:
        """The texts of one chunk: captions as in training, the genre (or title), and that with the segment tag."""
        captions = [training_caption(record, k, rng, title_drop, fits) for _ in range(CAPTIONS)]
        kind = record.genre or record.title
        return [*captions, kind, f"{kind}, {k} of {record.chunks}"]

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.permutation(len(self.mels))[: TRAIN.batch]
        kinds = rng.choice(3, len(chosen), p=(0.5, 0.25, 0.25))  # caption, genre, genre and segment
        columns = np.where(kinds == 0, rng.integers(CAPTIONS, size=len(chosen)), kinds + CAPTIONS - 1)
        starts = rng.integers(self.mels.shape[-1] - self.frames + 1, size=len(chosen))
        mels = [self.mels[i, :, s : s + self.frames] for i, s in zip(chosen, starts, strict=True)]
        keys = self.keys[chosen]
        true = keys[:, kinds] == keys[np.arange(len(keys)), kinds]
        return torch.stack(mels).float(), self.states[self.text_ids[chosen, columns]], torch.from_numpy(true)


def train_in_domain(
    work: Workspace, steps: int | None = None, path: Path | None = None
) -> tuple[InDomain, pd.DataFrame]:
    """Train on the train split and write the weights to `path`, by default the package's own.

    Returns (model, history), the history with a row a step. steps: by default the profile's.
    """
    profile = work.profile
    torch.manual_seed(profile.seed)
    path = path or weights_path(profile, NAME)
    place = choose_device(work.device)
    encoder = load_text_encoder(TEXT, place)
    pairs = Pairs(work, encoder)
    steps = steps or profile.evaluation.in_domain_steps
    net, history = fit(InDomainNet(), pairs, TRAIN, steps, profile.seed, device=place)
    losses = history["loss"].to_numpy()
    card = {
        "model": InDomain.name,
        "profile": profile.name,
        "data": work.root.name,
        "chunks": len(pairs.mels),
        "steps": steps,
        "batch": TRAIN.batch,
        "loss": round(float(np.mean(losses[-20:])), 4),
        "seconds": round(float(np.sum(history["seconds"].to_numpy())), 1),
    }
    save_weights(net, path, card)
    return read_in_domain(path, encoder, place), history


def load_in_domain(work: Workspace) -> InDomain:
    """The shipped model for the embedded music; for the user's own data, or without shipped weights, one that is
    trained on this data set at the first call and cached under `runs`.
    """
    profile = work.profile
    place = choose_device(work.device)
    path = weights_path(profile, NAME)
    if work.own_data or not path.is_file():
        path = work.runs / NAME / f"{work.data.key}-{profile.evaluation.in_domain_steps}" / f"{NAME}.safetensors"
    if not path.is_file():
        return train_in_domain(work, path=path)[0]
    return read_in_domain(path, load_text_encoder(TEXT, place), place)


def read_in_domain(path: Path, encoder: Encoder, device: torch.device) -> InDomain:
    """The model from its file. Errors as in `mousai.checkpoint.load_weights`."""
    net = InDomainNet()
    card = load_weights(net, path)
    return InDomain(net.to(device).eval(), encoder, sha256(path), card)
