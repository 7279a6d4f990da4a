"""What a notebook writes: numbers, figures and sounds, each with its provenance.

    report = Report("06_clap_score", profile, out, seed, device)
    report.check()                     # raises, with the mend, where something that the notebook needs is missing
    report.metric("text_score.in_domain.real", 0.61, low=0.58, high=0.64, n=120)
    report.figure(fig, "scores")
    report.done()                      # the last cell: without it the notebook did not succeed

Comparisons and tables are made by `mousai.report.build`, from the files written here.
"""

import hashlib
import json
import math
import os
import platform
import re
import resource
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from IPython.display import Audio
from matplotlib.figure import Figure

from mousai.config import Profile
from mousai.data.dataset import workspace
from mousai.files import runs_dir, sha256, write_text
from mousai.inference.audio import write_audio
from mousai.inference.precision import choose_device
from mousai.report import standalone
from mousai.report.notebooks import NEEDS, UPSTREAM
from mousai.report.results import FORMAT
from mousai.small.profiles import get_profile
from mousai.small.stages import weights_path

VERSIONS = ("torch", "torchaudio", "transformers", "accelerate", "numpy", "librosa", "scikit-learn", "music21")


def write_json(content: Any, path: Path) -> None:
    """Write JSON, complete or not at all. Raises ValueError for NaN and infinity."""
    write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", path)


