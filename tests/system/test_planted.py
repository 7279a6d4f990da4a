"""The planted mistakes fit the package as it is, and the table of what catches them names them all."""

from collections import Counter

import planted_mistakes as planted

PAGE = planted.ROOT / "tests" / "PLANTED.md"


def test_every_mistake_changes_the_file_it_is_planted_in():
    misfits = []
    for mistake in planted.MISTAKES:
        try:
            text = (planted.ROOT / "mousai" / mistake.file).read_text("utf-8")
            assert mistake.planted(text) != text
        except (OSError, SystemExit) as error:
            misfits.append(str(error))
    assert misfits == []


def test_the_table_names_every_mistake_once_and_each_is_caught():
    named = [(mistake.file, mistake.name) for mistake in planted.MISTAKES]
    assert [name for name, n in Counter(named).items() if n > 1] == []
    assert list(planted.read_table(PAGE)) == named, "run tests/planted_mistakes.py --write tests/PLANTED.md"
    assert "**nothing**" not in planted.read_table(PAGE).values()
