"""Progress on a screen and in a log."""

import pytest

from mousai import progress


@pytest.mark.parametrize(("screen", "interval"), [(False, 10), (True, 0.1)])
def test_a_log_gets_a_line_every_ten_seconds_and_a_screen_more(screen, interval, monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: screen, raising=False)
    bar = progress.progress_bar(None, "net", 1)
    assert bar.mininterval == interval
    bar.close()


def test_a_bar_that_is_not_to_be_shown_still_passes_on_its_items(capsys):
    assert list(progress.progress_bar([1, 2], "net", show=False)) == [1, 2]
    assert capsys.readouterr().err == ""
