"""What the tests of the metrics share."""

from pathlib import Path

import pytest

from mousai.config import GENRES, Profile
from mousai.data.dataset import Workspace


@pytest.fixture
def work(tiny: Profile, tiny_data: Path, home: Path) -> Workspace:
    """The tiny profile with its made-up data set."""
    return Workspace(tiny, tiny_data, home)


@pytest.fixture
def with_genres(work: Workspace) -> Workspace:
    """The same, as if its train split had all four genres."""
    work.data.__dict__["genres"] = GENRES
    return work
