"""A signal is known wherever it is asked for, whenever it comes; a second one has its usual effect."""

import os
import signal
import subprocess
import sys

import pytest

from ecgjax.training.interrupt import Interrupt


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_is_noted_and_the_handlers_are_as_before_in_the_end(number, code):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with Interrupt() as interrupt:
        assert not interrupt.stops_at(1)
        signal.raise_signal(number)
        assert interrupt.stops_at(2)
        assert interrupt.exit_code == code
        assert signal.getsignal(number) == signal.SIG_DFL
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize("when", ["before the inner one", "within it", "after it"])
def test_one_within_another(when):
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt() as outer:
        if when == "before the inner one":
            signal.raise_signal(signal.SIGTERM)
        with Interrupt() as inner:
            if when == "within it":
                signal.raise_signal(signal.SIGTERM)
            assert inner.signal == (None if when == "after it" else signal.SIGTERM)
            assert outer.signal == inner.signal
        if when == "after it":
            signal.raise_signal(signal.SIGTERM)
        assert outer.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # a second one ends the process
        with Interrupt() as later:
            assert later.signal == signal.SIGTERM
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before
    with Interrupt() as fresh:
        assert fresh.signal is None


def test_one_that_comes_while_an_inner_one_is_set_up(monkeypatch):
    with Interrupt() as outer:
        getsignal = signal.getsignal

        def late(number):
            if number == signal.SIGTERM:
                signal.raise_signal(number)
            return getsignal(number)

        with monkeypatch.context() as patch:
            patch.setattr(signal, "getsignal", late)
            inner = Interrupt().__enter__()
        assert (inner.signal, outer.signal) == (signal.SIGTERM, signal.SIGTERM)
        inner.__exit__()


def test_a_second_one_ends_the_process():
    program = """if True:
        import os, signal, time
        from ecgjax.training.interrupt import Interrupt
        with Interrupt(), Interrupt() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner.signal
            print("noted", flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, timeout=120)
    assert (ended.stdout, ended.returncode) == ("noted\n", -signal.SIGTERM), ended.stderr
