"""The core is the paper: short, importing no other room, whole without what is ours."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "mousai"
CORE = sorted(PACKAGE.glob("*.py"))
ROOMS = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}

NEWCOMER = """
import torch
from dataclasses import replace
from mousai.config import A100
from mousai.dmae import DMAE
from mousai.generate import generate
from mousai.tcld import TCLD

def narrow(unet):
    return replace(unet, channels=tuple(width // 64 * 2 for width in unet.channels), groups=2, features=16, heads=1)

g = torch.Generator().manual_seed(0)
config = replace(A100.dmae, unet=narrow(A100.dmae.unet), encoder=replace(A100.dmae.encoder, channels=16))
dmae, tcld = DMAE(config), TCLD(replace(A100.tcld, unet=narrow(A100.tcld.unet)), window=64)
w, z, text = torch.randn(1, 2, 2**16, generator=g), torch.randn(2, 32, 64), torch.randn(2, 64, 768)
for model, batch in ((dmae, (w,)), (tcld, (z, text))):
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    before = [p.detach().clone() for p in model.parameters()]
    model(*batch, g).backward()
    optimizer.step()
    assert all(p.grad is not None for p in model.parameters())
    assert any((p != b).any() for p, b in zip(model.parameters(), before))
made = generate(["Pop"], lambda prompts: text[:1], tcld.eval(), dmae.eval(), steps=2, guidance=3.0, seed=0)
again = generate(["Pop"], lambda prompts: text[:1], tcld, dmae, steps=2, guidance=3.0, seed=0)
assert made.shape == (1, 2, 65536) and made.isfinite().all() and torch.equal(made, again)
print("whole")
"""


def test_the_core_is_at_most_1450_lines_and_no_file_over_300():
    lines = {path.name: len(path.read_text().splitlines()) for path in CORE}
    assert sum(lines.values()) <= 1450, lines
    assert max(lines.values()) <= 300, lines


@pytest.mark.parametrize("path", [path for path in CORE if path.name != "__main__.py"], ids=lambda path: path.name)
def test_the_core_imports_no_other_room(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
        names += [f"mousai.{name.name}" for name in node.names] if names == ["mousai"] else []
        found |= {name.split(".")[1] for name in names if name.startswith("mousai.")}
    assert not found & ROOMS


@pytest.mark.system
def test_without_any_other_room_both_stages_of_the_paper_train_a_step_and_generate(tmp_path):
    (tmp_path / "mousai").mkdir()
    for path in CORE:
        shutil.copy(path, tmp_path / "mousai")
    run = subprocess.run([sys.executable, "-c", NEWCOMER], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.strip() == "whole", run.stderr
