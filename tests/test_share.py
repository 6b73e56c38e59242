"""The share of slow tests that a commit runs."""

from tests.conftest import draw

NAMES = [f"test_{letter}" for letter in "gfedcba"]


def test_every_test_is_in_one_of_the_draws() -> None:
    draws = [draw(NAMES, f"{number:040x}", 3) for number in range(3)]
    assert draws[0] == {"test_a", "test_d", "test_g"}
    assert sorted(name for drawn in draws for name in drawn) == sorted(NAMES)


def test_the_draw_is_the_commits() -> None:
    commits = [f"{1000 * number + 7:040x}\n" for number in range(20)]
    assert len({frozenset(draw(NAMES, commit, 3)) for commit in commits}) == 3
    assert draw(NAMES, commits[0], 3) == draw(NAMES[::-1], commits[0], 3)
    assert draw(NAMES, commits[0], 1) == set(NAMES)
