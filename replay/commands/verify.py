"""`replay verify`: complete, intact, signed by whom."""

from __future__ import annotations

import click

from recorder.bundle.custody import custody
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.manifest import Parent
from replay.cli import ExitCode
from replay.commands.options import bundle_argument, json_option, opening
from replay.show.provenance import custody_sentences, signed_sentences
from replay.show.terminal import print_json, print_line, print_wrapped, styled
from replay.show.text import inert, size
from replay.trust import CheckedSignature, Signed

__all__ = ["verify"]

#: A bundle of ten thousand broken members is as broken as one of ten.
_PROBLEMS_SHOWN = 20


@click.command(short_help="Is it complete, intact, and signed by whom?")
@bundle_argument
@json_option
@click.pass_context
def verify(context: click.Context, bundle: str, as_json: bool) -> None:
    """Read every byte of a bundle and check it against its digests, and its signatures against the keys you trust.

    Exit code 0: intact · 1: intact, but not signed by a key that --key or --require-signed asks for · 3: signatures
    cannot be checked here · 4: damaged, forged or no bundle · 6: intact, but salvaged and incomplete. Example:

    \b
        replay verify incidents/…bundle.zst
        replay verify incidents/…bundle.zst --key line-3.pem
    """
    facts, complete, signed = "", False, Signed(state="none")
    chain: tuple[Parent, ...] = ()
    asked = opening()
    try:
        with asked.open_unsigned(bundle) as opened:
            complete, chain = opened.manifest.complete, custody(opened.manifest)
            facts = f"bundle {opened.id[:12]}, {len(opened.manifest.members)} members, {size(opened.size_bytes)}"
            problems = [inert(problem, 400) for problem in opened.verify()]
            signed = asked.signed(opened)
            if signed.forged:
                problems.append(f"{signed.forged} of its signatures do not fit the manifest; do not trust this bundle")
    except BundleInvalid as error:
        problems = [inert(error, 400)]
    valid = not problems
    code = _code(valid, complete, signed, asked.requires_signature)
    if as_json:
        print_json(
            {
                "valid": valid,
                "complete": complete and valid,
                "signed": signed.state,
                "problems": problems,
                "signatures": [_as_json(signature) for signature in signed.signatures],
                "custody": [{"bundle": parent.bundle, "operation": parent.operation} for parent in chain],
            }
        )
        context.exit(code)
    if valid:
        state = "intact and complete" if complete else "intact, but salvaged and incomplete"
        print_line(styled(state, fg="green" if complete else "yellow", bold=True) + f"   {facts}")
    else:
        print_line(styled("not valid", fg="red", bold=True) + (f"   {facts}" if facts else ""))
        for problem in problems[:_PROBLEMS_SHOWN]:
            print_wrapped(problem, indent="    ", first="  - ")
        if len(problems) > _PROBLEMS_SHOWN:
            print_line(f"  and {len(problems) - _PROBLEMS_SHOWN} more")
    if facts:
        for sentence in (*signed_sentences(signed), *custody_sentences(chain, inert)):
            print_wrapped(sentence)
    context.exit(code)


def _code(valid: bool, complete: bool, signed: Signed, required: bool) -> int:
    if not valid:
        return ExitCode.INVALID
    if required and signed.state != "trusted":
        return ExitCode.NOT_REPLAYABLE if signed.remark is not None else ExitCode.NOT_OK
    return ExitCode.OK if complete else ExitCode.INCOMPLETE


def _as_json(signature: CheckedSignature) -> dict[str, object]:
    return {
        "key": signature.key,
        "valid": signature.valid,
        "trusted": signature.trusted,
        "name": None if signature.name is None else inert(signature.name, 200),
    }
