"""The in-domain audio-text model: windows, loss, pairs."""

import math

import torch
from helpers.clips import no_words
from torch.nn import functional as F
from torch.testing import assert_close

from mousai.evaluation import (
    in_domain,
)
from mousai.text import load_text_encoder


def test_windows_cover_a_clip_from_end_to_end_without_chance():
    w = torch.arange(25.0).expand(2, 25)
    assert [part[0].tolist()[::9] for part in in_domain.windows(w, 10)] == [[0, 9], [8, 17], [15, 24]]
    assert in_domain.windows(w, 30).shape == (1, 2, 25) and in_domain.windows(w, 25).shape == (1, 2, 25)


def test_in_domain_embeds_a_long_clip_as_the_mean_of_its_windows():
    torch.manual_seed(0)
    model = in_domain.InDomain(in_domain.InDomainNet().eval(), no_words, "", {})
    w = 0.1 * torch.randn(1, 2, in_domain.WINDOW + 48_000)
    parts = torch.cat([model.embed_audio(w[..., : in_domain.WINDOW]), model.embed_audio(w[..., -in_domain.WINDOW :])])
    torch.testing.assert_close(model.embed_audio(w)[0], parts.mean(dim=0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(parts.norm(dim=1), torch.ones(2))


def test_in_domain_loss_is_lowest_where_every_sound_lies_at_its_own_text():
    net = in_domain.InDomainNet()
    net.audio = lambda mels: torch.eye(4)[:, :4]  # type: ignore[method-assign]
    net.text = lambda states: torch.eye(4)[:, :4]  # type: ignore[method-assign]
    mels, states, generator = torch.zeros(4, 80, 16), torch.zeros(4, 384), torch.Generator()
    right = net(mels, states, torch.eye(4).bool(), generator)
    wrong = net(mels, states, torch.eye(4).roll(1, 0).bool(), generator)
    torch.testing.assert_close(right, torch.log(torch.tensor(1 + 3 * math.exp(-10))), atol=1e-5, rtol=0)
    assert wrong > right + 9


def test_short_texts_are_true_of_every_sound_they_describe(work):
    pairs = in_domain.Pairs(work, no_words)
    _, states, true = pairs(0)
    assert true.shape == (8, 8) and true.diagonal().all() and len(states) == 8
    assert all(torch.equal(a, b) for a, b in zip(pairs(5), pairs(5), strict=True))
    genre_column = true[:, true.sum(dim=0) == 4]  # a genre's name is true of the four chunks of its one piece
    assert genre_column.shape[1] > 0 and (genre_column.sum(dim=0) == 4).all()


def test_in_domain_loss_is_the_same_with_sounds_and_texts_exchanged():
    net, (a, b) = (
        in_domain.InDomainNet(),
        F.normalize(torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)), dim=2),
    )
    true = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]).bool()
    losses = []
    for sounds, texts, pairs in ((a, b, true), (b, a, true.T)):
        net.audio, net.text = (lambda _, v=sounds: v), (lambda _, v=texts: v)  # type: ignore[method-assign]
        losses.append(net(torch.zeros(4, 80, 16), torch.zeros(4, 384), pairs, torch.Generator().manual_seed(0)))
    assert_close(*losses)


def test_a_texts_states_are_the_mean_over_its_own_tokens():
    encoder = load_text_encoder(in_domain.TEXT)
    alone, *_ = in_domain.text_states(encoder, ["Pop", "Metal, 1883, Ryan's Mammoth Collection, 2 of 4"])
    words = len(encoder.tokenizer(["Pop"])["input_ids"][0])
    assert_close(alone, encoder(["Pop"])[0, :words].mean(dim=0), atol=1e-5, rtol=1e-5)
    assert words == 3
