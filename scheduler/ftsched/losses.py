"""What stands at the start of the backward pass: the last hidden states, the head, logits or a chunk of them. Pure."""

from __future__ import annotations

from ftsched.shapes import Shape
from ftsched.workload import GENERATING, Workload

# TRL's head works on so many tokens and so much of the vocabulary at a time.
HEAD_TOKENS = 4096
HEAD_VOCABULARY = 32768
# Ours, which takes its place on a CPU where no answers are written, goes by the number of logits.
HEAD_LOGITS = 1 << 24
# Torchtune's and litgpt's losses go through the tokens in so many chunks.
CHUNKS = 8


def loss_bytes(work: Workload, shape: Shape) -> float:
    """Bytes of the last norm, the head and the loss when the backward pass starts."""
    value = 4 * work.tokens * shape.hidden if work.value_head else 0
    if not work.has_vocabulary_head:
        return _last(work, shape) + work.compute_bytes * work.tokens * shape.hidden
    if work.logit_bytes or work.loss == "logits":
        return value + _last(work, shape) + logit_bytes(work) * work.tokens * shape.vocabulary + _head_copy(work, shape)
    if work.loss == "liger":
        return value + _last(work, shape) + _liger(work, shape)
    if work.loss == "chunked":
        each_logit = 2 * work.compute_bytes + 12 / CHUNKS
        return value + _last(work, shape) + each_logit * work.tokens * shape.vocabulary
    return value + _tiled(work, shape)


def forward_bytes(work: Workload, shape: Shape, tokens: int) -> float:
    """Bytes of the last hidden states, before and after their norm, and of the head, before there is a gradient."""
    hidden = tokens * (4 + 2 * work.stream_bytes) * shape.hidden
    if not work.has_vocabulary_head:
        return hidden
    if work.loss == "logits" or work.logit_bytes:
        return hidden + tokens * shape.vocabulary * (work.compute_bytes + 4)
    return hidden + chunk_bytes(work, shape, tokens)


def logit_bytes(work: Workload) -> float:
    """Bytes per logit: in 16 bits, upcast to fp32, its gradient; accelerate's autocast keeps one copy more."""
    return work.logit_bytes or (16 if work.autocast else 14 if work.compute_bytes == 2 else 12)


def held_bytes(work: Workload, shape: Shape) -> float:
    """The logits that the caller keeps through the backward pass."""
    held = work.held_logit_bytes
    if work.loss == "logits" and not work.logit_bytes:
        held = 4 if work.autocast else work.compute_bytes
    return held * work.tokens * shape.vocabulary


def chunk_bytes(work: Workload, shape: Shape, tokens: int) -> int:
    """The logits of one chunk. Without Triton plain operations fold it, and make fp32 copies."""
    chunk = min(tokens, HEAD_TOKENS) * min(shape.vocabulary, HEAD_VOCABULARY)
    if work.device == "gpu":
        return chunk * work.compute_bytes
    if work.stage in GENERATING:
        return chunk * 4 * (6 if work.method == "full" else 3)
    # The logits, their probabilities, and one more of them on the way.
    return min(tokens * shape.vocabulary, HEAD_LOGITS) * 4 * 3


def _last(work: Workload, shape: Shape) -> float:
    """The last norm, which trains with the head, keeps what it read."""
    stream, c = work.stream_bytes, work.compute_bytes
    norm = stream if shape.family.layer_norm else 4
    return work.tokens * (norm + (stream + c if work.method == "full" else 0)) * shape.hidden


def _head_copy(work: Workload, shape: Shape) -> int:
    """Autocast's 16-bit copy of an fp32 head."""
    copied = work.autocast and work.weight_bytes == 4 and not work.gathers
    return shape.embedding * work.compute_bytes if copied else 0


def _liger(work: Workload, shape: Shape) -> float:
    """Liger's fused head: chunks of tokens whose logits take about as much as the hidden states."""
    tokens, c, v, h = work.tokens, work.compute_bytes, shape.vocabulary, shape.hidden
    rows = -(-tokens // -(-v // h))
    chunk = min(tokens, 1 << (rows - 1).bit_length())
    return chunk * v * (c + 4) + c * tokens * h + (4 * v * h if work.trains_head else 0)


def _tiled(work: Workload, shape: Shape) -> float:
    """TRL's fused head: one tile of logits, and fp32 gradients of the hidden states and of a head that trains."""
    tokens, hidden, stream = work.tokens, shape.hidden, work.stream_bytes
    norm = stream if shape.family.layer_norm else 4
    trained_norm = 4 if shape.family.fp32_norms else stream
    size: float = tokens * (norm + stream + (trained_norm if work.trains_head else 0)) * hidden
    scored = _scored(work)
    size += scored * (stream + 4) * hidden + chunk_bytes(work, shape, scored)
    if work.trains_head:
        size += (4 + (2 if work.trained_bytes == 2 else 0)) * shape.embedding
    else:
        size += stream * scored * hidden
    head_copy = hidden * work.compute_bytes if work.autocast and work.weight_bytes == 4 and not work.gathers else 0
    return size + head_copy * min(shape.vocabulary, HEAD_VOCABULARY)


def _scored(work: Workload) -> int:
    """Tokens that the loss looks at: the first of a row predicts nothing before it; a prompt is not scored."""
    if work.stage in GENERATING and work.completion:
        return work.rows * min(work.completion, work.sequence)
    return max(1, work.tokens - work.rows)
