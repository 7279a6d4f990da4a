"""Seconds from a prompt to a chunk of sound for one solver, in a process of its own.

python -m mousai.bench.solver_time cpu ddim 100 100 float32 ""     profile, sampler, steps of stage 2 and 1, precision,
                                                                   device; JSON on the last line
"""

import json
import sys
from dataclasses import replace
from functools import partial

from mousai.bench.efficiency import PROMPT, in_fresh_process, timed
from mousai.config import Profile
from mousai.inference.pipeline import Mousai
from mousai.small.profiles import get_profile


def fresh_chunk(
    profile: Profile, sampler: str, steps: tuple[int, int], precision: str = "", device: str | None = None
) -> float:
    """`chunk_seconds` in a fresh process."""
    arguments = (profile.name, sampler, *map(str, steps), precision, device or "")
    return in_fresh_process("mousai.bench.solver_time", *arguments)["seconds"]


def chunk_seconds(
    profile: Profile, sampler: str, steps: tuple[int, int], precision: str | None, device: str | None
) -> float:
    """Seconds from a prompt to a chunk of sound, without loading and warm-up. steps: of stage 2 and of stage 1."""
    model = Mousai.load(profile, device)
    how = model.sampling(tcld_steps=steps[0], dmae_steps=steps[1], sampler=sampler, precision=precision)
    make = partial(model.optimized_for_cpu(how).generate, [PROMPT], profile.tcld.crop / profile.sample_rate)
    make(sampling=replace(how, tcld_steps=1, dmae_steps=1))
    return timed(lambda: make(sampling=how))


if __name__ == "__main__":
    name, kind, n, k, how, place = sys.argv[1:]
    seconds = chunk_seconds(get_profile(name), kind, (int(n), int(k)), how or None, place or None)  # type: ignore
    print(json.dumps({"seconds": seconds}))
