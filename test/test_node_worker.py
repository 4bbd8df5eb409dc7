# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The latest-wins worker: what it serves, what it drops, and in which thread."""

import threading

import pytest

from av_compress.nodes.worker import LatestWinsWorker

WAIT_S = 10.0


class Session:
    """Serves when the test lets it, and remembers where."""

    def __init__(self) -> None:
        self.served: list[int] = []
        self.threads = {threading.current_thread()}
        self.closed = False
        self.started = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)

    def serve(self, items: dict[str, int]) -> None:
        self.threads.add(threading.current_thread())
        self.started.release()
        assert self.allowed.acquire(timeout=WAIT_S)
        self.served.append(items[""])

    def close(self) -> None:
        self.threads.add(threading.current_thread())
        self.closed = True


@pytest.fixture
def opened():
    sessions: list[Session] = []

    def open_session() -> Session:
        sessions.append(Session())
        return sessions[-1]

    worker: LatestWinsWorker[int] = LatestWinsWorker("worker", open_session)
    worker.start()
    worker.resume()
    yield worker, sessions[0]
    sessions[0].allowed.release(100)
    assert worker.stop(WAIT_S)


def test_the_newest_waiting_item_wins(opened):
    worker, session = opened
    assert worker.offer(1)
    assert session.started.acquire(timeout=WAIT_S)
    assert worker.offer(2)
    assert not worker.offer(3)
    assert not worker.offer(4)
    session.allowed.release(2)
    assert session.started.acquire(timeout=WAIT_S)
    assert worker.pause(WAIT_S)
    assert session.served == [1, 4]


def test_one_thread_opens_serves_and_closes(opened):
    worker, session = opened
    session.allowed.release()
    worker.offer(1)
    assert session.started.acquire(timeout=WAIT_S)
    assert worker.stop(WAIT_S)
    assert session.closed
    assert len(session.threads) == 1
    assert threading.main_thread() not in session.threads


def test_a_paused_worker_takes_nothing_and_forgets_what_waits(opened):
    worker, session = opened
    worker.offer(1)
    assert session.started.acquire(timeout=WAIT_S)
    worker.offer(2)
    assert not worker.pause(timeout_s=0.01)  # Item 1 is still in work.
    session.allowed.release(5)
    assert worker.pause(WAIT_S)
    assert not worker.offer(3)
    worker.resume()
    assert worker.offer(4)
    assert session.started.acquire(timeout=WAIT_S)
    assert worker.pause(WAIT_S)
    assert session.served == [1, 4]


def test_an_item_before_resume_is_not_taken():
    session = Session()
    worker: LatestWinsWorker[int] = LatestWinsWorker("worker", lambda: session)
    worker.start()
    assert not worker.offer(1)
    assert worker.stop(WAIT_S)
    assert session.served == []


def test_what_opening_raises_reaches_the_starter():
    def open_session() -> Session:
        raise ValueError("no such model")

    worker: LatestWinsWorker[int] = LatestWinsWorker("worker", open_session)
    with pytest.raises(ValueError, match="no such model"):
        worker.start()
    assert worker.stop(WAIT_S)


def test_stopping_gives_up_on_a_session_that_does_not_return(opened):
    worker, session = opened
    worker.offer(1)
    assert session.started.acquire(timeout=WAIT_S)
    assert not worker.stop(timeout_s=0.01)
    session.allowed.release()
    assert worker.stop(WAIT_S)
    assert session.closed
    assert worker.stop(WAIT_S)


class Gathering(Session):
    """Remembers whole batches."""

    def serve(self, items: dict[str, int]) -> None:
        self.started.release()
        assert self.allowed.acquire(timeout=WAIT_S)
        self.served.append(dict(items))


@pytest.fixture
def gather():
    """Start workers of slots a, b and c; what they serve is let through at once."""
    running: list[tuple[LatestWinsWorker[int], Gathering]] = []

    def gather(window_s: float) -> tuple[LatestWinsWorker[int], Gathering]:
        session = Gathering()
        worker: LatestWinsWorker[int] = LatestWinsWorker(
            "worker", lambda: session, ("a", "b", "c"), window_s
        )
        worker.start()
        worker.resume()
        running.append((worker, session))
        return worker, session

    yield gather
    for worker, session in running:
        session.allowed.release(100)
        assert worker.stop(WAIT_S)


def served(session: Gathering, count: int) -> list[dict[str, int]]:
    """Let `count` batches through and return all so far."""
    for _ in range(count):
        assert session.started.acquire(timeout=WAIT_S)
        session.allowed.release()
    return session.served


FOREVER_S = 1000.0


def test_a_full_batch_waits_for_no_window(gather):
    worker, session = gather(FOREVER_S)
    for slot in "cab":
        assert worker.offer(ord(slot), slot)
    served(session, 1)
    assert worker.pause(WAIT_S)
    assert session.served == [{"a": 97, "b": 98, "c": 99}]
    # In the order of the slots, whichever came first.
    assert list(session.served[0]) == ["a", "b", "c"]


def test_the_newest_item_of_each_slot_wins(gather):
    worker, session = gather(FOREVER_S)
    assert worker.offer(1, "a")
    assert worker.offer(2, "b")
    assert not worker.offer(3, "a")
    assert not worker.offer(4, "a")
    assert worker.offer(5, "c")
    served(session, 1)
    assert worker.pause(WAIT_S)
    assert session.served == [{"a": 4, "b": 2, "c": 5}]


def test_an_incomplete_batch_is_served_when_the_window_ends(gather):
    worker, session = gather(0.02)
    assert worker.offer(1, "b")
    served(session, 1)
    assert worker.pause(WAIT_S)
    assert session.served == [{"b": 1}]


def test_a_window_that_ended_during_work_is_over(gather):
    worker, session = gather(0.0)
    assert worker.offer(1, "a")
    assert session.started.acquire(timeout=WAIT_S)
    assert worker.offer(2, "a")
    assert worker.offer(3, "b")
    session.allowed.release()
    served(session, 1)
    assert worker.pause(WAIT_S)
    assert session.served == [{"a": 1}, {"a": 2, "b": 3}]


def test_a_silent_slot_is_not_waited_for_until_it_speaks(gather):
    worker, session = gather(0.2)
    for _ in range(3):
        worker.offer(1, "a")
        worker.offer(1, "b")
        served(session, 1)
    # c has missed three. Now only a and b are waited for, however long the window.
    worker._window_s = FOREVER_S
    worker.offer(2, "a")
    worker.offer(2, "b")
    served(session, 1)
    # It speaks: it is served with the others, and waited for again.
    worker.offer(3, "c")
    worker.offer(3, "a")
    worker.offer(3, "b")
    served(session, 1)
    worker.offer(4, "a")
    worker.offer(4, "b")
    assert not session.started.acquire(timeout=0.05)
    worker.offer(4, "c")
    served(session, 1)
    assert worker.pause(WAIT_S)
    assert [batch.get("c") for batch in session.served] == [None, None, None, None, 3, 4]


def test_a_paused_worker_forgets_every_slot(gather):
    worker, session = gather(FOREVER_S)
    worker.offer(1, "a")
    worker.offer(1, "b")
    assert worker.pause(WAIT_S)
    worker.resume()
    worker.offer(2, "c")
    assert not session.started.acquire(timeout=0.05)
    worker.offer(2, "a")
    worker.offer(2, "b")
    served(session, 1)
    assert worker.pause(WAIT_S)
    assert session.served == [{"a": 2, "b": 2, "c": 2}]
