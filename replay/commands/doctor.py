"""`replay doctor`: what of this machine matters to a replay."""

from __future__ import annotations

import click

from replay.cli import ExitCode
from replay.commands.options import json_option
from replay.show.terminal import print_json, print_line, print_wrapped, styled
from replay.show.text import inert, size

__all__ = ["doctor"]


@click.command(short_help="What of this machine matters to a replay.")
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Show what of this machine decides whether a replay is possible and exact.

    torch is imported in a short-lived process. Exit code 0: nothing stands in the way · 1: something does, and the
    output says what to do. Example:

    \b
        replay doctor
    """
    from replay.machine import Machine, examine
    from replay.show.table import print_facts

    machine: Machine = examine()
    code = ExitCode.NOT_OK if machine["problems"] else ExitCode.OK
    if as_json:
        print_json(machine)
        context.exit(code)
    print_facts([(name, inert(value, 400)) for name, value in _facts(machine) if value])
    print_line()
    if not machine["problems"]:
        print_line(styled("nothing stands in the way of a replay", fg="green", bold=True))
    for problem in machine["problems"]:
        print_wrapped(inert(problem, 400), indent="    ", first="  - ")
    context.exit(code)


def _facts(machine: dict) -> list[tuple[str, str]]:  # type: ignore[type-arg]
    torch, cpu, memory = machine["torch"], machine["cpu"], machine["memory"]
    others = [f"{name} {version}" for name, version in machine["packages"].items() if version and name != "torch"]
    threads = f"{torch.get('threads', '?')} in an operator, {torch.get('interop_threads', '?')} between operators"
    return [
        ("python", f"{machine['python']} on {machine['platform']}"),
        ("torch", f"{torch['version']}, CUDA {torch.get('cuda') or 'no'}" if "version" in torch else "not importable"),
        ("packages", ", ".join(others)),
        ("cpu", f"{cpu['model']}, {cpu['count']} usable"),
        ("instruction sets", " ".join(cpu["flags"])),
        ("torch uses", str(torch.get("cpu_capability", ""))),
        ("threads", threads if torch else ""),
        ("variables", " ".join(f"{name}={value}" for name, value in machine["variables"].items()) or "none set"),
        ("memory", _sizes(memory)),
        ("model stores", ", ".join([*machine["models"]["directories"], "models/ beside the bundle"])),
        ("trusted factories", ", ".join(machine["models"]["trusted_factories"])),
        ("kept from", ", ".join(f"{what} by the {'kernel' if who == 'kernel' else 'interpreter'}"
                                for what, who in machine["sandbox"].items())),
    ]  # fmt: skip


def _sizes(memory: dict[str, int | None]) -> str:
    titles = {
        "available_bytes": "available",
        "container_headroom_bytes": "left to the container",
        "shared_memory_free_bytes": "in /dev/shm",
    }
    return ", ".join(f"{size(value)} {titles[name]}" for name, value in memory.items() if value is not None)
