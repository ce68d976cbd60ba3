"""Parameter names of the authors' code (CLIP4Clip) and ours, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from c4c.core.errors import C4CError

_TRANSFORMER = "transformer."
# Head -> our name (or prefix ending in a dot) -> theirs. The logit scale is CLIP's.
NAMES: dict[str, dict[str, str]] = {
    "meanP": {},
    "seqLSTM": {
        "unread_positions": "frame_position_embeddings.weight",
        "lstm.": "lstm_visual.",
    },
    "seqTransf": {
        "position_embeddings": "frame_position_embeddings.weight",
        _TRANSFORMER: "transformerClip.",
    },
    "tightTransf": {
        "position_embeddings": "cross.embeddings.position_embeddings.weight",
        _TRANSFORMER: "cross.transformer.",
        "ln_pool.": "cross.pooler.ln_pool.",
        "pool.": "cross.pooler.dense.",
        "similarity.": "similarity_dense.",
    },
}
# First words of what belongs to a head; all else is CLIP's.
HEAD_ROOTS = frozenset(
    {"cross", "similarity_dense", "frame_position_embeddings", "transformerClip", "lstm_visual"}
)
LOGIT_SCALE = "logit_scale"
CLIP_PREFIX = "clip."
_LAYERS = 256  # no head has as many


def theirs(head: str, name: str) -> str:
    """The authors' name of our parameter ``name``.

    Raises:
        C4CError: the head has no parameter of that name.
    """
    if name == LOGIT_SCALE:
        return CLIP_PREFIX + LOGIT_SCALE
    return _rename(head, name, _names(head))


def ours(head: str, name: str) -> str:
    """Our name of the authors' parameter ``name``.

    Raises:
        C4CError: a model with that head has no parameter of that name.
    """
    if name == CLIP_PREFIX + LOGIT_SCALE:
        return LOGIT_SCALE
    return _rename(head, name, {value: key for key, value in _names(head).items()})


def _names(head: str) -> dict[str, str]:
    if head not in NAMES:
        raise C4CError(f"The authors' code has no head '{head}'. It has {', '.join(NAMES)}.")
    return NAMES[head]


def _rename(head: str, name: str, table: Mapping[str, str]) -> str:
    for source, target in table.items():
        if name == source:
            return target
        if source.endswith(".") and name.startswith(source):
            return target + name[len(source) :]
    raise C4CError(f"'{name}' is no parameter of {head}; is this a checkpoint of CLIP4Clip?")


def head_of(names: Iterable[str]) -> str:
    """Which head a checkpoint of the authors' code holds, by its parameters' names."""
    roots = {name.split(".")[0] for name in names}
    if "cross" in roots:
        return "tightTransf"
    if "transformerClip" in roots:
        return "seqTransf"
    return "seqLSTM" if "lstm_visual" in roots else "meanP"


def from_authors(
    state: Mapping[str, Tensor],
) -> tuple[str, dict[str, Tensor], dict[str, Tensor]]:
    """Split a state dict of the authors' code, or of CLIP alone (then the head is meanP).

    Args:
        state: under their names, without a ``module.`` prefix, with or without ``clip.``.

    Returns:
        the head's name, its parameters under our names, and CLIP's under OpenAI's names
        (``visual.conv2.weight`` among them for a 3d patch).

    Raises:
        C4CError: a parameter belongs to another head.
    """
    head = head_of(state)
    own = {
        ours(head, name): value for name, value in state.items() if name.split(".")[0] in HEAD_ROOTS
    }
    clip = {
        name.removeprefix(CLIP_PREFIX): value
        for name, value in state.items()
        if name.split(".")[0] not in HEAD_ROOTS
    }
    if LOGIT_SCALE in clip:
        own[LOGIT_SCALE] = clip[LOGIT_SCALE]
    return head, own, clip


def shape_of(head: str, own: Mapping[str, Tensor], clip: Mapping[str, Tensor]) -> dict[str, int]:
    """The numbers that rebuild a head (dim, positions, layers), off its parameters' shapes.

    Raises:
        C4CError: the parameters that tell are missing.
    """
    table = own.get("position_embeddings", own.get("unread_positions"))
    blocks = (name.split(".", 3)[1:3] for name in own if name.startswith(_TRANSFORMER))
    layers = len({tuple(one) for one in blocks})
    if layers > _LAYERS:  # a head is built of them before its parameters are compared
        raise C4CError(f"This is no checkpoint of {head}: it has {layers} layers.")
    projection = clip.get("text_projection")
    if table is not None and table.ndim == 2:
        rows, dim = table.shape
    elif head == "meanP" and projection is not None and projection.ndim == 2:
        positions = clip.get("positional_embedding", projection)
        rows, dim = positions.shape[0] if positions.ndim else 0, projection.shape[1]
    else:
        rows, dim = 0, 0
    if min(rows, dim) < 1:
        raise C4CError(f"This is no checkpoint of {head}: it lacks position embeddings or CLIP.")
    return {"dim": int(dim), "positions": int(rows), "layers": max(1, layers)}


def to_authors(
    head: str, own: Mapping[str, Tensor], clip: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The reverse of ``from_authors``; the head's logit scale becomes CLIP's.

    Raises:
        C4CError: a parameter belongs to no head.
    """
    state = {CLIP_PREFIX + name: value for name, value in clip.items()}
    state.update({theirs(head, name): value for name, value in own.items()})
    return state
