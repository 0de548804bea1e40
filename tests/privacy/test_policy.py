"""Levels of fields, what they inherit, and how a policy travels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recorder.privacy import Level, PrivacyPolicy, Redactor
from recorder.privacy.policy import FIELDS

FILL = {"image": (Redactor.fill(),)}


def levels_of(policy: PrivacyPolicy) -> dict[str, str]:
    """The level of every field that is not full."""
    return {name: str(policy.level_of(name)) for name in FIELDS if policy.level_of(name) is not Level.FULL}


def test_everything_is_full_unless_told() -> None:
    """The default policy scrubs and takes nothing away."""
    assert levels_of(PrivacyPolicy()) == {} and PrivacyPolicy().is_full


def test_a_level_covers_every_derived_copy() -> None:
    """Of an image: thumbnails, track, the model's input and answer, and what the service answered."""
    covered = {"image", "thumbnails", "track", "model_input", "model_output", "output"}
    for level in ("redacted", "digest-only"):
        policy = PrivacyPolicy(levels={"image": level}, redactors=FILL)
        assert levels_of(policy) == dict.fromkeys(covered, level)
    assert policy.inherited_from("model_output") == ("model_input", "image")
    assert policy.inherited_from("image") == () and policy.inherited_from("metadata") == ()


def test_a_level_of_its_own_wins_and_is_inherited_in_turn() -> None:
    """Who says that the input does not show the image says the same of what is made from the input."""
    policy = PrivacyPolicy(levels={"image": "redacted", "model_input": "full"}, redactors=FILL)
    assert levels_of(policy) == {"image": "redacted", "thumbnails": "redacted", "track": "redacted"}
    policy = PrivacyPolicy(levels={"image": "digest-only"}, derived_from={"model_output": [], "output": "metadata"})
    assert policy.level_of("model_output") is policy.level_of("output") is Level.FULL
    assert policy.level_of("model_input") is Level.DIGEST_ONLY


def test_parts_have_levels_of_their_own_and_the_strictest_is_inherited() -> None:
    """Which of two images went into the model nobody knows."""
    policy = PrivacyPolicy(
        levels={"image": "redacted", "image.left": "full", "image.right": "digest-only"}, redactors=FILL
    )
    assert policy.level_of("image.left") is Level.FULL and policy.level_of("image.rear") is Level.REDACTED
    assert policy.level_of("model_input") is Level.DIGEST_ONLY
    policy = PrivacyPolicy(levels={"metadata": "digest-only", "metadata.camera": "full"})
    assert policy.level_of("metadata.who") is Level.DIGEST_ONLY and policy.level_of("metadata.camera") is Level.FULL


@pytest.mark.parametrize(
    "parts",
    [
        {"levels": {"image": "secret"}}, {"levels": {"picture": "full"}}, {"levels": {"output.x": "full"}},
        {"levels": {"image.": "full"}}, {"levels": ["image"]}, {"levels": {"image": "redacted"}},
        {"levels": {"image": "full"}, "redactors": {"output": {"fill": {}}}}, {"redactors": {"image": []}},
        {"derived_from": {"image": ["output"]}}, {"derived_from": {"image": ["who"]}}, {"denylist": "password"},
        {"denylist": [3]}, {"scrub_texts": 1}, {"level": {}}, [],
        {"redactors": {"image": [{"downscale": {"factor": 2}}, {"fill": {"boxes": "faces"}}]}},
    ],
)  # fmt: skip
def test_a_policy_that_cannot_hold_is_refused(parts: Any) -> None:
    """When the recorder is made: one sentence, no guess."""
    with pytest.raises(ValueError):
        PrivacyPolicy.from_json(parts)


def test_a_policy_is_the_same_after_json() -> None:
    """It travels to the sealer and stands in the ring."""
    policy = PrivacyPolicy(
        levels={"image": "redacted", "metadata.who": "digest-only"},
        redactors={"image": (Redactor.pixelate("faces"), Redactor.downscale(max_side=64))},
        derived_from={"output": ()}, denylist=("badge",), strip_location=True, keep_places=True,
    )  # fmt: skip
    assert PrivacyPolicy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_a_policy_from_a_ring_that_cannot_be_read_lets_nothing_leave() -> None:
    """A newer recorder's, or a forger's."""
    from recorder.records import Kind
    from recorder.sealer.latched import Latched

    latched = Latched()
    config = {
        "pre_frames": 1, "post_frames": 1, "post_seconds": 1.0, "cooldown_seconds": 1.0, "dedupe_seconds": 1.0,
        "max_incidents_per_hour": 1, "max_incidents_per_day": 1, "triggers": [],
        "privacy": {"levels": {"aura": "full"}},
    }  # fmt: skip
    latched.take(Kind.CONFIG, config)
    assert all(latched.privacy.level_of(name) is Level.DIGEST_ONLY for name in FIELDS)


def test_the_package_offers_what_a_policy_is_said_with_and_no_more() -> None:
    """The functions that carry it out are the product's own, and may change."""
    import recorder.privacy as offered

    assert set(offered.__all__) == {
        "DENYLIST", "KEY_VARIABLE", "Level", "PrivacyKey", "PrivacyPolicy", "Redactor", "load_key",
    }  # fmt: skip
    assert not hasattr(offered, "scrub_text") and not hasattr(offered, "without_content")
