"""The authors' published stage 1, archinetai/dmae1d-ATC64-v2 on the Hugging Face hub: the paper's own DMAE.

Only its file of tensors is fetched. The repository's code is never run: the tensors are renamed for our `DMAE`, and
every name and shape is checked. The prefix of the names there (`model.net...`) is a guess, so any prefix is accepted.
"""

import sys
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from mousai.config import Profile
from mousai.interop.authors import import_weights

REPOSITORY = "archinetai/dmae1d-ATC64-v2"
REVISION = "3ffeea68d4c069777055fce9ac77bbb67eec1d68"
ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")  # of files of tensors, in order of preference
UNREACHABLE = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError)


def fetch_dmae(out: Path, profile: Profile) -> tuple[Path, dict]:
    """Download the published weights and write them as out/dmae.safetensors with a card; return both.

    `profile`: the one of the paper's size, `a100`. A download that was cut off is continued. Files in Hugging Face's
    cache are not fetched again; offline only they are used. Raises FileNotFoundError where the weights are in neither
    place, and ValueError that names the file and the first tensor that does not fit.
    """
    path = weights_file()
    notes = {
        "command": f"mousai fetch dmae --out {out}",
        "source": f"{REPOSITORY}/{path.name}",
        "source_revision": REVISION,
        "licence": f"that of https://huggingface.co/{REPOSITORY}",
    }
    return import_weights(path, out, profile, "dmae", notes)


def weights_file() -> Path:
    """The repository's file of tensors in the cache, downloaded where it is missing, after its size is printed."""
    try:
        files = HfApi().model_info(REPOSITORY, revision=REVISION, files_metadata=True).siblings or []
    except (OfflineModeIsEnabled, *UNREACHABLE) as error:
        return cached_file(error)
    sizes = {file.rfilename: file.size for file in files}
    name = tensor_file(list(sizes))
    print(f"{REPOSITORY}/{name}: {(sizes[name] or 0) / 1e6:,.0f} MB, revision {REVISION[:8]}", file=sys.stderr)
    try:
        return Path(hf_hub_download(REPOSITORY, name, revision=REVISION))
    except UNREACHABLE as error:
        raise FileNotFoundError(f"{REPOSITORY}: the download broke off: run the same again, it goes on") from error


def cached_file(reason: Exception) -> Path:
    """The file of tensors in the cache, without network. Raises FileNotFoundError that says why none was used."""
    try:
        folder = Path(snapshot_download(REPOSITORY, revision=REVISION, local_files_only=True))
        path = folder / tensor_file(sorted(path.name for path in folder.iterdir()))
    except (LocalEntryNotFoundError, FileNotFoundError) as error:
        why = "HF_HUB_OFFLINE is set" if isinstance(reason, OfflineModeIsEnabled) else "the hub cannot be reached"
        raise FileNotFoundError(f"{REPOSITORY}: not in the cache, and {why}: run it where there is network") from error
    print(f"{REPOSITORY}/{path.name}: from the cache, revision {REVISION[:8]}", file=sys.stderr)
    return path


def tensor_file(names: list[str]) -> str:
    """The file of tensors among the files `names` of a repository. Raises FileNotFoundError where there is none."""
    for ending in ENDINGS:
        for name in names:
            if name.endswith(ending):
                return name
    raise FileNotFoundError(f"{REPOSITORY}: no file of tensors there, that is, none that ends in {', '.join(ENDINGS)}")
