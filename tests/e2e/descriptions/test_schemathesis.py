"""schemathesis asks a real relay what its own description allows, and what it forbids."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.support.relay_processes import new_relay

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "negative_data_rejection",
    "unsupported_method",
)
EXAMPLES = 40
"""For each operation and phase: a bound, so that the test ends."""


CONFIG = f"""
hooks = "{Path(__file__).with_name("hooks.py")}"

[checks]
# A wrong version of tus is 412, a long one 413, an unknown month 404: all of them refusals.
negative_data_rejection.expected-statuses = ["4XX"]
missing_required_header.expected-statuses = ["4XX"]
"""


async def test_no_request_gets_an_answer_that_is_not_described(tmp_path: Path) -> None:
    """No 5xx, no status, header or body that is not described; then the relay still serves."""
    async with new_relay(tmp_path) as (command, _, _), command.serving() as relay:
        (tmp_path / "schemathesis.toml").write_text(CONFIG)
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")),
            *("--config-file", "schemathesis.toml", "run", f"{command.url}/openapi.json"),
            *("--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing"),
            *("--max-examples", str(EXAMPLES)),
            *("--generation-deterministic", "--no-color"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, said.decode()
        assert relay.returncode is None
        async with aiohttp.ClientSession() as session, session.get(f"{command.url}/readyz") as ok:
            assert ok.status == 200
    assert '"level":"error"' not in command.log().replace(" ", "")
