"""A process that has imported a program, and forks a copy of itself whenever one is to be run.

Starting an interpreter and importing everything takes most of a second of a core; a fork takes
a few milliseconds, and runs the program's own ``main`` with its own arguments all the same.

Run as ``python -m tests.crash.warm MODULE …``: what is to be imported before. Orders come as
lines of JSON on standard input, answers leave as lines of JSON on standard output:
``{"pid": …}`` for an order, ``{"pid": …, "status": …}`` when a child has ended.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from tests.crash.sabotage import SABOTAGES
from tests.crash.tampering import Tampering

_PR_SET_PDEATHSIG = 1
_READ_SIZE = 65_536


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is to do.

    Attributes:
        program: ``module:function``.
        arguments: Those of the command line.
        environment: Variables beside ours.
        log: Where its outputs go.
        is_stopped: Whether it waits for SIGCONT before it begins.
        tampering: Calls that fail after their effect; see ``Tampering``.
        sabotage: A name of ``SABOTAGES``, or nothing.
        setup: ``module:function``, called before anything else; or nothing.
    """

    program: str
    arguments: list[str]
    environment: Mapping[str, str]
    log: str
    is_stopped: bool = False
    tampering: Mapping[str, Any] = field(default_factory=dict)
    sabotage: str = ""
    setup: str = ""

    def encode(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode() + b"\n"


def _function(place: str) -> Callable[[], None]:
    """What ``module:function`` names."""
    module, _, name = place.partition(":")
    function: Callable[[], None] = getattr(importlib.import_module(module), name)
    return function


def _say(**facts: int) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def _become(order: Order) -> NoReturn:
    """Be the program, in a child that ends with us."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(log)
        os.close(null)
        os.environ.update(order.environment)  # noqa: TID251 - the child's own
        sys.argv = [order.program, *order.arguments]
        # Asked with SIGABRT, a process that does not end says where it is.
        faulthandler.enable()
        function = _function(order.program)
        if order.setup:
            _function(order.setup)()
        if order.sabotage:
            SABOTAGES[order.sabotage]()
        if order.is_stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
        if order.tampering:
            Tampering(**order.tampering).install()
        function()
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # noqa: BLE001 - the end of a process: the log says what it was
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reap(children: set[int]) -> None:
    for pid in list(children):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            children.discard(pid)
            _say(pid=pid, status=os.waitstatus_to_exitcode(status))


def serve_orders(modules: list[str]) -> None:
    """Fork for every order until standard input ends; then kill what is left."""
    for module in modules:
        importlib.import_module(module)
    # Else the first collection of a child would touch, and so copy, every page of ours.
    gc.collect()
    gc.freeze()
    # Nobody but children's copies may be told of Ctrl-C: whoever gives the orders decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children: set[int] = set()
    pending = b""
    _say(pid=os.getpid())
    while True:
        readable, _, _ = select.select([0], [], [], 0.005 if children else None)
        _reap(children)
        if not readable:
            continue
        data = os.read(0, _READ_SIZE)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            order = Order(**json.loads(line))
            Path(order.log).parent.mkdir(parents=True, exist_ok=True)
            pid = os.fork()
            if pid == 0:
                _become(order)
            children.add(pid)
            _say(pid=pid)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    serve_orders(sys.argv[1:])
