"""The core is the paper: short, importing no other room, whole without what is ours."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "mousai"
CORE = sorted(PACKAGE.glob("*.py"))
ROOMS = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}

README = PACKAGE.parent / "README.md"
CHECKS = """
assert dmae.unet.noise_level.freqs.isfinite().all() and not tcld.training
assert sound.shape == (1, 2, 65536) and sound.isfinite().all()
again = generate(["Pop"], lambda prompts: text, tcld, dmae, steps=2)
other = generate(["Pop"], lambda prompts: text, tcld, dmae, steps=2, seed=1)
assert torch.equal(sound, again) and (sound - other).abs().max() > 0.01
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
    """README's code, in a copy that has none of the folders."""
    (tmp_path / "mousai").mkdir()
    for path in CORE:
        shutil.copy(path, tmp_path / "mousai")
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.M | re.S)
    (newcomer,) = (block for block in blocks if "from mousai.generate import generate" in block)
    run = subprocess.run([sys.executable, "-c", newcomer + CHECKS], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.strip() == "whole", run.stderr
