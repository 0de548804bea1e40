"""The `replay` command: finds the command, loads only that one, and turns every ending into one exit code.

Exit codes: 0 reproduced or ok · 1 diverged or not ok · 2 usage, a missing path too · 3 not replayable here, or
inconclusive · 4 the bundle is invalid · 5 nondeterministic here · 6 salvaged, incomplete. Besides them 130 when
interrupted and 141 when the reader of a pipe went away. An error of replay itself ends with 3, never with 1: no verdict
was reached.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from recorder.bundle.errors import BundleError, BundleInvalid, BundleUnavailable

__all__ = ["COMMANDS", "ExitCode", "cli", "main"]

#: Name to "module:attribute". A module is imported when its command is asked for; a missing one is left out.
COMMANDS: dict[str, str] = {
    "run": "replay.commands.run:run",
    "show": "replay.commands.show:show",
    "ls": "replay.commands.ls:ls",
    "verify": "replay.commands.verify:verify",
    "report": "replay.commands.report:report",
    "extract": "replay.commands.extract:extract",
    "locate": "replay.commands.locate:locate",
    "export": "replay.commands.export:export",
    "redact": "replay.commands.redact:redact",
    "erase": "replay.commands.erase:erase",
    "sign": "replay.commands.sign:sign",
    "encrypt": "replay.commands.encrypt:encrypt",
    "decrypt": "replay.commands.encrypt:decrypt",
    "pack": "replay.commands.pack:pack",
    "ticket": "replay.commands.ticket:ticket",
    "minimize": "replay.commands.minimize:minimize",
    "probe": "replay.commands.probe:probe",
    "suite": "replay.commands.suite:suite",
    "fleet": "replay.commands.fleet:fleet",
    "catalog": "replay.commands.catalog:catalog",
    "recover": "replay.commands.recover:recover",
    "seal": "replay.commands.seal:seal",
    "model": "replay.commands.model:model",
    "bisect": "replay.commands.bisect:bisect",
    "diff": "replay.commands.diff:diff",
    "slices": "replay.commands.slices:slices",
    "profile": "replay.commands.profile:profile",
    "diagnose": "replay.commands.profile:diagnose",
    "doctor": "replay.commands.doctor:doctor",
}

#: A traceback instead of one sentence.
_DEBUG_VARIABLE = "REPLAY_DEBUG"


class ExitCode:
    """What the exit status of every command says."""

    OK = 0
    NOT_OK = 1
    USAGE = 2
    NOT_REPLAYABLE = 3
    INVALID = 4
    NONDETERMINISTIC = 5
    INCOMPLETE = 6
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class ReplayGroup(click.Group):
    """Commands loaded by name; a first word that is no command and looks like a bundle means `run`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands that are there, in the order of use."""
        return [name for name, target in COMMANDS.items() if _is_installed(target)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        target = COMMANDS.get(cmd_name)
        if target is None or not _is_installed(target):
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` before a bundle, or before options that only `run` has."""
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        place = next((index for index, word in enumerate(args) if word not in own), None)
        if place is not None and args[place] not in COMMANDS and _looks_like_a_bundle(args[place]):
            args = [*args[:place], "run", *args[place:]]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        if args and self.get_command(ctx, args[0]) is None:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"did you mean `replay {near[0]}`?" if near else "`replay --help` lists the commands"
            raise click.ClickException(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader of the pipe that went away ends it quietly (click would call it a failure)."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
            ctx.exit(ExitCode.BROKEN_PIPE)
        return result

    def main(  # type: ignore[override]  # click overloads it by the value of standalone_mode
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run a command and exit with its code; whatever goes wrong is one sentence on stderr."""
        words = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(words, standalone_mode=False, **extra)
        debug = "--debug" in words or bool(os.environ.get(_DEBUG_VARIABLE))
        _write_what_the_terminal_can()
        try:
            code = super().main(words, standalone_mode=False, **extra)
        except click.exceptions.Exit as ending:
            code = ending.exit_code
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            code = ExitCode.USAGE
        except click.ClickException as error:
            code = _fail(words, _usage(error), ExitCode.USAGE)
        except (click.Abort, KeyboardInterrupt):
            code = _fail(words, "interrupted", ExitCode.INTERRUPTED)
        except BundleError as error:
            if debug:
                raise
            code = _fail(words, str(error), _code_of(error))
        except Exception as error:  # a traceback is for those who ask for it
            if debug:
                raise
            sentence = f"{type(error).__name__}: {error}"[:300].rstrip(".")
            advice = "this is an error of replay itself, and no verdict was reached; `replay --debug …` shows where"
            code = _fail(words, f"{sentence}; {advice}", ExitCode.NOT_REPLAYABLE)
        sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _code_of(error: BundleError) -> int:
    if isinstance(error, BundleInvalid):
        return ExitCode.INVALID
    return ExitCode.USAGE if isinstance(error, BundleUnavailable) else ExitCode.NOT_REPLAYABLE


def _usage(error: click.ClickException) -> str:
    """One sentence, and where to read more."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    message = error.format_message().rstrip(".")
    return f"{message}; see `{context.command_path} --help`" if context else message


def _fail(words: Sequence[str], sentence: str, code: int) -> int:
    from replay.show.text import inert

    click.echo(f"replay: {inert(sentence, 600)}", err=True)
    _json_error(words, sentence, code)
    return code


def _json_error(words: Sequence[str], sentence: str, code: int) -> None:
    """Who asked for JSON gets an object on stdout whatever happens."""
    if "--json" in words:
        from replay.show.terminal import print_json

        print_json({"error": sentence, "exit_code": code})


def _is_installed(target: str) -> bool:
    return importlib.util.find_spec(target.partition(":")[0]) is not None


def _looks_like_a_bundle(word: str) -> bool:
    if word.startswith("-"):
        return word not in ("-h", "--help") and len(word) > 1
    return "://" in word or "/" in word or word.endswith((".zst", ".age")) or Path(word).exists()


def _write_what_the_terminal_can() -> None:
    """An ASCII locale gets escapes for what it cannot show, not an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import recorder

        click.echo(f"replay {recorder.__version__}")
        ctx.exit()


@click.group(
    cls=ReplayGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="`replay BUNDLE` is short for `replay run BUNDLE`.",
)
@click.option("--debug", is_flag=True, help=f"Show a traceback when something breaks (also {_DEBUG_VARIABLE}=1).")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def cli(debug: bool) -> None:
    """Re-run what a vision model did when something went wrong.

    A bundle is one file that the flight recorder sealed: images, model inputs and outputs, settings. Example:

    \b
        replay ls incidents/
        replay show incidents/…bundle.zst
        replay incidents/…bundle.zst
    """


def main() -> None:
    """Entry point of the console script."""
    cli(prog_name="replay")
