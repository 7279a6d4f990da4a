"""A small training in as many processes as it is started in; one of them may be killed on the way.

torchrun --nproc-per-node 2 launched.py FOLDER STEPS [KILLED_AT]        the state is left in FOLDER
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from helpers.lines import CONFIG, Line, batches, line
from mousai.training import activation_checkpointing
from mousai.training.loop import fit
from mousai.training.processes import split_batch
from mousai.training.resume import Run

TOGETHER = replace(CONFIG, accumulate=2, max_grad_norm=1.0, save_minutes=0, checkpointing=True)


class Mortal(Line):
    """Its last process is killed when it has made so many steps."""

    def __init__(self, at: int):
        super().__init__()
        self.at = at
        self.load_state_dict(line().state_dict())

    def forward(self, x, y, generator, step=0):
        if step == self.at and os.environ["RANK"] != "0":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x, y, generator, step)


def main(folder: Path, steps: int, killed_at: int = -1) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what this one has to say is waited for
    activation_checkpointing.BLOCKS = (torch.nn.Linear,)
    config = split_batch(TOGETHER, int(os.environ["WORLD_SIZE"]))
    try:
        fit(Mortal(killed_at), batches, config, steps, device=torch.device("cpu"), run=Run(folder, resume=True))
    except ValueError as error:
        sys.exit(f"process {os.environ['RANK']}: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:]))
