"""Items are made ahead, in order, and no more of them than asked for."""

import threading

import pytest

from descargan.pipeline import ahead


def test_items_come_in_order():
    assert list(ahead(iter(range(20)), 3)) == list(range(20))


def test_a_few_are_made_ahead_of_who_takes_them_and_no_more():
    made, fourth = [], threading.Event()

    def items():
        for n in range(10):
            made.append(n)
            if n == 3:
                fourth.set()
            yield n

    taken = ahead(items(), 3)
    assert next(taken) == 0
    assert fourth.wait(5)  # 0, which was taken, and three more
    assert made == [0, 1, 2, 3]
    taken.close()


def test_an_error_comes_in_its_place():
    def items():
        yield 1
        raise ValueError("the second is broken")

    taken = ahead(items(), 5)
    assert next(taken) == 1
    with pytest.raises(ValueError, match="the second is broken"):
        next(taken)
