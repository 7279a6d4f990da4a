"""Shared work: in order, and a process that dies is an error or a stand-in, never a wait without end."""

import os
import subprocess
import sys

import pytest

from mousai.data.workers import Workers


def squared(n: int) -> int:
    if n == 13:
        os._exit(9)
    if n == 99:
        raise ValueError("too many")
    return n * n


@pytest.mark.system
@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order_each_with_its_item(jobs):
    numbers = range(12 if jobs == 1 else 40)
    numbers = [n for n in numbers if n != 13]
    with Workers(jobs) as pool:
        assert list(pool.each(squared, iter(numbers))) == [(n, n * n) for n in numbers]
        assert list(pool.each(squared, [])) == []


@pytest.mark.system
@pytest.mark.parametrize("place", [0, 5, 30])
def test_an_item_that_kills_its_process_has_a_stand_in_and_the_others_their_results(place):
    numbers = [n for n in range(30) if n != 13]
    numbers.insert(place, 13)
    with Workers(2) as pool:
        found = dict(pool.each(squared, numbers, lambda n: -n))
        assert found == {n: n * n for n in numbers if n != 13} | {13: -13}
        assert list(found) == numbers


@pytest.mark.system
def test_without_a_stand_in_it_is_one_clear_line():
    said = "was killed: run the same again, with fewer --jobs"
    with Workers(2) as pool, pytest.raises(ChildProcessError, match=said):
        list(pool.each(squared, [1, 13, 2]))


@pytest.mark.system
@pytest.mark.parametrize("jobs", [1, 2])
def test_what_an_item_raises_is_raised(jobs):
    with Workers(jobs) as pool, pytest.raises(ValueError, match="too many"):
        list(pool.each(squared, [1, 99, 2]))


@pytest.mark.system
def test_items_are_taken_as_they_are_needed():
    taken = []

    def many():
        for n in range(10_000):
            taken.append(n)
            yield 1

    with Workers(2) as pool:
        results = pool.each(squared, many())
        next(results)
        assert len(taken) < 100


@pytest.mark.system
def test_a_script_without_a_main_guard_is_told_of_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from mousai.data.workers import Workers\nwith Workers(2) as pool:\n    print(pool.jobs)\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 1 and 'put what starts it below `if __name__ == "__main__":`' in done.stderr
