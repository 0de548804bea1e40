"""`replay sign`: a copy of a bundle with one more signature."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from recorder.bundle.errors import BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import identity_option, json_option, new_file, open_bundle
from replay.opening import local_name
from replay.show.terminal import print_json, print_line, styled

__all__ = ["sign"]


@click.command(short_help="A copy of a bundle with your signature.")
@click.argument("bundle", metavar="BUNDLE")
@identity_option
@click.option(
    "--key", "private_key", required=True, type=click.Path(exists=True, dir_okay=False), metavar="FILE",
    help="Your Ed25519 private key, PEM (PKCS #8).",
)  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="The signed bundle; default: NAME-signed.zst beside the bundle.")
@json_option
@click.pass_context
def sign(context: click.Context, bundle: str, private_key: str, output: str | None, as_json: bool) -> None:
    """Write a copy of a bundle, signed. Its id stays the same; signatures that it has stay too.

    The bundle is read and checked to its last byte first. The password of an encrypted key comes from the environment
    variable FLIGHT_RECORDER_KEY_PASSWORD, or is asked for. Exit code 4: damaged, nothing was signed. Example:

    \b
        openssl genpkey -algorithm ed25519 -out private.pem
        openssl pkey -in private.pem -pubout -out public.pem
        replay sign incidents/…bundle.zst --key private.pem
    """
    from recorder.bundle.errors import BundleInvalid
    from recorder.trust.signatures import key_id, load_signing_key, sign_bundle, signatures_of

    target = new_file(output or _beside(bundle))
    key = load_signing_key(private_key, _ask)
    with open_bundle(bundle) as opened:
        if problems := opened.verify():
            raise BundleInvalid(f"nothing was signed, the bundle is damaged: {problems[0]}")
        try:
            sign_bundle(opened, target, key)
        except OSError as error:
            raise BundleUnavailable(f"{target} cannot be written: {error.strerror}; name another file") from error
        bundle_id = opened.id
    with open_bundle(str(target)) as signed:
        keys = [signature.key_id for signature in signatures_of(signed)]
    if as_json:
        print_json({"path": str(target), "bundle": bundle_id, "key": key_id(key.public_key), "keys": keys})
    else:
        print_line(styled("signed", fg="green", bold=True) + f"   {target}")
        print_line(f"bundle {bundle_id[:12]}, by key {key_id(key.public_key)[:16]}, {len(keys)} in all")
    context.exit(ExitCode.OK)


def _beside(bundle: str) -> str:
    path = Path(local_name(bundle))
    return str(path.with_name(f"{path.name.removesuffix('.age').removesuffix('.zst')}-signed.zst"))


def _ask() -> str | None:
    if not sys.stdin.isatty():
        return None
    return str(click.prompt("Password of the key", hide_input=True, err=True))
