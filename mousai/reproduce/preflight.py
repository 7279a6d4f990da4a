"""The preflight (--rehearse) of the a100 profile: its networks and lengths, one step of each, on any machine, offline.

What a100 would fetch is replaced by a stand-in of the same shape with random weights, in a separate Hugging Face cache;
what it would train for a week is trained for one step, on little data. All of it lies in `rehearsal/` below
`runs_dir()`, where no real run looks.

python -m mousai.reproduce.preflight t5       makes one of `MAKERS` and prints its name as JSON on the last line
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mousai.config import GENRES
from mousai.files import runs_dir, write_text
from mousai.small.profiles import A100_REHEARSAL, REHEARSAL

NOTE = f"{REHEARSAL}: one step of everything, random text encoder; no number or sound here means anything"
WORDS = ["Metal, 1883, Ryan's Mammoth Collection, 2 of 4", "Pop, 1 of 4", "Electronic and Hip Hop"]  # for tokenizers


def apart() -> None:
    """Make this process, and all that it starts, write to `rehearsal/` below `runs_dir()`, find models only there, and
    stay offline. The user's own data set and weights are ignored. Call it before a library of Hugging Face loads.
    """
    if os.environ.get("HF_HUB_CACHE") == str(runs_dir() / "hub"):
        return  # it was called before
    place = runs_dir().resolve() / "rehearsal"
    os.environ |= {"MOUSAI_HOME": str(place), "HF_HUB_CACHE": str(place / "hub"), "HF_HUB_OFFLINE": "1"}
    os.environ.pop("MOUSAI_DATA", None)
    os.environ.pop("MOUSAI_WEIGHTS", None)


def prepare() -> None:
    """Make every stand-in that is missing, each in a process of its own, so that its memory is freed. The data set must
    exist.

    Raises ChildProcessError where one fails.
    """
    from mousai.bench.efficiency import in_fresh_process

    print(NOTE, flush=True)
    for name in [name for name in MAKERS if not made(name)]:
        print(f"{REHEARSAL}: making {name}", flush=True)
        try:
            in_fresh_process("mousai.reproduce.preflight", name)
        except RuntimeError as error:
            raise ChildProcessError(str(error)) from error


def made(name: str) -> bool:
    """Whether the stand-in `name`, one of `MAKERS`, is complete; weights also of the profile's present settings."""
    from mousai.checkpoint import read_card
    from mousai.evaluation.laion import LAION
    from mousai.small.stages import weights_path

    if name in ("dmae", "tcld"):
        config = json.loads(json.dumps(asdict(getattr(A100_REHEARSAL, name))))
        return read_card(weights_path(A100_REHEARSAL, name)).get("config") == config
    return (repository({"t5": A100_REHEARSAL.tcld.text.encoder, "laion": LAION[0]}[name]) / "refs" / "main").is_file()


def repository(name: str) -> Path:
    """The folder of that repository in this process's Hugging Face cache."""
    return Path(os.environ["HF_HUB_CACHE"]) / f"models--{name.replace('/', '--')}"


@contextmanager
def stand_in(name: str) -> Iterator[Path]:
    """A folder of the cache to fill with that repository's files. It is registered in refs at the end of the block, so
    that an interrupted one is not found.
    """
    place = repository(name) / "snapshots" / REHEARSAL
    place.mkdir(parents=True, exist_ok=True)
    yield place
    write_text(REHEARSAL, repository(name) / "refs" / "main")


def make_t5() -> None:
    """T5-base's encoder with random weights, and a tokenizer of its class, trained on our captions."""
    import torch
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    from mousai.data.dataset import workspace
    from mousai.data.records import prompt

    torch.manual_seed(A100_REHEARSAL.seed)
    records = workspace(A100_REHEARSAL, os.environ).data.records()
    texts = [prompt(r, k) for r in records for k in range(1, r.chunks + 1)]
    blank = T5Tokenizer(extra_ids=0)
    tokenizer = blank.train_new_from_iterator([texts, WORDS, list(GENRES)], vocab_size=2000, show_progress=False)
    config = T5Config(vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
    with stand_in(A100_REHEARSAL.tcld.text.encoder) as place:
        tokenizer.save_pretrained(place)
        T5EncoderModel(config).save_pretrained(place)


def make_laion() -> None:
    """LAION-CLAP's checkpoint with random weights, and the three tokenizers that its package loads when imported."""
    from transformers import BartTokenizer, BertTokenizer, RobertaConfig, RobertaModel, RobertaTokenizer

    for name, kind, listed in (
        ("roberta-base", RobertaTokenizer, "vocab.json"),
        ("bert-base-uncased", BertTokenizer, "vocab.txt"),
        ("facebook/bart-base", BartTokenizer, "vocab.json"),
    ):
        tokenizer = kind().train_new_from_iterator([WORDS], vocab_size=320, show_progress=False)
        words = tokenizer.get_vocab()
        with stand_in(name) as place:
            tokenizer.save_pretrained(place)
            text = json.dumps(words) if listed.endswith("json") else "\n".join(sorted(words, key=words.__getitem__))
            write_text(text, place / listed)
            if name == "roberta-base":
                config = RobertaConfig(vocab_size=400, num_hidden_layers=2, max_position_embeddings=514)
                config.type_vocab_size = 1
                RobertaModel(config).save_pretrained(place)
    make_checkpoint()


def make_checkpoint() -> None:
    """A file like the music checkpoint: names begin with "module.", and one buffer is unknown to newer versions."""
    import laion_clap  # needs the tokenizers
    import torch

    from mousai.evaluation.laion import LAION

    torch.manual_seed(A100_REHEARSAL.seed)
    model = laion_clap.CLAP_Module(enable_fusion=False, amodel="HTSAT-base", device="cpu").model
    state = {"module.text_branch.embeddings.position_ids": torch.arange(514)[None]}
    for name, tensor in model.state_dict().items():
        state[f"module.{name}"] = torch.randn_like(tensor) / 20 if tensor.is_floating_point() else tensor
        if "running_var" in name or name.endswith(("logit_scale_a", "logit_scale_t")):
            state[f"module.{name}"].fill_(1.0)
    with stand_in(LAION[0]) as place:
        torch.save({"epoch": 15, "state_dict": state}, place / LAION[1])


def make_dmae() -> None:
    """Stage 1 after one step, exported as by `mousai train dmae --ship`."""
    from mousai.data.dataset import workspace
    from mousai.training.export import export_weights
    from mousai.training.setup import train_dmae

    model, history = train_dmae(workspace(A100_REHEARSAL, os.environ))
    export_weights(A100_REHEARSAL, "dmae", model, history)


def make_tcld() -> None:
    """Stage 2 after one step, exported as by `mousai train tcld --ship`."""
    from mousai.data.dataset import workspace
    from mousai.small.stages import load_dmae
    from mousai.training.export import export_weights
    from mousai.training.setup import train_tcld

    space = workspace(A100_REHEARSAL, os.environ)
    model, history = train_tcld(space, load_dmae(A100_REHEARSAL))
    export_weights(A100_REHEARSAL, "tcld", model, history)


MAKERS = {"t5": make_t5, "laion": make_laion, "dmae": make_dmae, "tcld": make_tcld}


if __name__ == "__main__":
    MAKERS[sys.argv[1]]()
    print(json.dumps({"made": sys.argv[1]}))
