"""The domain in one tree of frozen dataclasses: what ``manifest.json`` says, field for field.

The recorder fills it, replay reads it, the report draws it; ``schemas/manifest.schema.json`` is the same tree for
other languages. Times are integer nanoseconds; digests are lower-case SHA-256 hex. Strings that came from the host are
claims: shown (sanitised), never imported, evaluated or turned into commands.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from recorder.bundle.values import JsonValue, MappingValue, SequenceValue, Value

__all__ = [
    "Call",
    "CallSettings",
    "Context",
    "Environment",
    "ExceptionInfo",
    "FORMAT_MAJOR",
    "FORMAT_MINOR",
    "FORMAT_NAME",
    "FormatVersion",
    "Frame",
    "Graph",
    "Image",
    "ImageLeftOut",
    "Incident",
    "Manifest",
    "Member",
    "Model",
    "Parent",
    "Redaction",
    "TensorLayout",
    "Thinning",
    "Track",
    "TrackLevel",
    "TrackSignal",
    "TrackThumbnail",
    "Trigger",
    "Weights",
    "Window",
    "was_redacted",
]

FORMAT_NAME = "vision-flight-recorder"
FORMAT_MAJOR = 1
FORMAT_MINOR = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatVersion:
    """Readers refuse another major version and ignore fields of newer minor ones."""

    major: int
    minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of the archive. ``size_bytes`` and ``sha256`` are of the file as ``tar x`` would leave it."""

    path: str
    size_bytes: int
    sha256: str
    first_frame: int  #: index of its first zstd frame in the seek table
    frame_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of a frame, as the camera or the caller gave it, before preprocessing."""

    name: str  #: "image" unless the frame has several
    source: str  #: "array", "pil", "encoded" or "path": what the caller passed
    member: str
    encoding: str  #: "png", "jpeg", "webp" (the member is that file) or "raw" (C-order bytes)
    height: int
    width: int
    channels: int  #: 0: the array had two dimensions; else the third dimension
    dtype: str  #: "uint8" or "uint16" of the decoded pixels
    pixels_sha256: str | None  #: of the decoded pixels in C order; null when an encoded original could not be decoded
    thumbnail: str | None = None  #: path of a small JPEG member
    original_digest: str | None = None  #: of a redacted image "hmac-sha256:KEY:DIGEST" of what was recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLeftOut:
    """An image that is not here: larger than the ring allows, kept back for privacy, or left out by a `Thinning`."""

    name: str
    source: str  #: as of an Image
    encoding: str  #: "pixels" (an array's), "png", "jpeg", "webp" or "raw" (a file that is none of these)
    size_bytes: int
    sha256: str | None  #: of the pixels in C order, or of the encoded bytes; null: not taken
    height: int = 0  #: with width and channels 0 and dtype "" where only encoded bytes were seen
    width: int = 0
    channels: int = 0
    dtype: str = ""
    reason: str = ""  #: "": it was too large or came too fast; "privacy", "redaction-failed"
    original_digest: str | None = None  #: "hmac-sha256:KEY:DIGEST" of the same bytes, where there was a privacy key


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionInfo:
    """An exception that passed through the frame or the model."""

    type: str  #: qualified name, such as "builtins.ValueError"
    message: str
    stage: str  #: "model" (raised inside the call) or "frame" (outside any recorded call)
    traceback: tuple[str, ...] = ()  #: "module:function:line", outermost first; no source lines, no paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One inference."""

    id: int  #: a sequence number of the recording process
    stream: str  #: value of the stream key, "" when there is none
    status: str  #: "complete", "raised" or "open" (in flight when the process died)
    time_ns: int  #: wall clock at its beginning, since the Unix epoch
    monotonic_ns: int  #: monotonic clock at its beginning
    context: int  #: id of the context it began in
    calls: tuple[int, ...]  #: ids of its model calls, in order
    images: tuple[Image, ...] = ()
    images_left_out: tuple[ImageLeftOut, ...] = ()  #: what is known of images that are not here
    metadata: dict[str, JsonValue] = field(default_factory=dict)
    sensor_time: JsonValue = None  #: the caller's ``time=``
    latency_seconds: float | None = None
    output: Value | None = None  #: what the service answered, when it said
    exception: ExceptionInfo | None = None
    lost: dict[str, int] = field(default_factory=dict)  #: parts that could not be recorded, by reason


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """What of the calling thread decides a model call's bits."""

    training: bool
    grad_enabled: bool
    inference_mode: bool
    autocast: dict[str, str] = field(default_factory=dict)  #: device type to dtype, for each device where it is on


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of an attached model, with the whole batch it was given."""

    id: int
    model: int  #: id of the model
    context: int  #: id of the context it ran in
    frames: tuple[int, ...]  #: ids of the frames it served; with several, item i of the batch belongs to the i-th
    parent: int | None  #: the call it was nested in; only outermost calls are replayed
    status: str  #: "returned", "raised" or "open"
    settings: CallSettings
    args: SequenceValue
    kwargs: MappingValue
    output: Value | None = None
    exception: ExceptionInfo | None = None
    rng: Value | None = None  #: torch's CPU generator state before the call, where the model can draw
    state: MappingValue | None = None  #: the model's state before the call: tensors by name (`Model.state`)
    layers: Value | None = (
        None  #: digests of what the model's layers gave, where they were captured (FORMAT.md, section 3.7)
    )
    started_monotonic_ns: int = 0
    latency_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """Why an incident was opened, or one more reason while it was."""

    kind: str  #: "exception", "non_finite", "low_confidence", "when", "manual", "process_died" …
    reason: str  #: one sentence
    frame: int | None
    time_ns: int
    severity: str = "normal"
    value: float | None = None  #: the measured value, where there is one
    threshold: float | None = None
    parameters: dict[str, JsonValue] = field(default_factory=dict)  #: enough to evaluate it again on replayed values


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which frames were asked for, and what closed the window."""

    pre_frames: int
    post_frames: int
    post_seconds: float
    closed_by: str  #: "frames", "seconds", "flush", "close", "death", "recover" or "size"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinning:
    """Images and tensors that were left out on purpose, so that the bundle stays within a size (FORMAT.md)."""

    max_bundle_bytes: int  #: what was asked for
    rule: str  #: which frames went first: "every-other-from-afar"
    frames: tuple[int, ...]  #: ids of the frames that lost images or tensors, ascending


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What happened."""

    id: str  #: 32 hex digits, random
    stream: str
    severity: str
    opened_ns: int
    window: Window
    triggers: tuple[Trigger, ...]  #: the first opened it
    host: str  #: "alive", "closed" or "died": the recording process when the incident was sealed
    lost: dict[str, int] = field(default_factory=dict)  #: by reason
    cause: dict[str, JsonValue] | None = None  #: the diagnosis, when a profile was there to make one
    signature: str | None = None  #: names the defect: kind and identity of the first trigger (FORMAT.md)
    recurrences_since_last: int = 0  #: triggers of these signatures suppressed since an incident last had them
    thinning: Thinning | None = None  #: null: nothing was left out for the size of the bundle

    @property
    def onset(self) -> int | None:
        """The earliest frame that a trigger names as the beginning, or as its own; None where none names one."""
        named = [trigger.parameters.get("onset_frame", trigger.frame) for trigger in self.triggers]
        return min((number for number in named if isinstance(number, int)), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What of machine, libraries and flags decides the bits, as far as the allow-list lets it leave the machine."""

    python: str
    platform: str  #: such as "linux-x86_64"
    cpu: dict[str, JsonValue]  #: "model", "flags" (sorted list), "count"
    gpus: tuple[dict[str, JsonValue], ...]
    packages: dict[str, str]  #: installed distributions and versions
    variables: dict[str, str]  #: allow-listed environment variables that were set when the process started
    libraries: dict[str, JsonValue]  #: facts that cannot be restored: torch's build, effective capability, versions
    settings: dict[str, JsonValue]  #: flags that can be restored, by dotted name: "torch.num_threads"
    git_commit: str | None = None
    git_dirty: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """An epoch during which nothing of the environment changed."""

    id: int
    since_ns: int
    environment: Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLayout:
    """How a weight lay in memory where that is not C-contiguous at a multiple of 64 bytes."""

    strides: tuple[int, ...]  #: in elements
    alignment: int  #: address modulo 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Identity of a model's parameters, buffers and tensor attributes: the sha256 of their safetensors file.

    Of an "onnxruntime" model: the sha256 of the ONNX file itself, ``<digest>.onnx`` in the store.
    """

    digest: str
    size_bytes: int
    stored: bool  #: whether the host wrote them into its model store


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """An exported graph that serves calls of one signature, or of one form."""

    signature: str  #: sha256 of the canonical form of dtypes, shapes and structure (schemas/FORMAT.md)
    digest: str
    size_bytes: int
    form: str | None = None  #: of a graph that leaves sizes open: the signature with numbers of dimensions for shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An attached model. A new id begins whenever its weights change."""

    id: int
    name: str
    framework: str  #: "torch", "onnxruntime" or "callable"
    type: str  #: qualified class name, a claim
    factory: str | None = None  #: "package.module:function", a claim
    weights: Weights | None = None  #: null: not known; ``problems`` says why
    layouts: dict[str, TensorLayout] = field(default_factory=dict)  #: by tensor name, exceptions only
    training_modules: tuple[str, ...] = ()  #: paths of modules in training mode; "" is the root
    state: tuple[str, ...] = ()  #: glob patterns of tensors that calls change: no weights, but in `Call.state`
    graphs: tuple[Graph, ...] = ()
    problems: tuple[str, ...] = ()  #: sentences: why weights or a graph are missing
    compiled: bool = False  #: by torch.compile, as a whole or in part; names and graphs are those of the eager module
    options: dict[str, JsonValue] = field(default_factory=dict)  #: of an onnxruntime session: providers and options


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The bundle this one was made from."""

    bundle: str  #: its bundle id
    operation: str  #: what was done to it: "redact", "pack", "minimize", "thin", "erase", "recover"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What was removed or changed for privacy: all values of one field that were treated alike."""

    field: str  #: "image", "image.left", "model_input", "metadata.operator.email", "trigger.reason" …
    level: str  #: "redacted" or "digest-only"
    method: str  #: "pixelate", "fill", "downscale", "function", joined by "+"; "removed", "pseudonym", "pattern" …
    stage: str  #: "capture": by the recorder and its sealer; "finished": on a finished bundle
    count: int  #: how many values
    derived_from: tuple[str, ...] = ()  #: the fields from which it has its level; empty: it has one of its own
    key: str | None = None  #: id of the privacy key of its digests and pseudonyms


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackSignal:
    """One of the numbers the track holds of every frame."""

    name: str  #: recorder.image_signals and recorder.signals define those of this version
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackLevel:
    """One table of the track: a stream at one resolution of time."""

    stream: str
    seconds: int  #: length of an interval; 0: one row a frame
    rows: int
    from_ns: int  #: wall clock of the first row
    to_ns: int  #: and of the last


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackThumbnail:
    """What the stream looked like some time before the window."""

    member: str
    stream: str
    frame: int
    time_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What every frame was like, far back before the window: decimated signals (schemas/FORMAT.md, section 6)."""

    member: str  #: the tables, msgpack
    signals: tuple[TrackSignal, ...]
    levels: tuple[TrackLevel, ...]  #: in the order of the member's tables
    thumbnails: tuple[TrackThumbnail, ...] = ()  #: by time


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole bundle."""

    created_ns: int
    producer: str  #: "vision-flight-recorder 0.1.0"
    incident: Incident
    contexts: tuple[Context, ...]
    models: tuple[Model, ...]
    frames: tuple[Frame, ...]  #: by id
    calls: tuple[Call, ...]  #: by id
    members: tuple[Member, ...]  #: in archive order; manifest.json itself is not listed
    complete: bool = True  #: false when salvaged
    parent: Parent | None = None
    #: what the parent was made from, nearest first; each with the operation that made its child
    ancestors: tuple[Parent, ...] = ()
    track: Track | None = None
    redactions: tuple[Redaction, ...] = ()
    format: str = FORMAT_NAME
    format_version: FormatVersion = FormatVersion(major=FORMAT_MAJOR, minor=FORMAT_MINOR)
    required_features: tuple[str, ...] = ()  #: a reader that does not know one of these refuses


def was_redacted(manifest: Manifest, name: str) -> bool:
    """Whether an image of this name is stored otherwise than it was recorded, more than its position cut out."""
    fields = ("image", f"image.{name}")
    return any(
        each.field in fields and each.level == "redacted" and each.method not in ("removed", "location")
        for each in manifest.redactions
    )
