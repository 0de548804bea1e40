"""Damage of any kind: a clean refusal, or the same content as before."""

from __future__ import annotations

import random

from recorder.bundle import Bundle, BundleInvalid

MUTATIONS = 2_000


def content_of(data: bytes) -> tuple[object, list[bytes]]:
    """All a bundle says, every member read and every digest checked."""
    with Bundle.open(data) as bundle:
        members = [bundle.read(member.path) for member in bundle.manifest.members]
        for frame in bundle.manifest.frames:
            for image in frame.images:
                bundle.pixels(image)
        problems = bundle.verify()
        if problems:
            raise BundleInvalid(problems[0])
        return bundle.manifest, members


def mutate(data: bytearray, dice: random.Random) -> None:
    """Flip, overwrite, cut out, insert or duplicate, sometimes near the ends where the structure is."""
    near_end = dice.random() < 0.4
    place = (
        dice.choice([dice.randrange(120), len(data) - 1 - dice.randrange(160)])
        if near_end
        else dice.randrange(len(data))
    )
    kind = dice.randrange(6)
    if kind <= 1:
        data[place] ^= 1 << dice.randrange(8)
    elif kind == 2:
        data[place : place + 4] = dice.choice(
            [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", dice.randbytes(4)]
        )
    elif kind == 3:
        del data[place : place + dice.choice([1, 8, 100])]
    elif kind == 4:
        data[place:place] = dice.randbytes(dice.choice([1, 8, 100]))
    else:
        data[place:place] = data[place : place + dice.choice([8, 512])]


def test_two_thousand_mutations_are_refused_cleanly_or_change_nothing(bundle_bytes: bytes) -> None:
    """No exception but BundleInvalid leaves the reader, and no altered content."""
    original = content_of(bundle_bytes)
    dice = random.Random(20)
    refused = 0
    for _ in range(MUTATIONS):
        data = bytearray(bundle_bytes)
        for _ in range(dice.choice([1, 1, 1, 2, 5])):
            mutate(data, dice)
        try:
            assert content_of(bytes(data)) == original
        except BundleInvalid as error:
            assert str(error).isprintable()
            refused += 1
    assert refused > MUTATIONS * 0.95
