"""`init`: gateway.yaml, agent.yaml and policy.yaml to start from, with every choice explained.

`gateway --stable URL` writes a file of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click

from cli.options import FOLDER
from cli.output import dry_run_option, print_answer, prints
from cli.shapes import WrittenFiles
from gateway.config import parse

DEFAULT_CANARY_PERCENT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What is asked; everything else has a default that the files show."""

    stable: str
    """Address of the model server."""
    version: str
    sticky_header: str
    """Empty: users are not told apart, each request is drawn anew."""
    route: str = "rag"


def gateway_file(answers: Answers) -> str:
    """A gateway's file, with comments."""
    sticky = (
        f"sticky: {{header: {_text(answers.sticky_header)}}}"
        if answers.sticky_header
        else "# sticky: {header: x-user-id}"
    )
    return f"""\
# Serve with: rag-mlops gateway --config gateway.yaml
# Check with: rag-mlops validate -f gateway.yaml

# Clients come here; 0.0.0.0:8000 is every interface.
listen: 127.0.0.1:8000

# Weights, plans, metrics. Beyond this machine it needs tokens.
admin:
  listen: 127.0.0.1:8001
#  tokens: {{operator: {{env: GATEWAY_OPERATOR_TOKEN}}, viewer: {{env: GATEWAY_VIEWER_TOKEN}}}}

# Accepted plans; after a restart they win over the weights in this file.
state: var/gateway

# What `rag-mlops recorder` brings to ClickHouse. Without it nothing is recorded.
spool: {{dir: var/spool, limit: 2GiB}}

# 0: one process for each core.
# workers: 1

# The first route that matches a request serves it.
routes:
  - name: {_text(answers.route)}
    match: {{prefix: /}}
    stable: {{version: {_text(answers.version)}, endpoints: [{_text(answers.stable)}]}}

    # To split by hand; a release needs no such line.
#    canary: {{version: next, endpoints: ["http://127.0.0.1:8012"], weight: 5}}

    # The same user, the same version. Without it each request is drawn anew.
    {sticky}

    # A request may ask for a version with `x-canary: always` or `never`.
#    override: true

#    timeouts: {{connect: 1s, first_byte: 60s, idle: 60s}}
#    retry: {{attempts: 2, budget: 20%, on: [connect, reset, 502, 503]}}
#    record: {{profile: auto, bodies: 64KiB, sample: 100%}}
"""


def agent_file() -> str:
    """An agent's file, with comments."""
    return """\
# Run with: rag-mlops agent --config agent.yaml
# ClickHouse comes from MLOPS_CLICKHOUSE_HOST, _PORT, _DATABASE, _USER and _PASSWORD.

# API and console. Beyond this machine it needs tokens.
listen: 127.0.0.1:8002
# tokens: {operator: {env: AGENT_OPERATOR_TOKEN}, viewer: {env: AGENT_VIEWER_TOKEN}}

# Several agents share a PostgreSQL: postgresql://USER@HOST/DATABASE, with PGPASSWORD
memory: sqlite:///var/agent.sqlite

# The admin port of every gateway; `dns` stands for every address of a name.
gateways:
  - {url: "http://127.0.0.1:8001"}
#  - {dns: "http://gateways.prod.svc:8001", token: {env: GATEWAY_OPERATOR_TOKEN}}

# Who is told when a release moves.
# notices: [{name: team, slack: {env: SLACK_WEBHOOK_URL}}]
"""


def policy_file(answers: Answers) -> str:
    """A release policy, with comments."""
    return f"""\
# Start with: rag-mlops release start {answers.route} --policy policy.yaml ...
# Check with: rag-mlops validate -f policy.yaml
route: {_text(answers.route)}

# A step ends when its time has passed and the evidence says healthy.
# `pause: {{}}` waits for a person.
steps:
  - setWeight: 5
  - pause: {{duration: 10m}}
  - setWeight: 25
  - setWeight: 50

# After the promotion the new version is still judged, against what some users keep of the old one.
bake: {{duration: 1h}}

# Chance of ever rolling back a harmless version, and of ever promoting one worse than the margins.
alpha: 0.05
beta: 0.05

# What matters: half a percent more errors, a tenth more latency.
checks:
  errors: {{margin: 0.005}}
  latency: {{quantiles: [0.5, 0.95, 0.99], margin: 10%}}
#  ttft: {{quantiles: [0.95], margin: 10%}}

  # Only where a score means the same in both versions.
#  score: {{field: relevance_score, margin: 0.02}}
"""


def quick_gateway_file(
    stable: str, canary: str | None, canary_percent: float, listen: str, admin: str, state: Path
) -> str:
    """The file behind `gateway --stable URL --canary URL`: a plain splitting proxy."""
    canary_line = ""
    if canary:
        slot = f"version: canary, endpoints: [{_text(canary)}], weight: {canary_percent:g}"
        canary_line = f"    canary: {{{slot}}}\n"
    return (
        f"listen: {_text(listen)}\n"
        f"admin: {{listen: {_text(admin)}}}\n"
        f"state: {_text(str(state))}\n"
        "routes:\n"
        "  - name: default\n"
        "    match: {prefix: /}\n"
        f"    stable: {{version: stable, endpoints: [{_text(stable)}]}}\n{canary_line}"
    )


def _text(value: str) -> str:
    """A text that YAML reads as exactly this text."""
    return json.dumps(value)


@click.command()
@click.option(
    "--stable",
    prompt="Address of your model server",
    default="http://127.0.0.1:8011",
    show_default=True,
    help="Where the version that serves today answers.",
)
@click.option(
    "--version",
    prompt="Its version",
    default="1.0.0",
    show_default=True,
    help="Any name: a version, an image digest.",
)
@click.option(
    "--sticky-header",
    prompt="Header that names a user (- for none)",
    default="x-user-id",
    show_default=True,
    help="So that one user sees one version; `-` for none.",
)
@click.option(
    "--directory",
    type=FOLDER,
    default=Path(),
    help="Where the files are written; the working directory by default.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@dry_run_option
@prints(WrittenFiles)
def init(
    stable: str,
    version: str,
    sticky_header: str,
    directory: Path,
    output: str,
    *,
    force: bool,
    dry_run: bool,
) -> None:
    """Write gateway.yaml, agent.yaml and policy.yaml to start from, after three questions."""
    header = "" if sticky_header == "-" else sticky_header
    answers = Answers(stable=stable, version=version, sticky_header=header)
    files = {
        directory / "gateway.yaml": gateway_file(answers),
        directory / "agent.yaml": agent_file(),
        directory / "policy.yaml": policy_file(answers),
    }
    _check(files)
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise click.ClickException(f"already there: {', '.join(there)}; --force replaces them")
    if not dry_run:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    sentences = [
        f"# dry run: {path} would hold\n{text}" if dry_run else f"wrote {path}"
        for path, text in files.items()
    ]
    contents = {str(path): text for path, text in files.items()}
    value = WrittenFiles(files=contents, dry_run=dry_run)
    print_answer(output, value, "\n".join(sentences))


def _check(files: dict[Path, str]) -> None:
    """Nothing is written that would be refused."""
    for path, text in files.items():
        if path.name == "gateway.yaml":
            try:
                parse(text, {})
            except ValueError as error:
                raise click.ClickException(str(error)) from None
