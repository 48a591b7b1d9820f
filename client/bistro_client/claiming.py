"""The claim of a fragment: what a relay, and later the destination, is shown for it.

Source: docs/spec/fragments.md, claim.
"""

from __future__ import annotations

from bistro.errors import ConflictError
from bistro.protocol.submission import Submission
from bistro.wire.claim import Claim
from bistro_client.wording import say


def claim_of(submission: Submission, index: int) -> Claim:
    """The claim of fragment ``index``.

    Raises:
        ConflictError: Nothing was sealed, or there is no ticket yet.
    """
    sealed = submission.sealed
    if sealed is None or submission.ticket is None:
        raise ConflictError(say("claiming.claim-expected-sealed"))
    return Claim(
        origin=submission.request.origin,
        promise=submission.ticket,
        layout=sealed.cut.layout,
        header_leaf=sealed.signed.header.leaf,
        descriptor=sealed.cut.descriptors[index],
        path=sealed.cut.path(index),
    )
