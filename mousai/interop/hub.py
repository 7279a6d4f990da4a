"""Share weights: a folder or a Hugging Face repository with all that `Mousai.from_pretrained` needs (ours).

It holds config.json (every field of the profile), dmae.safetensors, tcld.safetensors, their cards, and README.md.
"""

import json
import shutil
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import torch
from huggingface_hub import HfApi, ModelCardData, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from mousai.checkpoint import check_shapes, load_weights, read_card, shapes_in
from mousai.config import Profile
from mousai.dmae import DMAE
from mousai.files import atomic_write, write_text
from mousai.small.stages import new_dmae, new_tcld
from mousai.tcld import TCLD

STAGES = ("dmae", "tcld")
FILES = ("README.md", "config.json", *(f"{stage}.{ending}" for stage in STAGES for ending in ("safetensors", "json")))


def write_folder(profile: Profile, weights: Path, folder: Path) -> Path:
    """Copy the weights and cards of both stages from `weights` to `folder`, add config.json and README.md, return it.

    Raises FileNotFoundError where a file of weights or a card is missing.
    """
    for name in FILES[2:]:
        if not (weights / name).is_file():
            raise FileNotFoundError(f"{weights / name}: missing: `mousai train` writes weights and their card")
    for name in FILES[2:]:
        with atomic_write(folder / name) as temporary:
            shutil.copyfile(weights / name, temporary)
    write_text(json.dumps(profile.as_dict(), indent=1) + "\n", folder / "config.json")
    write_text(
        page(profile, {stage: read_card(weights / f"{stage}.safetensors") for stage in STAGES}), folder / "README.md"
    )
    return folder


def push(folder: Path, repository: str, private: bool = True) -> str:
    """Upload a folder of `write_folder`; return its address. It needs the token that `hf auth login` stores."""
    hub = HfApi()
    hub.create_repo(repository, private=private, exist_ok=True)
    return str(hub.upload_folder(folder_path=folder, repo_id=repository, allow_patterns=list(FILES)))


def fetch(source: str | Path, revision: str | None = None) -> Path:
    """`source` itself if it is a folder, else the cached folder of the Hugging Face repository of that name.

    What is missing in the cache is downloaded. Raises FileNotFoundError where there is neither.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        why = "no such folder, and no such repository on the hub or in the cache"
        raise FileNotFoundError(f"{source}: {why}: check the name and the network") from error


def read_profile(folder: Path) -> Profile:
    """The profile in config.json. Raises FileNotFoundError, or ValueError that names the wrong field."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing: `Mousai.save_pretrained` writes it")
    try:
        return built(Profile, json.loads(path.read_bytes()), "profile")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a profile of this version: {error}") from error


def stages(profile: Profile, folder: Path) -> tuple[TCLD, DMAE]:
    """Both networks with their weights. Raises ValueError where files do not fit, before memory is used for them."""
    try:
        with torch.device("meta"):
            empty = {"tcld": new_tcld(profile), "dmae": new_dmae(profile.dmae)}
    except (RuntimeError, ArithmeticError, TypeError, IndexError, MemoryError) as error:
        raise ValueError(f"{folder / 'config.json'} describes no net that can be built: {error}") from error
    for name, net in empty.items():
        path = folder / f"{name}.safetensors"
        if path.is_file():  # else loading says so
            check_shapes(net, shapes_in(path), path.name)
    tcld, dmae = new_tcld(profile), new_dmae(profile.dmae)
    for name, net in (("tcld", tcld), ("dmae", dmae)):
        load_weights(net, folder / f"{name}.safetensors")
    return tcld.eval(), dmae.eval()


def built(kind: Any, value: Any, name: str) -> Any:
    """Convert a value from JSON to `kind`: dataclass, tuple, number or text. Raises ValueError that names the field."""
    if is_dataclass(kind):
        if isinstance(value, dict):  # the class itself or the small profiles' subclass: the one whose fields fit best
            kinds = (kind, *kind.__subclasses__())  # type: ignore[attr-defined]
            kind = min(kinds, key=lambda each: len({field.name for field in fields(each)} ^ value.keys()))
        wrong = sorted(value.keys() ^ {field.name for field in fields(kind)}) if isinstance(value, dict) else value
        if wrong or not isinstance(value, dict):
            raise ValueError(f"{name}: missing or unknown {wrong!r}")
        parts = {field.name: built(field.type, value[field.name], f"{name}.{field.name}") for field in fields(kind)}
        return kind(**parts)  # type: ignore[operator]
    if isinstance(kind, UnionType) and any(get_origin(part) is tuple for part in get_args(kind)):  # a tuple, or None
        kind = type(None) if value is None else next(part for part in get_args(kind) if get_origin(part) is tuple)
    if get_origin(kind) is tuple:
        inside = get_args(kind)
        if isinstance(value, list) and (inside[-1] is Ellipsis or len(value) == len(inside)):
            return tuple(built(inside[0], item, f"{name}[{i}]") for i, item in enumerate(value))
    elif isinstance(value, kind if isinstance(kind, UnionType) else (int, float) if kind is float else kind):
        return value
    raise ValueError(f"{name} is {value!r}")


def page(profile: Profile, cards: dict[str, dict]) -> str:
    """The text of README.md: how to use the weights, how they were trained, and their licences, all from the cards."""
    licences = [card.get("licence", "unknown") for card in cards.values()]
    known = "other" if any(licence != "unknown" for licence in licences) else "unknown"
    about = ModelCardData(
        license="mit" if all(licence.startswith("MIT") for licence in licences) else known,
        library_name="mousai",
        pipeline_tag="text-to-audio",
        tags=["music", "diffusion"],
    )
    prompt = cards.get("tcld", {}).get("prompt", "Pop, 2 of 4")
    rows = [
        f"| `{stage}.safetensors` | {card.get('parameters', 0):,} | {card.get('steps', '')} | "
        f"{card.get('hours_in_all', card.get('hours', ''))} | {card.get('data', '')} | {card.get('final_loss', '')} |"
        for stage, card in cards.items()
    ]
    seconds = profile.tcld.crop / profile.sample_rate
    parts = [
        f"---\n{about.to_yaml()}\n---\n# Moûsai, the `{profile.name}` profile",
        "Text to 48 kHz stereo in two diffusion stages, [arXiv 2301.11757](https://arxiv.org/abs/2301.11757); trained "
        f"on chunks of {seconds:.1f} s. Text encoder: {profile.tcld.text.encoder}, not in here.",
        "```python\nfrom mousai.inference.audio import write_audio\nfrom mousai.inference.pipeline import Mousai\n\n"
        'music = Mousai.from_pretrained("this folder")\n'
        f'w = music.generate([{prompt!r}], seconds=10, seed=0)  # [1, 2, 480000]\nwrite_audio(w[0], "out.flac")\n```',
        "| file | parameters | steps | hours | data | loss at the end |\n|---|---|---|---|---|---|\n" + "\n".join(rows),
        "\n".join(f"- licence of {stage}: {licence}" for stage, licence in zip(cards, licences, strict=True)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
