"""musicnn (Pons and Serra 2019), a tagger of the Million Song Dataset: an embedding that shares no music with ours.

Its published weights lie in its pip package as a TensorFlow checkpoint; here NumPy reads that file and PyTorch runs the
network, so TensorFlow is not needed. The embedding is the layer that the authors call "penultimate". Their extractor
0.1.0 repeats a sound's first batch of it for every later one; here each window has its own.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.evaluation.in_domain import windows as fewest_windows
from mousai.evaluation.samples import ClipSet
from mousai.files import sha256
from mousai.inference.precision import choose_device
from mousai.shapes import Wave

MODEL = "MSD_musicnn"  # of the package's models the one that the authors transfer to other tasks
DATA = ".data-00000-of-00001"  # of the checkpoint, whose name is empty; beside it lies ".index"
PUBLISHED = "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6"  # sha256 of the weights in musicnn 0.1.0
RATE = 16_000  # Hz
N_FFT = 512
HOP = 256  # 16 ms
MELS = 96
WINDOW = 187  # frames, 3 s: what the network was trained on
EPS = 1e-3  # of TensorFlow's batch norms; PyTorch's is 1e-5

MAGIC = 0xDB4775248B80FB57  # the last 8 bytes of a LevelDB table
FOOTER = 48  # bytes at its end
FLOAT = 1  # TensorFlow's number of this type
LAYERS = {"conv2d": nn.Conv2d, "batch_normalization": (nn.BatchNorm1d, nn.BatchNorm2d), "dense": nn.Linear}
VARIABLES = {"kernel": "weight", "bias": "bias"} | {"gamma": "weight", "beta": "bias"}
VARIABLES |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
Fields = dict[int, list[Any]]  # of a protocol buffer: number of a field -> its values, int or bytes


def musicnn_folder() -> Path | None:
    """Where the package keeps the model, or None. It is not imported, because its modules import TensorFlow."""
    spec = find_spec("musicnn")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return next((Path(place) / MODEL for place in places if (Path(place) / MODEL / DATA).is_file()), None)


def musicnn_missing() -> str | None:
    """None where the package is installed, else one line: the command that installs it."""
    if musicnn_folder():
        return None
    return "musicnn is not installed: `pip install --no-deps musicnn==0.1.0` (its weights are read without TensorFlow)"


class Musicnn:
    """The embedding. Raises FileNotFoundError where the package is missing, ValueError where its weights are others."""

    name = f"musicnn {MODEL}, penultimate"

    def __init__(self, device: str | None = None):
        folder = musicnn_folder()
        if folder is None:
            raise FileNotFoundError(musicnn_missing())
        self.sha256 = sha256(folder / DATA)
        if self.sha256 != PUBLISHED:
            raise ValueError(f"{folder / DATA}: not the weights of musicnn 0.1.0: install that version again")
        net = Network()
        net.load_state_dict(state_of(net, read_bundle(folder)))
        self.net = net.to(choose_device(device)).eval()

    @torch.no_grad()
    def embed_audio(self, w: Wave) -> Float[Tensor, "n 200"]:
        """w [n, 2, time] at 48 kHz -> the mean over a clip's windows of 3 s."""
        device = self.net.tags.weight.device
        return torch.stack([self.net.penultimate(windows(log_mels(clip)).to(device)).mean(dim=0) for clip in w]).cpu()

    def embed_clips(self, clips: ClipSet) -> np.ndarray:
        """Every clip of a set, read one at a time: [n, 200]."""
        return np.concatenate([self.embed_audio(clips[i][None]).numpy() for i in range(len(clips))])


def log_mels(w: Float[Tensor, "2 time"]) -> Float[Tensor, "frames 96"]:
    """log10(1 + 10,000 mel power) of the mono mix at 16 kHz, as the authors compute it; w at 48 kHz.

    They keep mel power in 16 bits. Their librosa, 0.7, mirrors the sound at both ends; since 0.10 it adds zeros there.
    """
    mono = librosa.resample(w.mean(dim=0).cpu().numpy(), orig_sr=48_000, target_sr=RATE)
    power = librosa.feature.melspectrogram(
        y=mono, sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=MELS, center=True, pad_mode="reflect"
    )
    power = power.clip(max=np.finfo(np.float16).max)  # where theirs is infinite: only far beyond full scale
    return torch.from_numpy(np.log10(10_000 * power.astype(np.float16).astype(np.float32) + 1).T)


def windows(mels: Float[Tensor, "frames 96"]) -> Float[Tensor, "windows length 96"]:
    """As few windows of 3 s as cover the clip, evenly spaced from end to end; a shorter clip whole.

    The package lays them end to end and drops what is left over.
    """
    return fewest_windows(mels.T, WINDOW).mT


class Branch(nn.Module):
    """A convolution over `time` frames and `bands` bands, ReLU, batch norm, then each frame's largest value."""

    def __init__(self, width: int, time: int, bands: int):
        super().__init__()
        self.conv = nn.Conv2d(1, width, (time, bands))
        self.norm = nn.BatchNorm2d(width, eps=EPS)
        self.before, self.after = (time - 1) // 2, time // 2  # TensorFlow's "same": an even length looks ahead

    def forward(self, x: Float[Tensor, "n frames bands"]) -> Float[Tensor, "n width frames"]:
        x = F.pad(x[:, None], (0, 0, self.before, self.after))  # [n, 1, frames + time - 1, bands]
        x = self.norm(F.relu(self.conv(x)))  # [n, width, frames, positions]
        return x.amax(dim=-1)


