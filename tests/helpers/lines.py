"""The smallest training there is: a line is fitted to a line, with and without noise of the step's own."""

import torch
from torch import nn
from torch.testing import assert_close

from mousai.config import TrainConfig
from mousai.train import step_generator

CPU = torch.device("cpu")
CONFIG = TrainConfig(steps=8, lr=0.05)


class Line(nn.Module):
    """y = a x + b, with noise drawn from the step's generator, as the stages do it."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x, y, generator, step=0):
        return (self.line(x + 0.01 * torch.randn(x.shape, generator=generator)) - y).square().mean()


def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(16, 1, generator=step_generator(1, step))
    return x, 3 * x - 1


def line() -> Line:
    torch.manual_seed(0)
    return Line()


def states_equal(a: nn.Module, b: nn.Module) -> None:
    assert_close(dict(a.state_dict()), dict(b.state_dict()), atol=0, rtol=0)


class Exact(nn.Module):
    """y = a x + b without noise, in two parts; it notes what its first layer computes in."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.rest, self.kinds = nn.Linear(1, 4), nn.Linear(4, 1), set()

    def forward(self, x, y, generator, step=0):
        h = self.encoder(x)
        self.kinds.add(h.dtype)
        return (self.rest(h).float() - y).square().mean()


def stopping(at: int, error: BaseException):
    """`batches`, of which number `at` raises."""

    def stop(step):
        if step == at:
            raise error
        return batches(step)

    return stop
