"""`cargohold doctor`: why a registry is reached as it is, or is not; and what this machine offers."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from client.cli import output
from client.cli.context import Context, connected
from client.cli.references import REFERENCE
from client.cli.text import printable

if TYPE_CHECKING:
    from client.doctor import Check, Examined, Report
    from client.machine import Finding


@click.command()
@click.argument("reference", type=REFERENCE, required=False, metavar="[REF]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@connected
def doctor(context: Context, reference: str | None, as_json: bool) -> int:
    """Say how a reference is reached, by which file and line, and try each step.

    Without a reference: what this machine offers to the store. The exit code is that of what is wrong with
    the registry itself; mirrors may fail.
    """
    return _machine(context, as_json) if reference is None else _reference(context, reference, as_json)


def _reference(context: Context, text: str, as_json: bool) -> int:
    from client.cli.errors import exit_code
    from client.doctor import Doctor

    reports = Doctor(context.hosts, context.credentials, context.network).examine(text)
    errors = [report.error for report in reports]
    # A short name means the first registry that has it.
    error = None if None in errors else errors[0]
    code = 0 if error is None else exit_code(error)
    if as_json:
        document = {"references": [_report_json(report) for report in reports], "exit_code": code}
        output.write(json.dumps(document))
        return code
    for report in reports:
        _print_report(report)
    return code


def _print_report(report: "Report") -> None:
    output.write(f"{report.reference}")
    for examined in report.endpoints:
        kind = "mirror" if examined.endpoint.is_mirror else "registry"
        output.write(f"\n  {kind} {printable(examined.url)}{_served(examined)}")
        facts = [(fact.what, str(fact.source)) for fact in examined.facts]
        checks = [(f"{_outcome(check)} {check.name}", _result(check)) for check in examined.checks]
        _print_aligned([*facts, *checks], indent="    ")


def _print_aligned(lines: Sequence[tuple[str, str]], indent: str = "") -> None:
    width = max(len(left) for left, _ in lines)
    for left, right in lines:
        output.write(f"{indent}{printable(left).ljust(width)}  {printable(right)}")


def _outcome(check: "Check") -> str:
    return "ok" if check.error is None else "FAILED"


def _served(examined: "Examined") -> str:
    endpoint = examined.endpoint
    if not endpoint.serves_tags:
        return ", not asked for tags"
    return "" if endpoint.serves_digests else ", not asked for digests"


def _result(check: "Check") -> str:
    return check.result if check.error is None else f"{check.error.code}: {check.result}"


def _report_json(report: "Report") -> dict[str, Any]:
    return {
        "reference": str(report.reference),
        "endpoints": [
            {
                "url": each.url,
                "repository": str(each.endpoint.repository),
                "is_mirror": each.endpoint.is_mirror,
                "serves_tags": each.endpoint.serves_tags,
                "serves_digests": each.endpoint.serves_digests,
                "facts": [{"what": fact.what, "source": str(fact.source)} for fact in each.facts],
                "checks": [
                    {
                        "name": check.name,
                        "ok": check.error is None,
                        "result": check.result,
                        "code": None if check.error is None else check.error.code,
                    }
                    for check in each.checks
                ],
            }
            for each in report.endpoints
        ],
    }


def _machine(context: Context, as_json: bool) -> int:
    from client import machine

    findings = list(machine.examine(context.store_path))
    code = int(any(finding.is_problem for finding in findings))
    if as_json:
        output.write(json.dumps({"findings": [_finding_json(each) for each in findings], "exit_code": code}))
        return code
    _print_aligned([("FAILED " * each.is_problem + each.name, each.result) for each in findings])
    return code


def _finding_json(finding: "Finding") -> dict[str, Any]:
    return {"name": finding.name, "ok": not finding.is_problem, "result": finding.result}
