"""What every command takes that files something new."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bistro.errors import SettingsError
from bistro_client.cli.options import (
    Frame,
    destination,
    parse_vkeys,
    require_form,
    require_slot_name,
    which_call,
)
from bistro_client.submitting import Wish
from bistro_client.wording import say

_OPTIONS = (
    click.argument(
        "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…"
    ),
    destination,
    which_call,
    click.option(
        "--slot",
        default="main",
        show_default=True,
        metavar="NAME",
        callback=require_slot_name,
        help="Which of your submissions to this call: the last one of a slot counts. "
        "Letters a-z, digits, dots, hyphens and underscores, at most 64.",
    ),
    click.option(
        "--form",
        metavar="TYPE",
        callback=require_form,
        help="Form type, in the destination's words.",
    ),
    click.option(
        "--key",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Your key, if it is not the one at home.",
    ),
    click.option(
        "--as",
        "principal",
        metavar="NAME",
        help="File for NAME, with the key that `bistro keys new --as NAME` made.",
    ),
    click.option(
        "--trust",
        metavar="VKEY",
        help="The destination's terms key, if you know it already; it replaces a pinned one.",
    ),
)


def wish_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command options for what to file, where, and with which key; the first in its help."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def wished(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the ``Wish`` that ``wish_options`` tell; below ``framed``."""

    @functools.wraps(function)
    def wishing(  # noqa: PLR0913 - one argument for each option
        frame: Frame,
        *,
        paths: tuple[Path, ...],
        url: str,
        call: str | None,
        slot: str,
        form: str | None,
        key: Path | None,
        principal: str | None,
        trust: str | None,
        **others: Any,  # noqa: ANN401
    ) -> None:
        if principal is not None:
            if key is not None:
                raise SettingsError(say("wishing.as-key-name"), hint=say("wishing.give-one-them"))
            key = frame.home.key_of(principal)
        wish = Wish(
            paths=paths,
            url=url,
            call=call,
            slot=slot,
            form=form,
            key_file=key,
            trust=parse_vkeys((trust,))[0] if trust else None,
        )
        function(frame, wish=wish, **others)

    return wishing
