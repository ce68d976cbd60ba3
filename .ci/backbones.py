"""Goes over every name that open_clip knows: ``make backbones``.

    python .ci/backbones.py [--build MILLIONS] [--write] [PATTERN]

Each model encodes a frame and a sentence through c4c's own code: up to MILLIONS of parameters
with random weights on this machine ("built"), larger ones by shapes alone, on torch's meta device
("shapes"). Text towers that are transformers' own are tried with two layers; their parameters
are counted by the configuration that the hub has, on the meta device too. One line a name; exit
status 1 when one of them failed. ``--write`` stores how many parameters each has in
``extract/backbone/sizes.json``.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import open_clip
import torch

from c4c.core.errors import C4CError
from c4c.core.files import write_json
from c4c.extract.backbone import towers
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.named import create
from c4c.extract.backbone.preprocessing import Preprocessing
from c4c.extract.backbone.tokens import text_config

SIZES = Path(__file__).resolve().parents[1] / "extract" / "backbone" / "sizes.json"
_ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1}
_NLLB = {"vocab_size": 256206, "d_model": 1024}
# The kind of tower behind a name of the hub, and what its config.json there says of shapes where
# transformers' own defaults differ. The whole models (with both halves, where there are two) have
# the published numbers of parameters by these: roberta-base 124,645,632, xlm-roberta-base
# 278,043,648 and -large 559,890,432, mt5-base 582,401,280, nllb-200-distilled-600M 615,073,792 and
# -1.3B 1,370,638,336. That count says nothing of heads: those of mt5-xl (as its layers and widths)
# are of T5X's configuration files, those of the nllb models (16, a default) of fairseq2's.
_TOWERS: dict[str, tuple[str, dict[str, int]]] = {
    "roberta-base": ("roberta", {**_ROBERTA, "vocab_size": 50265}),
    "xlm-roberta-base": ("xlm-roberta", {**_ROBERTA, "vocab_size": 250002}),
    "xlm-roberta-large": (
        "xlm-roberta",
        {**_ROBERTA, "vocab_size": 250002, "hidden_size": 1024, "intermediate_size": 4096,
         "num_attention_heads": 16, "num_hidden_layers": 24},
    ),
    "google/mt5-base": (
        "mt5", {"vocab_size": 250112, "d_model": 768, "d_ff": 2048, "num_heads": 12,
                "num_layers": 12}
    ),
    "google/mt5-xl": (
        "mt5", {"vocab_size": 250112, "d_model": 2048, "d_ff": 5120, "num_heads": 32,
                "num_layers": 24}
    ),
    "facebook/nllb-200-distilled-600M": ("m2m_100", {**_NLLB, "encoder_ffn_dim": 4096}),
    "facebook/nllb-200-distilled-1.3B": (
        "m2m_100", {**_NLLB, "encoder_layers": 24, "encoder_ffn_dim": 8192}
    ),
}  # fmt: skip


def tower_folder(name: str, folder: Path, small: bool) -> Path | None:
    """The configuration of a text tower that is transformers' own; none for others.

    Args:
        name: of the model.
        folder: to write it to.
        small: give it two layers.
    """
    wanted = text_config(name).get("hf_model_name")
    if wanted is None:
        return None
    from transformers import AutoConfig

    kind, shapes = _TOWERS[wanted]
    config = AutoConfig.for_model(kind, **shapes)
    for layers in ("num_hidden_layers", "num_layers", "encoder_layers", "decoder_layers"):
        if small and hasattr(config, layers):
            setattr(config, layers, 2)
    folder.mkdir()
    config.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")  # never opened: tokens are made here
    return folder


def on_meta(name: str, local: Path | None) -> Backbone:
    """The backbone without numbers."""
    with torch.device("meta"):
        model: Any = create(name, local, device="meta").eval()
    size = Preprocessing.of_open_clip(model.visual.image_size, {})
    return Backbone(model, name, "none", "", "float32", None, size)


def reads_numbers(backbone: Backbone) -> bool:
    """Whether texts are encoded by what their tokens are, which on the meta device are nothing."""
    return towers.is_plain_clip(backbone.model) or "hf_model_name" in text_config(backbone.name)


def encoded(backbone: Backbone) -> str:
    """Encode one frame and one sentence in every way there is; what came out, in words.

    Raises:
        AssertionError: something of another shape than c4c says.
    """
    device, dim = backbone.device, backbone.embed_dim
    images = torch.zeros(1, 3, *backbone.preprocessing.fit.shape, device=device)
    tokens = torch.ones(1, backbone.context_length, dtype=torch.int64, device=device)
    words = []
    ways = (("vision", images, backbone.encode_frames), ("text", tokens, backbone.encode_text))
    with torch.inference_mode():
        for tower, inputs, encode in ways:
            if tower == "text" and device.type == "meta" and reads_numbers(backbone):
                words.append("text not tried")
                continue
            assert encode(inputs).shape == (1, dim), f"{tower} features are not [1, {dim}]"
            try:
                width = len(backbone._projection(tower).matrix())
            except C4CError:
                words.append(f"{tower} without projection")
                continue
            assert encode(inputs, hidden=True).shape == (1, width), f"hidden {tower} features"
            words.append(f"{tower} {width}")
    return f"{dim} channels, {', '.join(words)}"


def parameters(backbone: Backbone) -> int:
    """How many numbers a backbone has to learn."""
    return sum(one.numel() for one in backbone.model.parameters())


def tried(name: str, most: float) -> tuple[str, int]:
    """A line on one name, and its parameters.

    Raises:
        C4CError: it cannot be built here, and why.
    """
    with tempfile.TemporaryDirectory() as folder:
        count = parameters(on_meta(name, tower_folder(name, Path(folder, "whole"), False)))
        local = tower_folder(name, Path(folder, "small"), True)
        backbone = on_meta(name, local)
        way = "shapes"
        if parameters(backbone) <= (most if local is None or not most else max(most, 4e8)):
            backbone, way = load_backbone(name, "none", "cpu", "float32", tokenizer=local), "built"
        small = ", two text layers" if local else ""
        return f"{count / 1e6:8.1f} M  {way}{small}: {encoded(backbone)}", count


def main() -> int:
    """Try all; 1 when one failed otherwise than by a line of its own."""
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser()
    parser.add_argument("pattern", nargs="?", default="*")
    parser.add_argument("--build", type=float, default=200, metavar="MILLIONS")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    counts, failed = json.loads(SIZES.read_text()), 0
    names = [one for one in open_clip.list_models() if fnmatch.fnmatch(one, asked.pattern)]
    for name in names:
        try:
            line, count = tried(name, asked.build * 1e6)
            counts[name] = count
        except C4CError as error:
            line = f"refused: {error}"
        except Exception as error:  # what the script is for
            failed += 1
            line = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"{name:36} {line}", flush=True)
    print(f"{len(names)} names, {failed} failed")
    if asked.write:
        write_json(SIZES, dict(sorted(counts.items())))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
