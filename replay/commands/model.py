"""`replay model`: put a model into the store before anything happens to it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recorder.bundle.values import DTYPES
from replay.commands.options import json_option
from replay.show.terminal import print_json, print_note
from replay.show.text import inert

if TYPE_CHECKING:
    from recorder.sinks.s3.address import S3Address

__all__ = ["model"]

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_INPUT = re.compile(r"(?P<shape>\d+(x\d+)*)(:(?P<dtype>\w+))?")

#: The user's factory may download; export of the largest vision models takes half a minute.
_TIMEOUT_SECONDS = 1800


@click.group(short_help="Put a model into a store at deployment.")
def model() -> None:
    """Put a model into a store, at deployment: before anything happens to it. Example: `replay model add`."""


@model.command()
@click.argument("factory", metavar="PKG.MOD:FACTORY")
@click.option("--to", "store", required=True, metavar="STORE", help="Directory of the model store, or s3://….")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SHAPE[:DTYPE]",
    help="One per positional input, as 1x3x224x224:float32.",
)
@click.option(
    "--state",
    "state",
    multiple=True,
    metavar="PATTERN",
    help="Names of tensors that its calls change, as given to recorder.attach(state=...).",
)
@json_option
def add(factory: str, store: str, inputs: tuple[str, ...], state: tuple[str, ...], as_json: bool) -> None:
    """Put the model that PKG.MOD:FACTORY builds into a store: its weights and, given its inputs, its graph.

    The factory is imported and called in a process of its own, with the working directory on the import path. The
    graph is kept only if it gives the model's own answer, bit for bit, on a random input; it serves inputs of other
    sizes too, as far as the model allows it. In a bucket nothing is ever overwritten; that of a sink is models/ below
    its prefix. Examples:

    \b
        replay model add zoo.nets:build --to incidents/models --input 1x3x224x224
        replay model add zoo.nets:build --to s3://incidents/prod/models
    """
    if not _FACTORY.fullmatch(factory):
        raise click.UsageError(f"{factory!r} is not of the form package.module:function.")
    remote = _address(store)
    kept = (
        tempfile.TemporaryDirectory(prefix="flight-recorder-") if remote else nullcontext(str(Path(store).absolute()))
    )
    with kept as directory:
        answer = _deploy(_request(factory, directory, inputs, state))
        if remote is not None:
            from replay.model_upload import bring_models

            answer["brought"] = list(bring_models(Path(directory), remote))
    if as_json:
        print_json(answer)
    else:
        _show(answer)
    if answer["weights"] is None or (inputs and answer["graph"] is None):
        raise click.exceptions.Exit(1)


def _address(store: str) -> S3Address | None:
    """The prefix that a store is; None: it is a directory."""
    from recorder.sinks.s3.address import S3Address, is_s3

    if not is_s3(store):
        if Path(store).is_file():
            raise click.BadParameter(f"{store} is a file; name a directory, or s3://bucket/prefix/models")
        return None
    try:
        address = S3Address.parse(store)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return S3Address(address.bucket, address.key.strip("/"))


def _request(factory: str, directory: str, inputs: tuple[str, ...], state: tuple[str, ...]) -> dict[str, Any]:
    return {
        "sys_path": [str(Path.cwd()), *sys.path],
        "factory": factory,
        "store": directory,
        "inputs": [_input(text) for text in inputs],
        "state": list(state),
    }


def _input(text: str) -> dict[str, Any]:
    match = _INPUT.fullmatch(text)
    dtype = (match and match["dtype"]) or "float32"
    if match is None or dtype not in DTYPES:
        raise click.UsageError(f"--input {text!r} is not of the form 1x3x224x224:float32.")
    return {"shape": [int(size) for size in match["shape"].split("x")], "dtype": dtype}


def _deploy(request: dict[str, Any]) -> dict[str, Any]:
    """Run replay.worker.deploy, which loads torch and the user's code, in a child."""
    boot = "import json, sys; r = json.load(sys.stdin); sys.path[:] = r['sys_path']; "
    boot += "from replay.worker.deploy import main; main(r)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", boot],
            input=json.dumps(request).encode(),
            stdout=subprocess.PIPE,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise click.ClickException(f"The factory did not end within {_TIMEOUT_SECONDS} seconds.") from error
    except ValueError as error:
        raise click.ClickException(f"The process that ran the factory ended with status {done.returncode}.") from error
    return answer


def _show(answer: dict[str, Any]) -> None:
    for name in ("weights", "graph"):
        if found := answer[name]:
            sizes = ", for any size of its inputs" if found.get("form") else ""
            click.echo(f"{name:8} {found['digest']}  {found['size_bytes']} bytes{sizes}")
    for location in answer.get("brought", ()):
        click.echo(f"held at  {location}")
    for problem in answer["problems"]:
        print_note(inert(problem, 400))
