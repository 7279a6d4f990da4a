"""What a notebook writes: its numbers, its figures, its sounds, each with where it came from.

    report = Report("06_clap_score", profile, out, seed, device)
    report.check()                     # what the notebook needs is here, or one line says how to get it
    report.metric("text_score.in_domain.real", 0.61, low=0.58, high=0.64, n=120)
    report.figure(fig, "scores")
    report.done()                      # the last cell: without it the notebook did not succeed

Nothing here compares or draws tables: `mousai.report.build` does, from the files written here.
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
    """Write JSON, whole or not at all. Raises ValueError on NaN and infinity."""
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

    The parameters are taken as papermill passes them. `out` "" is the report of the profile, said in a line; for a
    reader in JupyterLab a scratch folder under `runs/lessons`. `seed` is that of the profile too, from which all that
    is generated starts, and numpy's global generator; `swept`: other values of the profile's fields, as
    `standalone.swept` takes them. Raises ValueError for a parameter that does not fit.
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
        self.work = workspace(self.profile, os.environ, self.device)  # a notebook is called as a command is
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
        np.random.seed(self.seed % 2**32)  # seaborn's jitter: a second run is to draw the same
        self.metrics: dict[str, dict] = {}
        self.tables: dict[str, Any] = {}
        self.missing: dict[str, str] = {}
        self.artefacts: list[Path] = []

    def check(self) -> None:
        """Raises FileNotFoundError or ValueError, with the command that mends, where something is missing that the
        notebook needs. Nothing is rendered, trained or fetched.
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
        """One number with its 95 % interval [low, high] and the count `n` it was taken over.

        `context` is kept as it is: steps, guidance, model sha256, window. Raises ValueError if it is not finite.
        """
        numbers = {"value": plain(value), "low": plain(low), "high": plain(high)}
        for key, number in numbers.items():
            if number is not None and not math.isfinite(number):
                raise ValueError(f"metric {name!r}: its {key} is {number}: say why with report.not_run({name!r}, why)")
        self.metrics[name] = numbers | {"n": int(n)} | plain(context)

    def data(self, key: str, content: Any) -> None:
        """What a table or figure of the paper is redrawn from: "table1", "table4", "figure5" and so on."""
        self.tables[key] = plain(content)

    def not_run(self, name: str, why: str) -> None:
        """Say that `name` was not measured here, and why in one line."""
        if not why.strip():
            raise ValueError(f"not_run({name!r}): an empty reason: say in one line why it was not run")
        self.missing[name] = why

    def figure(self, fig: Figure, name: str) -> None:
        """Save figures/<number>_<name>.png, the same bytes for the same figure; the notebook shows it as usual."""
        path = self.path("figures", name, ".png")
        fig.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
        self.artefacts.append(path)

    def audio(self, w: torch.Tensor | np.ndarray, name: str, seconds: float = 5.0) -> Audio:
        """Write audio/<number>_<name>.ogg, the first `seconds` of w [channels, time] at 48 kHz, and return a player.

        Loudness is left as it is: samples beyond -1 and 1 are clipped, and a line says how many.
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
        """Write results/<notebook>.json: the sign that the whole notebook ran."""
        write_json(self.content(), self.out / "results" / f"{self.notebook}.json")
        counts = f"{len(self.metrics)} numbers, {len(self.artefacts)} files, {len(self.missing)} not run"
        print(f"{self.notebook}: {counts}")

    def content(self) -> dict[str, Any]:
        """What `done()` writes, as it stands now."""
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
        """Where an artefact goes, the notebook's number in front so that two notebooks never share a name."""
        number = self.notebook.split("_")[0]
        name = name if name.startswith(f"{number}_") else f"{number}_{name}"
        path = self.out / folder / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def provenance(self) -> dict[str, Any]:
        """What a number depends on besides the code: versions, device, threads, weights, seconds, memory."""
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
    """The CPU's name, as far as the system tells it."""
    with suppress(OSError):
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def gpu(device: str) -> str:
    """Name of the GPU that was used and the CUDA it was used with, or empty."""
    used = device.startswith("cuda")
    return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}" if used else ""


def commit() -> str:
    """The checkout's commit, with "-dirty" where files differ from it; empty where there is no checkout or no git."""
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
    """sha256 of every weight file that ships with the profile, by name; empty where none does."""
    folder = weights_path(profile, "dmae").parent
    return {path.stem: sha256(path) for path in sorted(folder.glob("*.safetensors"))}
