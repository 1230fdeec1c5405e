"""Being asked to stop: a training finishes its step and writes a checkpoint, a command asks the processes it started.

SIGTERM and SIGUSR1 are what schedulers send before they take a machine away, SIGINT is Ctrl-C. A second signal ends a
process at once.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from rc2l_bench.errors import PreemptedError

STOPPING = (signal.SIGTERM, signal.SIGUSR1)
"""Signals that mean: stop now, continue later."""
SAME_REQUEST = 1.0
"""Seconds in which further signals are the same request: one to a process group also arrives through the parent."""
POLL = 0.5
"""Seconds between two looks at the parent, where nothing tells of its end."""
PR_SET_PDEATHSIG = 1
GO_ON = "the same command continues where this one stopped"

Handler = Callable[[int, FrameType | None], None]


class Preemption:
    """Whether this process has been asked to stop, and what that must not cut in two.

    Attributes:
        asked: whether a signal has come.
        shared: whether several processes train together. They have to stop after the same step, so a signal then
            interrupts nothing, and whoever trains looks at `asked` and agrees with the others.
    """

    def __init__(self, first: bool = True) -> None:
        """Nobody has asked yet.

        Args:
            first: whether this is the first process of a training, which speaks for the others.
        """
        self.asked = False
        self.shared = not first
        self._first = first
        self._signal = signal.SIGTERM
        self._since = 0.0
        self._protected = False

    def handle(self, number: int, _: FrameType | None) -> None:
        """Take note of a signal: the first one interrupts what is not protected, a later one ends the process."""
        if not self.asked:
            self.asked, self._signal, self._since = True, signal.Signals(number), time.monotonic()
            if not self._protected and not self.shared:
                self.stop()
        elif time.monotonic() - self._since > SAME_REQUEST and not self._repeats(number):
            end_by(number)

    def _repeats(self, number: int) -> bool:
        """Whether this is what a parent sends to be sure, after the terminal has told both of them."""
        return number == signal.SIGUSR1 and self._signal != signal.SIGUSR1

    @contextmanager
    def protected(self) -> Iterator[None]:
        """Finish the body before the process stops."""
        self._protected = True
        try:
            yield
        finally:
            self._protected = False
        if self.asked and not self.shared:
            self.stop()

    def stop(self, when: str = "") -> NoReturn:
        """Leave by an exception.

        Args:
            when: what is said of it, for instance `after step 3`.

        Raises:
            PreemptedError: always.
        """
        if not self._first:  # whoever started it takes another code for a failure and kills the rest
            raise PreemptedError("", 0)
        code = 130 if self._signal == signal.SIGINT else PreemptedError.CONTINUE
        raise PreemptedError(f"stopped{f' {when}' if when else ''}; {GO_ON}", code)


@contextmanager
def listening(first: bool = True) -> Iterator[Preemption]:
    """Turn signals into requests for as long as the body runs; only the main thread may.

    Args:
        first: see `Preemption`.
    """
    preemption = Preemption(first)
    # A job in the background of a shell ignores Ctrl-C, and goes on doing so.
    ctrl_c = () if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else (signal.SIGINT,)
    with _handled(preemption.handle, (*STOPPING, *ctrl_c)):
        yield preemption


class Relay:
    """Asks the processes that a command has started to stop when the command is asked.

    Attributes:
        asked: whether a signal has come; nothing more is started then.
    """

    def __init__(self) -> None:
        self.asked = False
        self._since = 0.0
        self._children: set[int] = set()

    def add(self, child: int) -> None:
        """Take note of a process; signals have to be `held_back` from its start to this moment."""
        self._children.add(child)

    def remove(self, child: int) -> None:
        """Forget a process that has ended, before its number is given to another one."""
        self._children.discard(child)

    def send(self, number: int) -> None:
        """Send a signal to all of them."""
        for child in self._children:
            try:
                os.kill(child, number)
            except ProcessLookupError:  # it has just ended
                continue

    def handle(self, number: int, _: FrameType | None) -> None:
        """Pass on the first signal; with a later one everything ends at once."""
        if not self.asked:
            self.asked, self._since = True, time.monotonic()
            self.send(number)
        elif time.monotonic() - self._since > SAME_REQUEST:
            self.send(signal.SIGKILL)
            end_by(number)


@contextmanager
def relaying() -> Iterator[Relay]:
    """Pass on signals for as long as the body runs."""
    relay = Relay()
    with _handled(relay.handle, STOPPING):
        yield relay


@contextmanager
def _handled(handler: Handler, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread set handlers
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def end_by(number: int) -> None:
    """End this process by a signal, as if it had no handler for it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextmanager
def held_back() -> Iterator[None]:
    """Let signals wait. Processes that start meanwhile inherit this, and have to `let_through`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*STOPPING, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """Take the signals that waited, and all further ones."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOPPING, signal.SIGINT})


def end_with_parent() -> None:
    """Kill this process when the one that started it is gone, even by SIGKILL, which passes nothing on.

    A thread watches, because that works on every system, and through a fork server: the process that asked it for
    this one is the parent that counts, and the server itself stays as long as one of its forks does.
    """
    parent, number = multiprocessing.parent_process(), os.getppid()

    def watch() -> None:
        if parent is not None:
            parent.join()
        while parent is None and os.getppid() == number:
            time.sleep(POLL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()


def prepare_child(parent: int) -> Callable[[], None]:
    """Make what a child runs between fork and exec: it ends with its parent (on Linux) and gets its signals.

    Args:
        parent: process id of the caller.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # it was gone before this could be asked for
                os._exit(1)
        let_through()

    return prepare
