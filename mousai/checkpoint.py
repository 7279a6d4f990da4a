"""Weights to and from disk: a safetensors file, and beside it a card (JSON) that says how they were made."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from mousai.files import atomic_write, sha256, write_text


def save_tensors(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file whole or not at all (`atomic_write`); `metadata` goes into its header."""
    with atomic_write(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata)


def save_weights(model: nn.Module, path: Path, card: dict, half: bool = True) -> dict:
    """Write the model's state to `path` and its card beside it; return the card with parameters and sha256 added.

    With `half`, tensors of more than one number are written in float16; else each tensor keeps its precision.
    """
    state = model.state_dict()
    if half:
        state = {k: v.half() if v.is_floating_point() and v.numel() > 1 else v for k, v in state.items()}
    save_tensors(state, path)
    card = {**card, "parameters": sum(p.numel() for p in model.parameters()), "sha256": sha256(path)}
    write_text(json.dumps(card, indent=1) + "\n", path.with_suffix(".json"))
    return card


def load_weights(model: nn.Module, path: Path) -> dict:
    """Fill the model from `path`; return the card.

    Raises FileNotFoundError where there is no file, ValueError where it is damaged or of another profile.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: train them with `mousai train {path.stem.replace('_', '-')}`")
    card = read_card(path)
    if card.get("sha256", sha256(path)) != sha256(path):
        raise ValueError(f"{path} does not match the sha256 in its card: fetch it again")
    found = shapes_in(path)
    check_shapes(model, found, path.name)
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return card


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Name of each tensor -> its shape, from the file's header alone. Raises ValueError where the file is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}): fetch it again") from error


def read_card(path: Path) -> dict:
    """The card beside a file of weights; empty where there is none. Raises ValueError where that file is not a card."""
    place = path.with_suffix(".json")
    try:
        card = json.loads(place.read_bytes()) if place.is_file() else {}
        runs = [card]
        while runs[-1].get("start") is not None:  # the card of the weights that the run began with
            runs.append(runs[-1]["start"])
        numbers = [run.get(name, 0) for run in runs for name in ("steps", "hours", "hours_in_all", "parameters")]
        if not all(isinstance(number, int | float) for number in numbers):
            raise ValueError("a value is not a number")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{place} is not the card of these weights: fetch both again, or delete the card") from error
    return card


def read_runs(path: Path) -> list[dict]:
    """The cards of all runs behind a file of weights, oldest first. A card holds that of its start in "start"."""
    runs = [read_card(path)]
    while runs[0].get("start") is not None:
        runs.insert(0, runs[0]["start"])
    return runs


def check_shapes(model: nn.Module, found: dict[str, tuple[int, ...]], source: str) -> None:
    """Raise ValueError that names the first tensor which is missing, unknown or of another shape."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{source}: tensor {name!r} is {found.get(name)} in the file and {expected.get(name)} in the model: "
                "these weights are of another profile"
            )
