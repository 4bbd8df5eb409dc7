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

    def serve(self, item: int) -> None:
        self.threads.add(threading.current_thread())
        self.started.release()
        assert self.allowed.acquire(timeout=WAIT_S)
        self.served.append(item)

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
