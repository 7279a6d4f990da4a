"""A notebook that is run outside of `mousai reproduce`, by papermill or in Jupyter: parameters, needs, cache key."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from IPython.core.getipython import get_ipython

from mousai.config import Profile
from mousai.data.dataset import Workspace
from mousai.evaluation.samples import held_out
from mousai.files import user_weights
from mousai.inference.samplers import get_sampler
from mousai.report import cache
from mousai.report.notebooks import NEEDS, UPSTREAM
from mousai.small.stages import PACKAGE, weights_path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
HIGHEST = 2**63 - 1  # the largest seed that torch takes
INJECTED = "# Parameters\n"  # the beginning of the cell that papermill adds with the values it was given


def report_folder(work: Workspace) -> Path:
    """The default report folder: reports/<profile>, with the names of the user's own data and weights added to it."""
    own = [work.root.name] if work.own_data else []
    weights = user_weights()
    own += [weights.name] if weights else []
    return ROOT / "reports" / "-".join([work.name, *own])


def text(name: str, value: Any) -> str:
    """A parameter that is text; None becomes "". Raises ValueError, which names the parameter."""
    if value is None or isinstance(value, str):
        return value or ""
    raise ValueError(f"parameter {name} is {value!r}: give a text, or leave it out")


def number(name: str, value: Any) -> float:
    """A parameter that is a number, or text such as "1e-4". Raises ValueError, which names the parameter."""
    try:
        if not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"parameter {name} is {value!r}: give a number")


def whole(name: str, value: Any) -> int:
    """A parameter that is a whole number from 0 on, or text such as "1e3". Raises ValueError, which names the
    parameter.
    """
    if type(value) is int or (isinstance(value, str) and re.fullmatch(r"\s*\d+\s*", value)):
        found = int(value)  # exact, because a float does not hold large integers
    else:
        found = number(name, value)
    if not 0 <= found <= HIGHEST or found != int(found):
        raise ValueError(f"parameter {name} is {value!r}: give a whole number from 0 to {HIGHEST}")
    return int(found)


def flag(name: str, value: Any) -> bool:
    """A parameter that is true or false, in any usual spelling. Raises ValueError, which names the parameter."""
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "none": False}
    if str(value).lower() not in known:
        raise ValueError(f"parameter {name} is {value!r}: give true or false")
    return known[str(value).lower()]


def swept(profile: Profile, wanted: dict[str, Any]) -> Profile:
    """The profile with other values of fields of its sampling and evaluation; wanted: field -> value.

    "" for the sampler, -1 for the guidance and 0 for any other field keep the profile's value. Raises ValueError, which
    names the parameter.
    """
    given: dict[str, Any] = {}
    for name, value in wanted.items():
        if name == "sampler":
            given |= {name: text(name, value)} if text(name, value) else {}
        elif name == "guidance":
            given |= {name: number(name, value)} if number(name, value) != -1 else {}
        else:
            given |= {name: whole(name, value)} if whole(name, value) else {}
    if "sampler" in given:
        get_sampler(given["sampler"])
    of_sampling = {name: value for name, value in given.items() if hasattr(profile.sampling, name)}
    others = {name: value for name, value in given.items() if name not in of_sampling}
    sampling, evaluation = replace(profile.sampling, **of_sampling), replace(profile.evaluation, **others)
    return replace(profile, sampling=sampling, evaluation=evaluation)


def check(work: Workspace, names: tuple[str, ...]) -> None:
    """Check that what a notebook needs is here; the names are those of `NEEDS`.

    Raises FileNotFoundError or ValueError, with the command to run.
    """
    profile = work.profile
    for name in names:
        if name in ("dmae", "tcld"):
            check_weights(profile, name)
        elif name == "text":
            check_text_encoder(profile)
        elif name == "data":
            assert work.data
        elif name == "test":
            held_out(work)
        elif name == "genres":
            check_genres(work)
        elif name != "segments":
            raise ValueError(f"{name!r}: not a need of a notebook: choose a name that `NEEDS` has")
        elif len({record.chunks for record in held_out(work)}) > 1:
            mend = "leave this notebook out, or import pieces of one length"
            raise ValueError(f"{work.root}: test pieces of several lengths, whose segments cannot be compared: {mend}")


def check_genres(work: Workspace) -> None:
    """Raises ValueError where fewer than two genres are in both the train and the test split."""
    both = {record.genre for record in held_out(work)}.intersection(work.data.genres)
    if len(both) < 2:
        named = f"only {', '.join(both)}" if both else "none"
        others = ",".join(n[:2] for n in UPSTREAM if not {"genres", "segments"}.intersection(NEEDS.get(n, ())))
        mend = f"import it with tags or with a list that has a column `genre`, or run `--only {others}`"
        raise ValueError(
            f"{work.root}: this notebook compares genres, but {named} is in both training and test: {mend}"
        )


def check_weights(profile: Profile, name: str) -> None:
    """Raises FileNotFoundError where the profile has no such weights."""
    path = weights_path(profile, name)
    if not path.is_file():
        ship = user_weights() is None and os.access(PACKAGE, os.W_OK)
        train = f"`mousai train {name} --profile {profile.name} {'--ship' if ship else f'--out DIR/{path.name}'}`"
        mend = (
            "or set MOUSAI_WEIGHTS to a folder that has them" if ship else "and set MOUSAI_WEIGHTS to their folder DIR"
        )
        raise FileNotFoundError(f"no weights at {path}: train them with {train}, {mend}")


def check_text_encoder(profile: Profile) -> None:
    """Raises FileNotFoundError, with the command to run, where the text encoder has to be fetched first."""
    name = profile.tcld.text.encoder
    if name != "minilm" and not Path(name).is_dir() and not try_to_load_from_cache(name, "config.json"):
        make = "`mousai reproduce --profile a100 --rehearse` makes it"
        mend = make if profile.rehearsal else f"fetch it once, `hf download {name}`"
        raise FileNotFoundError(f"text encoder {name!r} is not in the local cache: {mend}")


def run_key(notebook: str, out: Path, upstream: tuple[str, ...], known: dict[str, Any]) -> str:
    """The cache key (`cache.key`) of this run; "" outside of a Jupyter kernel, and for a notebook that is not ours.

    It depends on the notebook's parameters: the values `known`, the others as this kernel's variables have them.
    """
    shell = get_ipython()
    path = NOTEBOOKS / f"{notebook}.ipynb"
    if shell is None or not path.is_file():
        return ""
    values = {name: known.get(name, shell.user_ns.get(name)) for name in cache.defaults(path)}
    return cache.key(path, values, upstream, out)


def ran_whole(notebook: str) -> bool:
    """Whether this kernel has run the notebook's code cells, each once, in order, and nothing else."""
    shell = get_ipython()
    history = shell.history_manager.input_hist_raw[1:] if shell is not None and shell.history_manager else []
    ran = [source.rstrip("\n") for source in history if not source.startswith(INJECTED)]
    return ran == [source.rstrip("\n") for source in cache.code_cells(NOTEBOOKS / f"{notebook}.ipynb")]
