"""Table 3: seconds and memory for 43.7 s of music, each run in a process of its own.

python -m mousai.bench.efficiency cpu 43.69 0        one run: profile, seconds, seed; JSON on the last line
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.config import Profile
from mousai.inference.audio import write_audio
from mousai.inference.onednn import linear
from mousai.inference.pipeline import Mousai
from mousai.inference.precision import choose_device, chosen
from mousai.small.dmae import SmallDMAE
from mousai.small.profiles import get_profile

PAPER_SECONDS = 2**21 / 48_000  # 43.69 s, the paper's chunk
TIMED = 5  # timed calls of a network, after one that is not timed
PROMPT = "Metal, 1883, Ryan's Mammoth Collection, 2 of 4"


class Stopwatch:
    """Measures the seconds spent in one network and its number of calls, by hooks, so that the code stays unchanged.

    each: so many batch items count as one call. So a call on several windows counts as several, and both branches of
    guidance, or several parts of one window, count as one.
    """

    def __init__(self, module: nn.Module, each: int = 1):
        self.seconds = 0.0
        self.items = 0
        self.started = 0.0
        self.each = each
        module.register_forward_pre_hook(lambda *_: self.start())
        module.register_forward_hook(lambda _, given, __: self.stop(len(given[0])))

    def start(self) -> None:
        self.started = now()

    def stop(self, items: int) -> None:
        self.seconds += now() - self.started
        self.items += items

    @property
    def calls(self) -> int:
        return self.items // self.each


def now() -> float:
    """The time in seconds, after CUDA, where there is any, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(
    profile: Profile, seconds: float, seed: int = 0, device: str | None = None, steps: int | None = None
) -> dict:
    """One timed generation in this process, after a warm-up of one window with two steps a stage.

    `steps`: of each stage; None takes the profile's.
    Returned are seconds, memory_gb, seconds and calls of each network, and the settings. Loading and warm-up are not in
    `seconds`, as in the paper's "inference time" [B]; writing the sound to a file is. Memory is the process's peak.
    """
    loaded = now()
    model = Mousai.load(profile, device).optimized_for_cpu()
    load_seconds = now() - loaded
    sampling = model.sampling(tcld_steps=steps, dmae_steps=steps)
    warm_up = model.sampling(tcld_steps=2, dmae_steps=2)
    model.generate(PROMPT, min(seconds, profile.dmae.crop / profile.sample_rate), seed, warm_up)
    branches = 1 if profile.sampling.guidance == 1 else 2
    groups = model.dmae.sharing if isinstance(model.dmae, SmallDMAE) else 1
    watches = {"text": Stopwatch(model.text), "DMAE": Stopwatch(model.dmae.unet, groups)}
    watches["TCLD"] = Stopwatch(model.tcld.unet, branches)
    with tempfile.TemporaryDirectory() as folder:
        started = now()
        w = model.stream([PROMPT], seconds, seed, sampling)
        path = Path(folder) / "out.wav"
        write_audio((part[0] for part in w), path, profile.sample_rate)
        total = now() - started
        samples = soundfile.info(path).frames
    stages = {name: watch.seconds for name, watch in watches.items()}
    return {
        "seconds": total,
        "audio_seconds": samples / profile.sample_rate,
        "load_seconds": load_seconds,
        "memory_gb": peak_memory_gb(),
        "stages": stages | {"rest": total - sum(stages.values())},
        "calls": {name: watch.calls for name, watch in watches.items()},
        "steps": [sampling.tcld_steps, sampling.dmae_steps],
        "guidance": profile.sampling.guidance,
        "sampler": profile.sampling.sampler,
        "precision": computed_in(model),
        "threads": torch.get_num_threads(),
        "device": str(choose_device(device)),
    }


def computed_in(model: Mousai) -> str:
    """The precision of both stages: "float32", or "TCLD float32, DMAE bfloat16"."""
    kinds = []
    usual = model.profile.sampling
    for stage, precision in ((model.tcld, usual.tcld_precision), (model.dmae, usual.dmae_precision)):
        kinds.append(str(chosen(precision, next(stage.parameters()).device)).removeprefix("torch."))
    return kinds[0] if kinds[0] == kinds[1] else f"TCLD {kinds[0]}, DMAE {kinds[1]}"


def timed(call: Callable[[], Tensor]) -> float:
    """Seconds that one call takes."""
    started = now()
    call()
    return now() - started


def machine_peak(n: int = 2048) -> float:
    """GFLOP/s of this machine's CPU in float32: the faster of a large matrix product and a large convolution."""
    a = torch.randn(n, n)
    b = torch.randn(n, n)
    x = torch.randn(1, 512, 8192)
    w = torch.randn(512, 512, 3)
    work = {lambda: linear(a, b): 2 * n**3, lambda: F.conv1d(x, w, padding=1): 2 * 512 * 512 * 3 * 8192}
    speeds = []
    with torch.no_grad():
        for call, flop in work.items():
            call()
            for _ in range(5):
                started = time.perf_counter()
                call()
                speeds.append(flop / 1e9 / (time.perf_counter() - started))
    return max(speeds)


