"""`make test-api`: schemathesis over both OpenAPI documents, against a real gateway and agent.

It sends what the documents allow and what they forbid, follows what answers lead to, and holds
every answer against its document: no answer of 500, no status, type or body that is not documented,
no request without a token or with what the document forbids that is let through. Bounded in time
(SECONDS_EACH for each document), seeded, on free ports of this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

from mlops.local.stack import ANY_PORTS, Stack

SECONDS = int(os.environ.get("SECONDS_EACH", "60"))
SEED = "1"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "ignored_auth",
)
"""Not whether all that the schemas allow is accepted: that weights sum to 100 stands in none."""
NEVER_ENDS = "/v1/events"
"""A stream; what it sends is tested elsewhere."""
APIS = {"admin": "GATEWAY_OPERATOR_TOKEN", "agent": "AGENT_OPERATOR_TOKEN"}
CONFIG = """
[parameters]
"path.route" = "rag"
"path.id" = {release}
"""


def start(stack: Stack) -> str:
    """A stack with one release under way; its id."""
    stack.start_clickhouse()
    slot = {"version": "1", "endpoints": ["http://127.0.0.1:9"]}
    stack.start_gateway([{"name": "rag", "match": {"prefix": "/"}, "stable": slot}])
    stack.start_recorder()
    stack.start_agent()
    body = {"route": "rag", "version": "2", "endpoints": ["http://127.0.0.1:10"], "reason": "try"}
    request = urllib.request.Request(
        f"{stack.addresses['agent']}/v1/releases",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {stack.secrets['AGENT_OPERATOR_TOKEN']}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["id"])


def try_one(stack: Stack, part: str, token: str, directory: Path) -> int:
    url = stack.addresses[part]
    print(f"\n==== {part}: {url}", flush=True)
    options = ["--max-time", str(SECONDS), "--seed", SEED, "--request-timeout", "10"]
    if part == "agent":
        options += ["--exclude-path", NEVER_ENDS]
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json"]
    done = subprocess.run(
        [
            *(*command, *options, "--checks", ",".join(CHECKS), "--no-color"),
            *("--warnings", "off", "-H", f"Authorization: Bearer {stack.secrets[token]}"),
        ],
        cwd=directory,
        check=False,
        timeout=SECONDS + 300,
    )
    return done.returncode


def main() -> int:
    with TemporaryDirectory(prefix="try-api-") as name:
        directory = Path(name)
        stack = Stack(directory=directory / "stack", ports=ANY_PORTS, environ=os.environ)
        stack.directory.mkdir()
        try:
            release = json.dumps(start(stack))
            (directory / "schemathesis.toml").write_text(CONFIG.format(release=release))
            codes = [try_one(stack, part, token, directory) for part, token in APIS.items()]
        finally:
            stack.stop()
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
