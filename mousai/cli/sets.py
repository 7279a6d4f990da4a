"""Commands about data sets: `mousai data import | prepare | shards | latents`."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from mousai.cli.arguments import COUNT, FEW, MEGABYTES, Device, Profile, Weights, writable
from mousai.cli.offline import offline

data = typer.Typer(rich_markup_mode=None, help="The embedded music, or your own.")


@data.command("import")
def import_music(
    source: Annotated[
        Path, typer.Argument(exists=True, metavar="FROM", help="A folder, a .zip, a .tar, or a list: CSV, TSV, JSON.")
    ],
    out: Annotated[Path, typer.Option(parser=writable, metavar="DIR", help="Where the data set goes.")],
    profile: Profile = "a100",
    jobs: Annotated[int, typer.Option(parser=FEW, metavar="N", help="Processes.")] = 2,
    audio: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, metavar="DIR", help="Where a list's files are.")
    ] = None,
    split_by: Annotated[
        Literal["artist", "album", "piece"],
        typer.Option(metavar="WHAT", help="artist, album or piece: never divided between splits."),
    ] = "artist",
    genre: Annotated[str, typer.Option(metavar="NAME", help="For pieces without a genre.")] = "",
    artist: Annotated[str, typer.Option(metavar="NAME", help="For pieces without an artist.")] = "",
) -> None:
    """Turn tagged music of your own into a data set. 48 kHz, cut into the profile's chunks, in three splits."""
    from mousai.data.imported import NothingFits, Wanted
    from mousai.data.imported import import_music as run
    from mousai.data.lengths import fits_encoder
    from mousai.small.profiles import PROFILES, get_profile

    chosen = get_profile(profile)
    wanted = Wanted(chosen.tcld.crop, chosen.data, audio, split_by, genre, artist)
    try:
        done = run(source, out, wanted, jobs)
    except NothingFits as error:
        fitting = [p.name for p in PROFILES.values() if p.tcld.crop / p.sample_rate <= error.longest]
        mend = f"--profile {fitting[-1]} cuts shorter ones" if fitting else "no profile cuts shorter ones"
        raise ValueError(f"{error} of --profile {profile}: {mend}") from None
    counts = done.counts()
    pieces, chunks = counts.pop("pieces"), counts.pop("chunks")
    reasons = ", ".join(f"{n} {reason}" for reason, n in counts.items())
    why = f" ({reasons}): see skipped.csv" if reasons else ""
    print(f"{out}: {pieces} pieces, {chunks} chunks, {sum(counts.values())} files skipped{why}")
    print(f"splits by {split_by}: {done.sizes()}")
    if done.notes:
        print(f"{len(done.notes)} notes on files: see notes.csv")
    if untagged := done.untagged():
        print(f"{untagged} of {pieces} pieces have a title and no other tag: captions are little more than '1 of 4'")
    try:
        if long := done.too_long(fits_encoder(chosen.tcld.text)):
            print(f"{long} of {pieces} captions are longer than the text encoder takes: they lose whole tags")
    except FileNotFoundError as error:
        print(f"cannot tell how many captions are too long: {error}")
    print(f"MOUSAI_DATA={shlex.quote(str(out))} mousai train dmae --profile {profile}")


@data.command("prepare")
def prepare(
    profile: Profile = "cpu",
    jobs: Annotated[int, typer.Option(parser=COUNT, metavar="N", help="Processes.")] = 2,
) -> None:
    """Arrange and render the embedded music. What is there already is kept."""
    from mousai.data.dataset import workspace
    from mousai.data.embedded import prepare as run
    from mousai.small.profiles import get_profile

    if own := os.environ.get("MOUSAI_DATA"):
        raise ValueError(f"{own}: a data set of your own, nothing is rendered into it: unset MOUSAI_DATA")
    chosen = get_profile(profile)
    print(run(chosen.data, workspace(chosen, os.environ).root, jobs))


@data.command("shards")
def shards(
    out: Annotated[Path, typer.Option(parser=writable, metavar="DIR", help="Where the shards go.")],
    profile: Profile = "cpu",
    shard_size: Annotated[int, typer.Option(parser=MEGABYTES, metavar="MB", help="Largest size of a shard.")] = 512,
    jobs: Annotated[int, typer.Option(parser=FEW, metavar="N", help="Processes.")] = 2,
) -> None:
    """Write the data set in use as WebDataset shards. Embedded, or of MOUSAI_DATA; finished shards are kept."""
    from mousai.data.dataset import workspace
    from mousai.data.packing import write_shards
    from mousai.small.profiles import get_profile

    index = write_shards(workspace(get_profile(profile), os.environ).data, out, shard_size, jobs)
    written = [shard for split in index.splits.values() for shard in split]
    print(f"{out}: {sum(shard.records for shard in written)} records in {len(written)} shards")
    print(f"MOUSAI_DATA={shlex.quote(str(out))} mousai train dmae --profile {profile}")


@data.command("latents")
def latents(profile: Profile = "cpu", weights: Weights = None, device: Device = "") -> None:
    """Encode the data set in use with the trained stage 1. For `train tcld`; several processes share the work."""
    offline(profile)
    from mousai.data.dataset import workspace
    from mousai.small.profiles import get_profile
    from mousai.training.setup import cache_latents, open_dmae

    rank = int(os.environ.get("RANK", "0"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    space = workspace(get_profile(profile), os.environ, device)
    dmae = open_dmae(space, weights)
    for split in ("train", "valid"):
        if not space.data.has(split):
            print(f"{space.root}: nothing in the {split} split")
            continue
        folder, left = cache_latents(space, dmae, split, rank=rank, world=world)
        print(f"{folder}: " + (f"{left} parts are left to the other processes" if left else "whole"))
