"""Training runs killed by SIGKILL at moments drawn by chance, resumed, and set against one that was not.

python -m helpers.killed FOLDER RUNS        how many were killed, how many ended bit-identical, as JSON on the last line
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from helpers.lines import CONFIG, batches, line
from mousai.training.loop import fit
from mousai.training.resume import Run

STEPS = 40
CLOCKED = ("history.seconds", "history.waited")
SAVING = replace(CONFIG, save_minutes=0, warmup=3, decay=True)  # after every step


def forked(run: Path, resume: bool) -> int:
    """The process number of a run that trains in a child."""
    if child := os.fork():
        return child
    status = 1
    try:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        fit(line(), batches, SAVING, STEPS, device=torch.device("cpu"), run=Run(run, resume))
        status = 0
    finally:
        os._exit(status)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def weights(run: Path) -> dict:
    """All that was saved but what a clock said."""
    return {name: saved for name, saved in load_file(run / "last.safetensors").items() if name not in CLOCKED}


def cut_short(run: Path, lasted: float, rng: random.Random, tries: int = 20) -> bool:
    """Whether SIGKILL came before the run's end: one that was quicker than the first is begun anew."""
    for _ in range(tries):
        shutil.rmtree(run, ignore_errors=True)
        child = forked(run, False)
        time.sleep(rng.uniform(0, lasted))
        os.kill(child, signal.SIGKILL)
        if ended(child) == -signal.SIGKILL:
            return True
    return False


def main(folder: Path, runs: int) -> None:
    torch.set_num_threads(1)
    fit(line(), batches, CONFIG, 1, device=torch.device("cpu"))  # what is imported late is imported before the forks
    rng, started = random.Random(0), time.perf_counter()
    assert ended(forked(folder / "whole", False)) == 0
    lasted, killed, identical = time.perf_counter() - started, 0, 0
    whole = weights(folder / "whole")
    for number in range(runs):
        run = folder / str(number)
        killed += cut_short(run, lasted, rng)
        assert ended(forked(run, True)) == 0
        resumed = weights(run)
        identical += resumed.keys() == whole.keys() and all(torch.equal(resumed[name], whole[name]) for name in whole)
    print(json.dumps({"killed": killed, "identical": identical, "seconds": lasted}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
