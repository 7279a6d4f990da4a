"""musicnn (Pons and Serra 2019), a tagger of the Million Song Dataset: an embedding that shares no music with ours.

Its published weights lie in its pip package as a TensorFlow checkpoint; here NumPy reads that file and PyTorch runs the
network, so TensorFlow is not needed. The embedding is the layer that the authors call "penultimate".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import librosa
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.evaluation.samples import ClipSet
from mousai.files import sha256
from mousai.inference.precision import choose_device
from mousai.shapes import Wave

MODEL = "MSD_musicnn"  # of the package's models the one that the authors transfer to other tasks
DATA = ".data-00000-of-00001"  # of the checkpoint, whose name is empty; beside it lies ".index"
PUBLISHED = "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6"  # sha256 of the weights in musicnn 0.1.0
RATE = 16_000
N_FFT = 512
HOP = 256  # 16 ms
MELS = 96
WINDOW = 187  # frames, 3 s: what the network was trained on
EPS = 1e-3  # of TensorFlow's batch norms; PyTorch's is 1e-5

LOG_BLOCK, TRAILER, FOOTER = 0xDB4775248B80FB57, 5, 48  # a table's magic number; bytes after a block and at the end
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # TensorFlow's numbers of types
Fields = dict[int, list[int | bytes]]  # of a protocol buffer: number of a field -> its values


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
