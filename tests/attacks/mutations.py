"""A campaign of damage: ``python -m tests.attacks.mutations --count 1000000 --state FILE`` goes on where it stopped.

Half of the mutations hit the file as it lies; there the outcome is a refusal or the same content. The other half hit
the manifest's text or a member before everything around is made to agree again, so that they get past every checksum;
there the outcome is a refusal, or a bundle that can be read to the end. Anything else is a failure, and is printed with
the seed that makes it again.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import resource
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from recorder.bundle import Bundle, BundleError, BundleInvalid
from recorder.bundle.check import tensors_in
from tests.bundle.forge import Forgery
from tests.bundle.test_mutations import mutate
from tests.golden.regenerate import FOLDER

__all__ = ["BATCH", "run_batch"]

#: Mutations of one seed: what a failure names, and what a stopped campaign repeats at most.
BATCH = 500

#: What a mutation of text puts in: numbers at borders, other types, names of other places.
_WORDS = [
    b"0",
    b"-1",
    b"9999999999",
    b"1e400",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"raw"',
    b'"table"',
    b'"planes"',
    b'"float64"',
]


@functools.cache
def _goldens() -> list[bytes]:
    return [path.read_bytes() for path in sorted(FOLDER.glob("*.zst"))]


@functools.cache
def _content(index: int) -> object:
    return _read(_goldens()[index])


@functools.cache
def _forgery(index: int) -> Forgery:
    return Forgery.of(_goldens()[index])


def run_batch(seed: int, count: int = BATCH) -> Counter[str]:
    """Make and try mutations; return the outcomes by name.

    Raises:
        AssertionError: one of them had another outcome than it may; the message names seed and number.
    """
    dice = random.Random(seed)
    outcomes = Counter[str]()
    for number in range(count):
        index = dice.randrange(len(_goldens()))
        try:
            outcomes[_raw(index, dice) if dice.random() < 0.5 else _wrapped(index, dice)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, mutation {number}: {type(error).__name__}: {error}") from error
    return outcomes


def _raw(index: int, dice: random.Random) -> str:
    data = bytearray(_goldens()[index])
    for _ in range(dice.choice([1, 1, 1, 2, 5])):
        mutate(data, dice)
    try:
        assert _read(bytes(data)) == _content(index), "the content changed unnoticed"
    except BundleInvalid as error:
        assert str(error).isprintable()
        return "raw refused"
    return "raw same content"


def _wrapped(index: int, dice: random.Random) -> str:
    honest = _forgery(index)
    forgery = replace(honest, contents=list(honest.contents))
    if dice.random() < 0.6 or not forgery.contents:
        with Bundle.open(_goldens()[index]) as bundle:
            text = bytearray(bundle.manifest_bytes)
        for _ in range(dice.choice([1, 1, 2])):
            _mutate_text(text, dice)
        forgery.manifest_text = bytes(text)
    else:
        place = dice.randrange(len(forgery.contents))
        path, content = forgery.contents[place]
        changed = bytearray(content) or bytearray(b"\0")
        mutate(changed, dice) if len(changed) > 320 else changed.extend(dice.randbytes(3))
        forgery.contents[place] = (path, bytes(changed))
    try:
        _read(forgery.build())
    except BundleInvalid as error:
        assert str(error).isprintable()
        return "wrapped refused"
    return "wrapped readable"


def _mutate_text(text: bytearray, dice: random.Random) -> None:
    """Change a number or word into another, move a piece, or flip a bit."""
    place = dice.randrange(len(text))
    kind = dice.randrange(4)
    if kind == 0:
        text[place] ^= 1 << dice.randrange(7)
    elif kind == 1:
        start = text.find(b":", place) + 1
        end = min((found for each in (b",", b"}", b"]") if (found := text.find(each, start)) >= 0), default=start)
        text[start:end] = dice.choice(_WORDS)
    elif kind == 2:
        length = dice.choice([1, 8, 60])
        text[place:place] = text[dice.randrange(len(text)) :][:length]
    else:
        del text[place : place + dice.choice([1, 8, 60])]


def _read(data: bytes) -> tuple[object, list[bytes]]:
    """Everything a bundle holds, by every way of reading it; what is wrong with it is refused."""
    with Bundle.open(data) as bundle:
        problems = bundle.verify()
        if problems:
            raise BundleInvalid(problems[0])
        for _, tensor in tensors_in(bundle.manifest):
            bundle.array(tensor)
        for frame in bundle.manifest.frames:
            for image in frame.images:
                try:
                    bundle.pixels(image)
                except BundleInvalid:
                    raise
                except BundleError as error:  # JPEG and WebP of another decoder, or never decoded
                    assert str(error).isprintable()
        return bundle.manifest, [bundle.read(member.path) for member in bundle.manifest.members]


def main(say: Callable[[str], object] = print) -> None:
    """Run a campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--state", type=Path, help="file that remembers how far it came")
    arguments = parser.parse_args()
    state = {"seed": 0, "outcomes": {}}
    if arguments.state is not None and arguments.state.exists():
        state = json.loads(arguments.state.read_text())
    outcomes = Counter(state["outcomes"])
    while outcomes.total() < arguments.count:
        outcomes += run_batch(state["seed"])
        state = {"seed": state["seed"] + 1, "outcomes": dict(outcomes)}
        if arguments.state is not None:
            arguments.state.write_text(json.dumps(state))
        if state["seed"] % 20 == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            say(f"{outcomes.total():,} mutations, peak {peak} MiB: {dict(sorted(outcomes.items()))}")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
