"""Small models of every family that open_clip has, and a tokenizer for those without CLIP's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_clip import factory

TEXT = {"width": 64, "heads": 2, "layers": 1, "vocab_size": 49408}
HF = {"hf_tokenizer_name": "nobody/nothing", "tokenizer_kwargs": {"clean": "canonicalize"}}


def timm(name: str, size: int, **more: Any) -> dict[str, Any]:
    return {"timm_model_name": name, "image_size": size, **more}


VIT = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1}
LAST = {**TEXT, "vocab_size": 64, "context_length": 16, "no_causal_mask": True}
# The smallest towers of timm that end as the family's own, and open_clip's with one layer.
FAMILIES: dict[str, dict[str, Any]] = {
    "pe": {
        "vision_cfg": timm("vit_tiny_patch16_224", 224, timm_pool="token"),
        "text_cfg": {**TEXT, "context_length": 32},
        "custom_text": True,
    },
    "siglip": {
        "vision_cfg": timm("vit_tiny_patch16_224", 224, timm_pool="map", timm_proj="none"),
        "text_cfg": {**LAST, **HF, "width": 192, "pool_type": "last", "proj_bias": True},
        "custom_text": True,
        "init_logit_bias": -10,
        "embed_dim": 192,
    },
    "convnext": {
        "vision_cfg": timm("convnext_atto", 224, timm_pool="", timm_proj="linear"),
        "text_cfg": TEXT,
    },
    "mlp": {
        "vision_cfg": timm("convnext_atto", 224, timm_pool="", timm_proj="mlp"),
        "text_cfg": TEXT,
    },
    "resnet": {
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32},
        "text_cfg": TEXT,
    },
    "coca": {
        "vision_cfg": {**VIT, "attentional_pool": True, "output_tokens": True},
        "text_cfg": {**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "context_length": 76},
        "custom_text": True,
    },
    "clipa": {"vision_cfg": VIT, "text_cfg": {**LAST, **HF, "pool_type": "last"}},
    "worldwide": {
        "vision_cfg": VIT,
        "text_cfg": {**TEXT, **HF, "vocab_size": 64, "pool_type": "eos", "eos_id": 2},
    },
    "roberta": {"vision_cfg": VIT, "text_cfg": {"hf_model_name": "nobody/roberta", **HF}},
}


@contextmanager
def known_families() -> Iterator[None]:
    """The families as names that open_clip knows."""
    names = {f"small-{name}": {"embed_dim": 48, **config} for name, config in FAMILIES.items()}
    factory._MODEL_CONFIGS.update(names)
    yield
    for name in names:
        factory._MODEL_CONFIGS.pop(name, None)


def make_tokenizer(path: Path) -> Path:
    """A tokenizer of words, with the configuration of a small text tower beside it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig

    words = [
        "<s>",
        "<pad>",  # not 0, as of SigLIP's and of roberta's
        "</s>",
        "<unk>",
        "a",
        "red",
        "blue",
        "circle",
        "square",
        "moves",
        "left",
    ]
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"pad_token": "<pad>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(path)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes = {"vocab_size": 64, "intermediate_size": 64, "max_position_embeddings": 100}
    RobertaConfig(pad_token_id=1, **sizes, **small).save_pretrained(path)
    return path
