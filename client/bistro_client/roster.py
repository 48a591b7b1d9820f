"""Who may be given a fragment now: what every relay of the call last said of itself.

Source: docs/spec/staging.md, choosing relays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from bistro.errors import UnavailableError
from bistro.net.session import Session
from bistro.protocol.placement import Placement, RelayProbe
from bistro.wire.terms import Terms
from bistro_client import notices, peer_messages
from bistro_client.patience import Patience
from bistro_client.probing import probe_all

JUST_PROBED_MS: Final = 2_000
PROBE_AGAIN_MS: Final = 10_000
"""Advice does not make us ask all relays more often."""
_MS_PER_S: Final = 1_000


@dataclass(slots=True)
class Roster:
    """The relays of one call during one run.

    Attributes:
        session: An open session.
        terms: The latest.
        placement: The rule.
        patience: Has the clock and the source of chance, and tells.
        holders: For each fragment index the relay that has it or is chosen for it.
        rivals: For each fragment that is raced, the relay that races its holder.
        may_exceed: Whether an operator may get more than the rule allows: nothing else is left.
    """

    session: Session
    terms: Terms
    placement: Placement
    patience: Patience
    holders: dict[int, str]
    rivals: dict[int, str] = field(default_factory=dict)
    may_exceed: bool = False
    _probes: tuple[RelayProbe, ...] = ()
    _problems: dict[str, str] = field(default_factory=dict)
    _busy_until_ms: dict[str, int] = field(default_factory=dict)
    _advised_until_ms: dict[str, int] = field(default_factory=dict)
    _probed_ms: int = 0

    async def probe(self) -> None:
        """Ask all relays how they are, and tell what is new about those that cannot be used."""
        found = await probe_all(self.session, self.terms, self.patience.clock)
        self._probed_ms = self.patience.clock.monotonic_ms()
        self._probes = tuple(one.probe for one in found)
        self._problems = {one.probe.name: one.problem for one in found if one.problem}
        for name, problem in self._problems.items():
            self.patience.tell(f"{name}: {problem}", notices.relay_unusable(name, problem))

    def failed(self, name: str, error: UnavailableError | None, message: str) -> None:
        """A relay failed; one that asked for time is not asked again before it is over."""
        self._problems[name] = message
        if error is not None and error.retry_after_s:
            wait_ms = round(error.retry_after_s * _MS_PER_S)
            self._busy_until_ms[name] = self.patience.clock.monotonic_ms() + wait_ms

    async def heed(self, hint: Mapping[str, int]) -> None:
        """Take advice: relays, each with the milliseconds for which it is recommended.

        Those that were left out are asked again, unless all were asked just now.
        """
        now_ms = self.patience.clock.monotonic_ms()
        self._advised_until_ms |= {name: now_ms + good_ms for name, good_ms in hint.items()}
        is_news = any(not self.is_up(name) for name in hint)
        if is_news and now_ms - self._probed_ms >= PROBE_AGAIN_MS:
            await self.probe()

    def choose(
        self, index: int, *, tried: Collection[str], failed: Collection[str], is_lost: bool = False
    ) -> str:
        """The relay for a fragment; it counts as its holder from now on.

        Args:
            index: Of the fragment.
            tried: Relays that are not to be asked in this round.
            failed: Relays that failed for it before.
            is_lost: The destination asks for it again: it goes rather to a crowded operator
                than to a relay that lost it.

        Raises:
            UnavailableError: There is none now that the rule allows.
        """
        without = {*tried, *self._busy()}
        may_exceed = self._may_exceed(index) or is_lost
        if is_lost and self.has_fresh(index, {*without, *failed}, may_exceed=True):
            without.update(failed)
        probe = self.placement.place_one(
            self._probes,
            self.patience.chooser,
            others=self._others(index),
            avoid=failed,
            without=without,
            advised=self._advised(),
            may_exceed=may_exceed,
        )
        # Set before anything is awaited: the next fragment must see this choice.
        self.holders[index] = probe.name
        return probe.name

    def challenge(self, index: int, *, tried: Collection[str], failed: Collection[str]) -> str:
        """The relay that is to race the holder of a fragment; it counts from now on, too.

        Raises:
            UnavailableError: There is none now that the rule allows.
        """
        probe = self.placement.place_one(
            self._probes,
            self.patience.chooser,
            others=self._others(index),
            avoid=failed,
            without={*tried, *self._busy()},
            advised=self._advised(),
        )
        self.rivals[index] = probe.name
        return probe.name

    def has_fresh(self, index: int, tried: Collection[str], *, may_exceed: bool = False) -> bool:
        """Whether a relay that was not tried may get the fragment now."""
        return bool(
            self.placement.allowed(
                self._probes,
                others=self._others(index),
                without={*tried, *self._busy()},
                may_exceed=may_exceed or self._may_exceed(index),
            )
        )

    def is_up(self, name: str) -> bool:
        """Whether a relay answered when it was last asked, and takes fragments."""
        return any(
            probe.name == name and probe.is_usable(self.placement.fragment_size)
            for probe in self._probes
        )

    async def is_cut_off(self) -> bool:
        """Whether no relay at all can be used now; asks all of them, unless that was just done."""
        if self.patience.clock.monotonic_ms() - self._probed_ms >= JUST_PROBED_MS:
            await self.probe()
        return len(self._problems) == len(self._probes)

    def why_none(self) -> UnavailableError:
        """What stands against each relay, and when the first one wants to be asked again."""
        problems: Mapping[str, str] = self._problems
        if not problems:
            problems = {
                probe.name: peer_messages.AT_THE_CAP
                for probe in self._probes
                if probe.name not in self.holders.values()
            }
        waits = self._busy().values()
        return peer_messages.no_relay(problems, retry_after_s=min(waits, default=None))

    def crowd(self) -> tuple[str, int]:
        """The operator with the most fragments, and how many they are."""
        counts: dict[str, int] = {}
        for name in self.holders.values():
            operator = self._known(name).operator
            counts[operator] = counts.get(operator, 0) + 1
        return max(counts.items(), key=lambda one: one[1], default=("", 0))

    def _may_exceed(self, index: int) -> bool:
        """Only for as many fragments as are needed."""
        others = [at for at in self.holders if at != index]
        return self.may_exceed and len(others) < self.placement.k

    def _others(self, index: int) -> list[RelayProbe]:
        """Where the other fragments are or may come to be."""
        held = [name for at, name in self.holders.items() if at != index]
        return [self._known(name) for name in (*held, *self._rivals_of_others(index))]

    def _rivals_of_others(self, index: int) -> list[str]:
        return [name for at, name in self.rivals.items() if at != index]

    def _known(self, name: str) -> RelayProbe:
        """A relay; also one that the terms do not name any more."""
        relay = self.terms.relay(name)
        return RelayProbe(name, name if relay is None else relay.operator)

    def _advised(self) -> list[str]:
        now_ms = self.patience.clock.monotonic_ms()
        return [name for name, until_ms in self._advised_until_ms.items() if until_ms > now_ms]

    def _busy(self) -> dict[str, float]:
        """Seconds for which relays have asked not to be asked, where they are not over."""
        now_ms = self.patience.clock.monotonic_ms()
        return {
            name: (until_ms - now_ms) / _MS_PER_S
            for name, until_ms in self._busy_until_ms.items()
            if until_ms > now_ms
        }
