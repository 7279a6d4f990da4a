"""The drawings that lessons share say what is there: shapes, items, levels, times."""

from collections import Counter
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from mousai.config import A100
from mousai.report import drawings
from mousai.small.profiles import CPU
from mousai.unet import UNet

LETTERS = {"resnet": "R", "modulation": "M", "inject": "I", "self_attention": "S", "cross_attention": "C"}
THIN = {"features": 8, "heads": 1, "head_features": 4, "embedding_features": 4, "groups": 1}


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


@pytest.mark.parametrize("config", [A100.dmae.unet, A100.tcld.unet, CPU.dmae.unet], ids=["dmae", "tcld", "everywhere"])
def test_shapes_and_items_are_those_of_the_net(config):
    """A net as deep, with a few channels at each depth, all of them other."""
    thin = replace(config, channels=tuple(range(2, 2 + len(config.channels))), in_channels=1, inject_channels=2, **THIN)
    net, length = UNet(thin), 2 * config.stride
    shapes, items, level = drawings.unet_shapes(thin, length), [], net.net
    x = torch.zeros(1, 1, length)
    while level is not None:
        x = level.down(x)
        assert tuple(x.shape[1:]) == shapes[len(items)]
        names = {name: part for name, part in level.items_down[0].named_children()}
        said = "".join(LETTERS[name] * (len(part) if "attention" in name else 1) for name, part in names.items())
        items.append(f"{len(level.items_up)} × {said}")
        level = level.inner
    assert [drawings.items_at(thin, depth) for depth in range(len(items))] == items


def test_a_length_that_does_not_divide_has_no_shapes():
    with pytest.raises(ValueError, match="length 100 is not a multiple of the stride 64"):
        drawings.unet_shapes(A100.dmae.unet, 100)


def test_every_depth_is_drawn_on_either_side(ax):
    drawings.draw_unet(ax, A100.dmae.unet, 4096, "stage 1")
    said = Counter(text.get_text() for text in ax.texts)
    assert said["1024 × 256\n2 × RMI"] == said["512 × 2048\n2 × RM"] == said["256 × 4096\n1 × RM"] == 2
    assert said["256 × 4096\nx_sigma"] == said["256 × 4096\nv_hat"] == 1
    assert said["÷1"] == said["×1"] == 1 and said["÷2"] == said["×2"] == 6
    assert len(ax.patches) == 16


def test_runs_follow_one_another_each_part_at_its_middle(ax):
    flat = lambda values: dict.fromkeys(("loss_curve", "loss_low", "loss_high"), values)  # noqa: E731
    drawings.draw_runs(ax, [{"steps": 10} | flat([2.0, 1.0]), {"steps": 4} | flat([1.0] * 4)], "cpu")
    first, second = ax.lines
    assert_allclose(first.get_xdata(), [2.5, 7.5])
    assert_allclose(second.get_xdata(), [10.5, 11.5, 12.5, 13.5])
    assert [line.get_label() for line in ax.lines] == ["cpu, run 1: 10 steps", "cpu, run 2: 4 steps"]


def test_sounds_side_by_side_have_one_scale_of_time_and_of_brightness():
    fig = drawings.draw_log_mels({"silence": torch.zeros(2, 48_000), "noise": torch.randn(2, 48_000)})
    *panels, bar = fig.axes
    images = [ax.images[0] for ax in panels]
    assert [ax.get_title() for ax in panels] == ["silence", "noise"]
    assert bar.get_ylabel() == "log10 magnitude" and bar.get_ylim() == (-3, 2)
    assert all(image.get_clim() == (-3, 2) and image.get_extent() == [0, 1, 0, 80] for image in images)
    assert (np.asarray(images[0].get_array()) == -3).all()
    plt.close(fig)


def test_louder_and_quieter_are_as_far_from_white():
    fig = drawings.draw_changes(torch.tensor([[0.1, -0.4], [0.0, 0.2]]))
    assert fig.axes[0].images[0].get_clim() == pytest.approx((-0.4, 0.4))
    plt.close(fig)


def test_a_net_that_looks_evenly_is_one_everywhere_and_one_that_looks_at_itself_is_not():
    name = "net.inner.items_up.0.{}_attention.0"
    words = {name.format("cross"): torch.tensor([0.5, 0.5, 0.0]).expand(1, 2, 4, 3)}  # two words, and padding
    for weights, expected in ((torch.full((4, 4), 0.25), np.ones((4, 4))), (torch.eye(4), 4 * np.eye(4))):
        own = {name.format("self"): weights.expand(1, 2, 4, 4)} | words
        look, heard = drawings.draw_attention(own, ["metal", "1883"], 8.0).axes[:2]
        assert_allclose(look.images[0].get_array(), expected)
        assert_allclose(heard.images[0].get_array(), [[1, 1]])
        assert look.images[0].get_extent() == [0, 8, 0, 8]
        assert [label.get_text() for label in heard.get_xticklabels()] == ["metal", "1883"]
    plt.close("all")