def plain(value: Any) -> Any:
    """The same value in JSON's own types: numpy and torch scalars and arrays become numbers and lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, torch.Tensor):
        return plain(value.detach().cpu().tolist())
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


class Report:
    """Collects one notebook's results under `out`: results/, figures/, audio/. Nothing counts before `done()`.

    Parameters come as papermill passes them. out: "" is the profile's report folder, which is printed, or for a reader
    in JupyterLab a scratch folder under `runs/lessons`. seed: it also becomes the profile's seed, from which everything
    is generated, and seeds numpy's global generator. swept: other values of the profile's fields, as in
    `standalone.swept`. Raises ValueError for an invalid parameter.
    """

    def __init__(
        self,
        notebook: str,
        profile: str | Profile,
        out: str | Path | None = "",
        seed: int | float | str = 0,
        device: str | None = "",
        **swept: Any,
    ) -> None:
        usual = profile if isinstance(profile, Profile) else get_profile(standalone.text("profile", profile))
        usual = standalone.swept(usual, swept)
        self.settings_sha256 = profile_sha256(usual)
        self.notebook = notebook
        self.seed = standalone.whole("seed", seed)
        self.profile = replace(usual, seed=self.seed)
        wanted = standalone.text("device", device)
        self.device = str(choose_device(wanted or None))
        self.work = workspace(self.profile, os.environ, self.device)  # a notebook reads the environment like a command
        place = out if isinstance(out, Path) else standalone.text("out", out)
        self.live = not str(place) and "JPY_SESSION_NAME" in os.environ  # a reader in Jupyter can move sliders
        self.key = ""
        if str(place):
            self.out = Path(place)
        elif self.live:
            self.out = runs_dir() / "lessons" / self.profile.name
        else:
            self.out = standalone.report_folder(self.work)
            known = {"profile": self.profile.name, "seed": self.seed, "device": wanted}
            self.key = standalone.run_key(notebook, self.out, UPSTREAM.get(notebook, ()), known)
            print(f"results go to {os.path.relpath(self.out)}")
        self.started = time.perf_counter()
        np.random.seed(self.seed % 2**32)  # for seaborn's jitter, so that a second run draws the same
        self.metrics: dict[str, dict] = {}
        self.tables: dict[str, Any] = {}
        self.missing: dict[str, str] = {}
        self.artefacts: list[Path] = []

    def check(self) -> None:
        """Raises FileNotFoundError or ValueError, with the command to run, where something that the notebook needs is
        missing. Nothing is rendered, trained or fetched.
        """
        standalone.check(self.work, NEEDS.get(self.notebook, ()))

    def metric(
        self,
        name: str,
        value: float,
        low: float | None = None,
        high: float | None = None,
        n: int = 1,
        **context: Any,
    ) -> None:
        """Record one number with its 95 % interval [low, high] and `n`, how many items it was measured on.

        `context` is stored as it is: steps, guidance, model sha256, window. Raises ValueError for nan or infinity.
        """
        numbers = {"value": plain(value), "low": plain(low), "high": plain(high)}
        for key, number in numbers.items():
            if number is not None and not math.isfinite(number):
                raise ValueError(f"metric {name!r}: its {key} is {number}: say why with report.not_run({name!r}, why)")
        self.metrics[name] = numbers | {"n": int(n)} | plain(context)

    def data(self, key: str, content: Any) -> None:
        """Record what a table or figure of the paper is drawn from; `key`: "table1", "table4", "figure5" and so on."""
        self.tables[key] = plain(content)

    def not_run(self, name: str, why: str) -> None:
        """Record that `name` was not measured here, and why. Raises ValueError where `why` is empty."""
        if not why.strip():
            raise ValueError(f"not_run({name!r}): an empty reason: say in one line why it was not run")
        self.missing[name] = why

    def figure(self, fig: Figure, name: str) -> None:
        """Save figures/<number>_<name>.png; the same figure gives the same bytes. The notebook shows it itself."""
        path = self.path("figures", name, ".png")
        fig.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
        self.artefacts.append(path)

    def audio(self, w: torch.Tensor | np.ndarray, name: str, seconds: float = 5.0) -> Audio:
        """Write audio/<number>_<name>.ogg, the first `seconds` of w [channels, time] at 48 kHz; return a player.

        The level is not changed: samples beyond -1 and 1 are clipped, and how many is printed.
        """
        rate = self.profile.sample_rate
        wave = torch.as_tensor(w).detach().cpu().float()[..., : round(seconds * rate)]
        path = self.path("audio", name, ".ogg")
        clipped = write_audio(wave, path, rate)
        if clipped:
            print(f"{name}: {clipped} of {wave.numel()} samples were beyond 1 and are clipped")
        self.artefacts.append(path)
        return Audio(filename=str(path), embed=True)

    def done(self) -> None:
        """Write results/<notebook>.json, by which others know that the whole notebook ran."""
        write_json(self.content(), self.out / "results" / f"{self.notebook}.json")
        counts = f"{len(self.metrics)} numbers, {len(self.artefacts)} files, {len(self.missing)} not run"
        print(f"{self.notebook}: {counts}")

    def content(self) -> dict[str, Any]:
        """What `done()` would write now."""
        return {
            "format": FORMAT,
            "notebook": self.notebook,
            "profile": self.profile.name,
            "seed": self.seed,
            "provenance": self.provenance(),
            "metrics": self.metrics,
            "data": self.tables,
            "not_run": self.missing,
            "artefacts": {path.relative_to(self.out).as_posix(): sha256(path) for path in self.artefacts},
        }

    def path(self, folder: str, name: str, ending: str) -> Path:
        """The path of an artefact. Its name begins with the notebook's number, so that no two notebooks share one."""
        number = self.notebook.split("_")[0]
        name = name if name.startswith(f"{number}_") else f"{number}_{name}"
        path = self.out / folder / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def provenance(self) -> dict[str, Any]:
        """How the numbers came about: versions, machine, device, threads, commit, weights, seconds, memory."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return {
            "versions": {"python": platform.python_version()} | {name: installed(name) for name in VERSIONS},
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "processor": processor(),
            "gpu": gpu(self.device),
            "commit": commit(),
            "threads": torch.get_num_threads(),
            "device": self.device,
            "sample_rate": self.profile.sample_rate,
            "profile_sha256": self.settings_sha256,
            "weights_sha256": weights_sha256(self.profile),
            "seconds": round(time.perf_counter() - self.started, 1),
            "peak_memory_gb": round(peak / 1e9, 2),
            **({"key": self.key} if self.key and standalone.ran_whole(self.notebook) else {}),
        }


def processor() -> str:
    """The CPU's name, or its architecture where the system does not name it."""
    with suppress(OSError):
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def gpu(device: str) -> str:
    """Name of the GPU in use and its CUDA version; "" where the device is not a CUDA one."""
    used = device.startswith("cuda")
    return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}" if used else ""


def commit() -> str:
    """The checkout's commit, with "-dirty" where files differ from it; "" where there is no checkout or no git."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    if (root / ".git").exists():
        with suppress(OSError, subprocess.CalledProcessError):
            return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    return ""


def installed(name: str) -> str:
    """The installed version of a package, or "not installed"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def profile_sha256(profile: Profile) -> str:
    """sha256 of all the profile's settings."""
    return hashlib.sha256(json.dumps(profile.as_dict(), sort_keys=True).encode()).hexdigest()


def weights_sha256(profile: Profile) -> dict[str, str]:
    """Name -> sha256 of every weights file of the profile; empty where there is none."""
    folder = weights_path(profile, "dmae").parent
    return {path.stem: sha256(path) for path in sorted(folder.glob("*.safetensors"))}
