"""`replay pack`: a copy of a bundle that needs nothing else to be replayed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from recorder.bundle.errors import BundleError, BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import bundle_argument, json_option, new_file, open_bundle
from replay.opening import local_name, place_of
from replay.show.terminal import print_json, print_line, print_wrapped, styled
from replay.show.text import inert, size

__all__ = ["pack"]


@click.command(short_help="A self-contained copy: the models travel inside.")
@bundle_argument
@click.option("--with-model", is_flag=True, required=True, help="Put weights, graphs and ONNX files into the copy.")
@click.option("-o", "--output", metavar="FILE", help="The new bundle; default: NAME-packed.zst beside the bundle.")
@click.option(
    "--models", metavar="LOCATION", help="Model store. Default: REPLAY_MODELS, your config, models/ beside the bundle."
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=0),
    default=2 * 2**30,
    show_default=True,
    help="Largest size of all model files together.",
)
@json_option
@click.pass_context
def pack(
    context: click.Context,
    bundle: str,
    with_model: bool,
    output: str | None,
    models: str | None,
    max_bytes: int,
    as_json: bool,
) -> None:
    """Write a copy of a bundle with the weights and graphs that it names by digest.

    The copy names the bundle as its parent; `replay` takes the models out of it by itself. Every file is checked
    against its digest. Exit code 3: a model is not in the store, or the models are larger than allowed. Example:

    \b
        replay pack incidents/…bundle.zst --with-model -o ticket.zst
    """
    from replay.load import ConfigInvalid, ModelMissing, find_locations, read_user_config
    from replay.pack import TooLarge, pack_models
    from replay.packed import PackedModels

    target = new_file(output or _beside(bundle))
    with open_bundle(bundle) as opened, PackedModels(opened) as packed:
        try:
            locations = replace(find_locations(place_of(bundle), models, read_user_config()), packed=packed)
            done = pack_models(opened, target, locations, max_bytes)
        except ConfigInvalid as error:
            raise click.UsageError(inert(error, 600)) from error
        except (ModelMissing, TooLarge) as error:
            raise BundleError(f"nothing was packed: {error}") from error
        except OSError as error:
            raise BundleUnavailable(f"{target} cannot be written: {error.strerror}; name another file") from error
    if as_json:
        print_json(
            {
                "path": str(target),
                "bundle": done.bundle,
                "models": [{"path": path, "size_bytes": size_bytes} for path, size_bytes in done.members],
                "lacking": list(done.lacking),
            }
        )
    else:
        print_line(styled("packed", fg="green", bold=True) + f"   {target}")
        total = sum(size_bytes for _, size_bytes in done.members)
        print_line(f"bundle {done.bundle[:12]}, {len(done.members)} model files, {size(total)}")
        for sentence in done.lacking:
            print_wrapped(sentence, indent="    ", first="  - ")
    context.exit(ExitCode.OK)


def _beside(bundle: str) -> str:
    path = Path(local_name(bundle))
    return str(path.with_name(f"{path.name.removesuffix('.zst')}-packed.zst"))
