"""LAION-CLAP's own code in a process of its own: a random checkpoint and tokenizers of a few words in a new cache.

python laion_for_real.py CACHE        what came out, as JSON on the last line
"""

import json
import os
import sys
from pathlib import Path

CACHE = Path(sys.argv[1])
os.environ |= {"HF_HUB_CACHE": str(CACHE), "HF_HUB_OFFLINE": "1"}  # before anything of theirs is imported

import torch  # noqa: E402
from transformers import BartTokenizer, BertTokenizer, RobertaConfig, RobertaModel, RobertaTokenizer  # noqa: E402

from mousai.evaluation import clap  # noqa: E402

WORDS = ["Metal, 1883, Ryan's Mammoth Collection, 2 of 4", "Pop, 1 of 4", "Electronic and Hip Hop"]
COMMIT = 40 * "0"


def folder(repo: str) -> Path:
    """Where a hub's cache keeps the one version there is of that repository; made, and named its newest."""
    root = CACHE / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    return root / "snapshots" / COMMIT


def tokenizers() -> None:
    """The three that the package asks for when it is imported, and a text tower of two layers, random."""
    for repo, kind, listed in (
        ("roberta-base", RobertaTokenizer, "vocab.json"),
        ("bert-base-uncased", BertTokenizer, "vocab.txt"),
        ("facebook/bart-base", BartTokenizer, "vocab.json"),
    ):
        place, tokenizer = folder(repo), kind().train_new_from_iterator([WORDS], vocab_size=320, show_progress=False)
        tokenizer.save_pretrained(place)
        vocabulary = tokenizer.get_vocab()
        text = json.dumps(vocabulary) if listed.endswith("json") else "\n".join(sorted(vocabulary, key=vocabulary.get))
        (place / listed).write_text(text)
        if repo == "roberta-base":
            config = RobertaConfig(vocab_size=400, num_hidden_layers=2, max_position_embeddings=514, type_vocab_size=1)
            RobertaModel(config).save_pretrained(place)


def checkpoint() -> Path:
    """A file as the music checkpoint's: names with "module.", a buffer that newer versions no longer have."""
    import laion_clap

    torch.manual_seed(1)
    model = laion_clap.CLAP_Module(enable_fusion=False, amodel="HTSAT-base", device="cpu").model
    state = {
        f"module.{name}": torch.randn_like(t) / 20 if t.is_floating_point() else t
        for name, t in model.state_dict().items()
    }
    for name, tensor in state.items():
        if "running_var" in name or name.endswith("logit_scale_a") or name.endswith("logit_scale_t"):
            tensor.fill_(1.0)
    state["module.text_branch.embeddings.position_ids"] = torch.arange(514)[None]
    place = folder(clap.LAION[0])
    place.mkdir(parents=True)
    torch.save({"epoch": 15, "state_dict": state}, place / clap.LAION[1])
    return place / clap.LAION[1]


def main() -> None:
    before = clap.laion_missing()
    tokenizers()
    path = checkpoint()
    judge = clap.LaionClap()
    mine, file = judge.model.model.state_dict(), clap.laion_state(path)
    w = 0.1 * torch.randn(2, 2, 12 * 48_000, generator=torch.Generator().manual_seed(0))
    runs = [clap.clap_score(judge, w, WORDS[:2]) for _ in range(2)]
    said = {
        "missing": [before is not None, clap.laion_missing()],
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
