import os
import signal
import subprocess
import threading

import pytest

from tangentscope.pipeline.system.errors import Stopped
from tangentscope.pipeline.system.signals import apart, interruptible, same_handlers

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", ALL)
def test_a_signal_is_noted_and_told_where_the_launch_asks(number: signal.Signals):
    with same_handlers():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        notes_and_tells(number)


def notes_and_tells(number: signal.Signals):
    before = [signal.getsignal(each) for each in ALL]
    with interruptible() as interrupt:
        interrupt.check()
        os.kill(os.getpid(), number)  # nothing is raised here
        with pytest.raises(Stopped, match=f"{number.name}: stopped; run the same command again"):
            interrupt.check()
    assert [signal.getsignal(each) for each in ALL] == before


def test_the_second_signal_does_as_it_did_before_the_block():
    seen = []
    with same_handlers():
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
            assert seen == []
            os.kill(os.getpid(), signal.SIGTERM)
    assert seen == [signal.SIGTERM]


def test_what_nohup_ignores_stays_ignored():
    with same_handlers():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with interruptible() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            interrupt.check()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_in_another_thread_the_handlers_are_left_alone():
    during = []

    def block() -> None:
        with interruptible() as interrupt:
            during.append([signal.getsignal(each) for each in ALL])
            interrupt.check()

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert during == [[signal.getsignal(each) for each in ALL]]


def test_what_a_block_sets_is_taken_back():
    before = signal.getsignal(signal.SIGTERM)
    with same_handlers():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_for_the_group_does_not_reach_what_was_started_apart():
    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["cat"], stdin=subprocess.PIPE, preexec_fn=lambda: None)

    with apart(), started() as alone:
        assert os.getpgid(alone.pid) == os.getsid(alone.pid) == alone.pid
        alone.communicate()
    with started() as beside:  # and only what is started within the block
        assert os.getpgid(beside.pid) == os.getpgrp()
        beside.communicate()
