"""Real music of the test split as clips: the ceiling of each metric, and what stage 1 reconstructs."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from mousai.data.dataset import Workspace
from mousai.data.records import Record, load_chunk
from mousai.evaluation.samples import ClipSet, as_prompt, cached, held_out, model_context
from mousai.inference.long import Run, decode
from mousai.inference.precision import choose_device
from mousai.small.stages import load_dmae


def held_out_pieces(work: Workspace) -> list[Record]:
    """The test records with their genres in rotation, so that the first n are balanced for any n."""
    by_genre: dict[str, list[Record]] = {}
    for record in held_out(work):
        by_genre.setdefault(record.genre, []).append(record)
    groups = [by_genre[genre] for genre in sorted(by_genre)]
    longest = max(len(group) for group in groups)
    return [group[i] for i in range(longest) for group in groups if i < len(group)]


def chunk_set(work: Workspace, items: Sequence[tuple[Record, int]]) -> ClipSet:
    """The chunks `items`, each a (record, k), as clips with their own prompts; read from the data set."""
    prompts = [as_prompt(work, record, k) for record, k in items]

    def load(i: int) -> Tensor:
        record, k = items[i]
        return torch.from_numpy(load_chunk(record, k, work.root))

    return ClipSet("real", prompts, load, {"crop": work.profile.tcld.crop, "split": "test"})


def clips_of(work: Workspace, records: Sequence[Record], limit: int) -> ClipSet:
    """Every chunk of those records, piece by piece, at most `limit` clips."""
    items = [(record, k) for record in records for k in range(1, record.chunks + 1)]
    return chunk_set(work, items[:limit])


def real_set(work: Workspace) -> ClipSet:
    """Real test music, each chunk with its own prompt: the ceiling."""
    return clips_of(work, held_out_pieces(work), work.profile.evaluation.real_clips)


def real_halves(work: Workspace, n: int) -> tuple[ClipSet, ClipSet]:
    """Two sets of real test music that share no piece: (at most n clips as the row "real", the reference set)."""
    pieces = held_out_pieces(work)
    first = max(1, min(-(-n // pieces[0].chunks), len(pieces) // 2))
    limit = work.profile.evaluation.real_clips
    return clips_of(work, pieces[:first], n), clips_of(work, pieces[first:], limit)


def original_set(work: Workspace) -> ClipSet:
    """`evaluation.reconstructed_chunks` chunks, at most, of the first half of the test pieces."""
    pieces = held_out_pieces(work)
    return interleaved(work, pieces[: max(1, len(pieces) // 2)], work.profile.evaluation.reconstructed_chunks)


def other_set(work: Workspace) -> ClipSet:
    """As `original_set`, from the other half of the test pieces."""
    pieces = held_out_pieces(work)
    return interleaved(work, pieces[len(pieces) // 2 :], work.profile.evaluation.reconstructed_chunks)


def interleaved(work: Workspace, pieces: Sequence[Record], n: int) -> ClipSet:
    """At most n chunks from as many different pieces as possible, because clips of one piece are alike.

    Genres and segments "k of n" rotate too. A piece gives its next chunk only when every piece has given one.
    """
    genres = max(1, len(work.data.genres))
    items: list[tuple[Record, int]] = []
    for turn in range(max(piece.chunks for piece in pieces)):
        for i, piece in enumerate(pieces):
            if turn < piece.chunks:
                items.append((piece, (i + i // genres + turn) % piece.chunks + 1))
    return chunk_set(work, items[:n])


def reconstruction_set(work: Workspace) -> ClipSet:
    """The chunks of `original_set` encoded and decoded by stage 1."""
    return through_stage_1(work, original_set(work), "reconstruction")


def through_stage_1(work: Workspace, real: ClipSet, name: str) -> ClipSet:
    """The clips `real` encoded and decoded by stage 1 with the profile's sampler; cached under `name`."""
    profile = work.profile
    steps, sampler = profile.sampling.dmae_steps, profile.sampling.sampler
    context = model_context(work, ("dmae",)) | {"dmae_steps": steps, "sampler": sampler, "seed": profile.seed}
    load = cache(lambda: load_dmae(profile, choose_device(work.device)))  # only where a clip is missing

    def make(indices: list[int]) -> Tensor:
        dmae = load()
        w = torch.stack([real[i] for i in indices]).to(next(dmae.parameters()).device)
        generator = torch.Generator().manual_seed(1000 * profile.seed + indices[0])
        return decode(dmae, dmae.encode(w), Run(steps, sampler), generator, w.shape[-1])

    return cached(work, name, real.prompts, make, context)