def peak_memory_gb() -> float:
    """Peak of this process in GB (1e9 bytes): CUDA memory where CUDA is available, else resident memory."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else resident_peak_gb()


def resident_peak_gb() -> float:
    """Peak resident memory of this process in GB; Python and torch alone take about 0.5 GB.

    On Linux it is VmHWM, because a child process starts with its parent's peak in ru_maxrss.
    """
    status = Path("/proc/self/status")
    own = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    if own:
        return int(own[1]) * 1024 / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def fresh_run(
    profile: Profile, seconds: float, seed: int = 0, device: str | None = None, steps: int | None = None
) -> dict:
    """`measure` in a fresh process."""
    module, few = "mousai.bench.efficiency", str(steps or "")
    return in_fresh_process(module, profile.name, str(seconds), str(seed), device or "", few)


def in_fresh_process(module: str, *arguments: str) -> dict:
    """Run `python -m module arguments`, offline; return the JSON of its last line.

    Raises RuntimeError, with the last line of its stderr, where it fails.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        why = said if done.returncode > 0 else f"ended by signal {-done.returncode}: is there enough memory?"
        raise RuntimeError(f"{' '.join(command[2:]).strip()} failed: {why}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def timed_runs(
    profile: Profile,
    seconds: float = PAPER_SECONDS,
    budget: float = 600.0,
    device: str | None = None,
    repeats: int | None = None,
) -> list[dict]:
    """The results of up to `repeats` fresh runs, by default `evaluation.repeats`, one after another, each its own seed.

    No run is begun that is expected to exceed `budget` seconds in all; there is at least one.
    """
    runs = []
    started = time.perf_counter()
    for seed in range(repeats or profile.evaluation.repeats):
        runs.append(fresh_run(profile, seconds, seed, device))
        spent = time.perf_counter() - started
        if spent * (len(runs) + 1) / len(runs) > budget:
            break
    return runs


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """(first quartile, median, third quartile), interpolated linearly."""
    first, median, third = np.percentile(np.asarray(values, dtype=np.float64), [25, 50, 75])
    return float(first), float(median), float(third)


def efficiency_row(runs: Sequence[dict], system: str = "ours") -> dict:
    """The row of Table 3 from the results of `measure`: medians, quartiles, and both ratios of `times`."""
    kept = ("steps", "guidance", "sampler", "precision", "calls", "threads", "device")
    return {
        "system": system,
        **times(quartiles([run["seconds"] for run in runs]), runs[0]["audio_seconds"]),
        "memory_gb": quartiles([run["memory_gb"] for run in runs])[1],
        "n": len(runs),
        **{key: runs[0][key] for key in kept},
    }


def times(seconds: Sequence[float], audio_seconds: float) -> dict:
    """The time columns of Table 3. seconds: first quartile, median, third quartile for `audio_seconds` of music.

    time_per_audio is the paper's column, seconds of work a second of music, known as the real-time factor (RTF, lower
    is better); inverse_rtf is its inverse.
    """
    first, median, third = seconds
    return {
        "seconds": median,
        "seconds_quartiles": [first, third],
        "time_per_audio": median / audio_seconds,
        "inverse_rtf": audio_seconds / median,
        "audio_seconds": audio_seconds,
    }


def timed_calls(call: Callable[[], Tensor]) -> tuple[Tensor, tuple[float, float, float]]:
    """(result of the last call, quartiles of the seconds of `TIMED` calls), after one call that is not timed."""
    result = torch.empty(0)
    seconds = []
    for _ in range(1 + TIMED):
        started = time.perf_counter()
        with torch.no_grad():
            result = call()
        seconds.append(time.perf_counter() - started)
    return result, quartiles(seconds[1:])


def per_call_row(
    system: str,
    what: str,
    calls: dict[str, int],
    timed: Mapping[str, Sequence[float]],
    audio_seconds: float,
    memory_gb: float,
) -> dict:
    """A row of Table 3 that is computed: the number of calls times the quartiles of one call's seconds, summed.

    calls: network -> number of its calls. timed: network -> quartiles of a call's seconds. what: a remark for `how`.
    """
    return {
        "system": system,
        "how": f"{what}; per call x calls, {TIMED} calls timed after one",
        **times([sum(calls[name] * timed[name][i] for name in calls) for i in range(3)], audio_seconds),
        "memory_gb": memory_gb,
        "n": TIMED,
        "calls": calls,
        "seconds_per_call": {name: timed[name][1] for name in calls},
    }


if __name__ == "__main__":
    name, length, number, place, few = [*sys.argv[1:], "", ""][:5]
    print(json.dumps(measure(get_profile(name), float(length), int(number), place or None, int(few or 0) or None)))
