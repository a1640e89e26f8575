"""Whose turn it is: who comes second waits, is told of it, and may leave."""

import threading

import pytest

from core.store.folders import in_turn


class Left(Exception):
    pass


def test_who_comes_second_waits_for_the_first(tmp_path):
    told, order, inside, may_end = [], [], threading.Event(), threading.Event()

    def first():
        with in_turn(tmp_path / "home" / "turn.lock", lambda: None):
            inside.set()
            may_end.wait(10)
            order.append("first")

    worker = threading.Thread(target=first)
    worker.start()
    assert inside.wait(10)

    def waiting():
        told.append(list(order))
        if len(told) == 3:
            may_end.set()

    with in_turn(tmp_path / "home" / "turn.lock", waiting, every=0.01):
        order.append("second")
    worker.join()
    assert order == ["first", "second"] and len(told) >= 3 and told[:3] == [[]] * 3
    with in_turn(tmp_path / "home" / "turn.lock", lambda: pytest.fail("nobody else is there")):
        pass


def test_who_leaves_while_waiting_takes_nothing(tmp_path):
    def leave():
        raise Left

    with in_turn(tmp_path / "turn.lock", lambda: None):
        with pytest.raises(Left), in_turn(tmp_path / "turn.lock", leave):
            raise AssertionError("it was not its turn")
    with in_turn(tmp_path / "turn.lock", leave):  # free again
        pass
