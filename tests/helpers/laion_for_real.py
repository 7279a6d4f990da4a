"""LAION-CLAP's own code in a process of its own: a random checkpoint and tokenizers of a few words in a new cache.

python laion_for_real.py CACHE        what came out, as JSON on the last line
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_CACHE": sys.argv[1], "HF_HUB_OFFLINE": "1"}  # before anything of theirs is imported

import torch
from huggingface_hub import try_to_load_from_cache

from mousai.evaluation import clap, laion
from mousai.reproduce.preflight import WORDS, make_laion


def main() -> None:
    before = laion.laion_missing()
    make_laion()
    judge, path = laion.LaionClap(), Path(try_to_load_from_cache(*laion.LAION))
    mine, file = judge.model.model.state_dict(), laion.laion_state(path)
    w = 0.1 * torch.randn(2, 2, 12 * 48_000, generator=torch.Generator().manual_seed(0))
    runs = [clap.clap_score(judge, w, WORDS[:2]) for _ in range(2)]
    said = {
        "missing": [before is not None, laion.laion_missing()],
        "loaded": all(torch.equal(mine[name], tensor) for name, tensor in file.items()),
        "scores": runs[0].tolist(),
        "same": torch.equal(*runs),
        "shapes": [list(judge.embed_audio(w).shape), list(judge.embed_text(WORDS[:1]).shape)],
        "norms": [
            *judge.embed_audio(w[..., :480_000]).norm(dim=1).tolist(),
            *judge.embed_text(WORDS).norm(dim=1).tolist(),
        ],
        "context": judge.context(),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
