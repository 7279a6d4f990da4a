"""Training in several processes: who writes, who goes first, and how the batch is divided.

`torchrun` and `accelerate launch` start the processes and set environment variables, which accelerate reads. A single
process is the case of one.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
from accelerate import PartialState

from mousai.config import TrainConfig
from mousai.inference.precision import choose_device

LONGEST_WAIT = timedelta(days=2)  # rendering or encoding a data set takes hours


def process_state(device: torch.device | None = None) -> PartialState:
    """This process among those that train together, with `num_processes`, `process_index` and `is_main_process`."""
    place = device or choose_device()
    return PartialState(cpu=place.type == "cpu", timeout=LONGEST_WAIT)


@contextmanager
def main_first(device: torch.device | None = None) -> Iterator[None]:
    """The main process runs the `with` block before the others, so that they find what it has written."""
    with process_state(device).main_process_first():
        yield


def split_batch(config: TrainConfig, processes: int) -> TrainConfig:
    """The same number of items per step as smaller and more batches, of which each process makes equally many.

    Raises ValueError where the batch is not a multiple of the number of parts that this needs.
    """
    parts = processes // math.gcd(processes, config.accumulate)
    if config.batch % parts:
        raise ValueError(f"batch {config.batch} cannot be divided equally among {processes} processes: start fewer")
    return replace(config, batch=config.batch // parts, accumulate=config.accumulate * parts)
