"""`replay encrypt` and `replay decrypt`: a bundle for some eyes only, and back."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from recorder.bundle.errors import BundleUnavailable
from recorder.bundle.source import FileSource
from replay.commands.options import bundle_argument, json_option, new_file, open_bundle
from replay.opening import local_name
from replay.show.terminal import print_json, print_line, styled

__all__ = ["decrypt", "encrypt"]

_PART_BYTES = 2**20


@click.command(short_help="A copy that only some can open.")
@bundle_argument
@click.option("--to", "recipients", multiple=True, required=True, metavar="RECIPIENT", help="age recipient: age1…")
@click.option("-o", "--output", metavar="FILE", help="The encrypted bundle; default: BUNDLE.age.")
@json_option
def encrypt(bundle: str, recipients: tuple[str, ...], output: str | None, as_json: bool) -> None:
    """Write a copy of a bundle that only the holders of some identities can open, in the age format.

    A bundle that is not intact is refused. Example:

    \b
        age-keygen -o identity.txt
        replay encrypt …bundle.zst --to age1…
        replay show …bundle.zst.age --identity identity.txt
    """
    from recorder.trust.encryption import ENCRYPTED_SUFFIX, encrypt_file, is_encrypted
    from recorder.trust.recipients import checked_recipients

    try:
        wanted = checked_recipients(recipients)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    target = new_file(output or f"{local_name(bundle)}{ENCRYPTED_SUFFIX}")
    with open_bundle(bundle) as opened:
        bundle_id = opened.id
    with contextlib.closing(FileSource(bundle)) as source:
        if is_encrypted(source):
            raise click.BadParameter(f"{bundle} is encrypted already; `replay decrypt` it first")
    try:
        encrypt_file(Path(bundle), target, wanted)
    except OSError as error:
        raise BundleUnavailable(f"{target} cannot be written: {error.strerror}; name another file") from error
    _print({"path": str(target), "bundle": bundle_id, "recipients": list(wanted)}, "encrypted", as_json)


@click.command(short_help="A copy that everyone can open.")
@bundle_argument
@click.option("-o", "--output", metavar="FILE", help="The plain bundle; default: BUNDLE without .age.")
@json_option
def decrypt(bundle: str, output: str | None, as_json: bool) -> None:
    """Write the plain bundle that an encrypted one holds. Example:

    \b
        replay decrypt …bundle.zst.age --identity identity.txt -o plain.zst
    """
    from recorder.bundle.durable import durable_file
    from recorder.trust.encryption import ENCRYPTED_SUFFIX

    if output is None and not bundle.endswith(ENCRYPTED_SUFFIX):
        raise click.BadParameter(f"{bundle} does not end in {ENCRYPTED_SUFFIX}; name the plain bundle: -o FILE")
    target = new_file(output or local_name(bundle).removesuffix(ENCRYPTED_SUFFIX))
    with open_bundle(bundle) as opened:
        try:
            with durable_file(target) as file:
                for offset in range(0, opened.size_bytes, _PART_BYTES):
                    file.write(opened.read_range(offset, min(_PART_BYTES, opened.size_bytes - offset)))
        except OSError as error:
            raise BundleUnavailable(f"{target} cannot be written: {error.strerror}; name another file") from error
        _print({"path": str(target), "bundle": opened.id}, "decrypted", as_json)


def _print(facts: dict[str, object], done: str, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        print_line(styled(done, fg="green", bold=True) + f"   {facts['path']}")