class Network(nn.Module):
    """The published network. Its layers stand in the order in which TensorFlow numbered them."""

    def __init__(self):
        super().__init__()
        self.input_norm = nn.BatchNorm2d(1, eps=EPS)
        timbre = [Branch(204, 7, 38), Branch(204, 7, 67)]
        rhythm = [Branch(51, 128, 1), Branch(51, 64, 1), Branch(51, 32, 1)]
        self.front = nn.ModuleList(timbre + rhythm)
        self.middle = nn.ModuleList([Branch(64, 7, 561), Branch(64, 7, 64), Branch(64, 7, 64)])
        self.pooled_norm = nn.BatchNorm1d(2 * 753, eps=EPS)
        self.dense = nn.Linear(2 * 753, 200)
        self.dense_norm = nn.BatchNorm1d(200, eps=EPS)
        self.tags = nn.Linear(200, 50)

    def penultimate(self, mels: Float[Tensor, "n frames 96"]) -> Float[Tensor, "n 200"]:
        """Log-mel spectrograms -> the last layer before the tags."""
        x = self.input_norm(mels[:, None])[:, 0]
        x = torch.cat([branch(x) for branch in self.front], dim=1)  # [n, 561, frames]
        found = [x]
        for i, branch in enumerate(self.middle):
            y = branch(x.mT)  # [n, 64, frames]
            x = x + y if i else y
            found.append(x)
        features = torch.cat(found, dim=1)  # [n, 753, frames]
        pooled = torch.stack([features.amax(dim=-1), features.mean(dim=-1)], dim=-1)  # [n, 753, 2]
        return self.dense_norm(F.relu(self.dense(self.pooled_norm(pooled.flatten(1)))))

    def forward(self, mels: Float[Tensor, "n frames 96"]) -> Float[Tensor, "n 50"]:
        """Log-mel spectrograms -> the probability of each tag, a row of the authors' taggram."""
        return self.tags(self.penultimate(mels)).sigmoid()


def state_of(net: Network, variables: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """TensorFlow's variables, e.g. "dense_1/kernel", under PyTorch's names; the optimizer's are left out."""
    state = {}
    for layer, kind in LAYERS.items():
        modules = [name for name, module in net.named_modules() if isinstance(module, kind)]
        for i, module in enumerate(modules):
            stem = f"{layer}_{i}" if i else layer
            for theirs, ours in VARIABLES.items():
                if (array := variables.get(f"{stem}/{theirs}")) is not None:
                    if theirs == "kernel":
                        array = np.moveaxis(array, (-1, -2), (0, 1))  # [..., in, out] -> [out, in, ...]
                    state[f"{module}.{ours}"] = torch.from_numpy(array.copy())
    return state


def read_bundle(folder: Path) -> dict[str, np.ndarray]:
    """The variables of the TensorFlow checkpoint `.index` and `.data-00000-of-00001` in a folder, by name.

    The index is a LevelDB table of protocol buffers (TensorFlow's tensor_bundle.proto). Its checksums are not compared:
    that is done for the whole file. Raises ValueError for what is not read: several files, big-endian numbers,
    compressed blocks, types other than float32, a file that was cut off.
    """
    rows = dict(table((folder / ".index").read_bytes()))
    data = (folder / DATA).read_bytes()
    header = fields(rows.pop(b"", b""))
    if header.get(1) != [1] or header.get(2, [0]) != [0]:
        raise ValueError(f"{folder}: not a checkpoint of one little-endian file: no other is read")
    found = {}
    for key, value in rows.items():
        entry = fields(value)
        (at,), (size,) = entry.get(4, [0]), entry.get(5, [0])
        if entry.get(1) != [FLOAT] or 7 in entry or at + size > len(data):
            raise ValueError(f"{folder}: {key.decode()}: not a whole float32 tensor: nothing else is read")
        dimensions = fields(b"".join(entry.get(2, []))).get(2, [])
        shape = [fields(dimension).get(1, [0])[0] for dimension in dimensions]
        found[key.decode()] = np.frombuffer(data[at : at + size], "<f4").reshape(shape)
    return found


def table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table."""
    if len(data) < FOOTER or int.from_bytes(data[-8:], "little") != MAGIC:
        raise ValueError("not the index of a TensorFlow checkpoint: its last bytes are others")
    _, at = varint(data, len(data) - FOOTER)  # where a block begins that is not needed here
    _, at = varint(data, at)  # and its length
    for _, handle in block(data, data[at:]):
        yield from block(data, handle)


def block(data: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the block at `handle`: two numbers, where it begins and its length."""
    at, after = varint(handle, 0)
    size, _ = varint(handle, after)
    if data[at + size]:
        raise ValueError(f"compressed block (type {data[at + size]}) in a checkpoint's index: only plain ones are read")
    restarts = int.from_bytes(data[at + size - 4 : at + size], "little")
    end = at + size - 4 * (restarts + 1)
    key = b""
    while at < end:
        shared, at = varint(data, at)  # bytes that this key has in common with the one before
        own, at = varint(data, at)
        length, at = varint(data, at)
        key = key[:shared] + data[at : at + own]
        at += own
        yield key, data[at : at + length]
        at += length


def fields(message: bytes) -> Fields:
    """The fields of a protocol buffer."""
    found: Fields = {}
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = varint(message, at)
        elif kind in (2, 5):  # bytes of a stated length, or four
            size, at = varint(message, at) if kind == 2 else (4, at)
            value = message[at : at + size]
            at += size
        else:
            raise ValueError(f"field {field} of a checkpoint's index is of kind {kind}: not read")
        found.setdefault(field, []).append(value)
    return found


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(the number of seven bits a byte that begins at `at`, where it ends)."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return value | data[at] << shift, at + 1
