"""What a configuration may set of an architecture: sizes, switches and kinds of layers; never a path or an address."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from tutelage.checks import nearest

_COUNTS = frozenset({"blocks", "depth", "depths", "layers"})  # how often something is built
_OURS = "attention_heads channels examples hidden max_pool numbers stem_stride width widths "
_TRANSFORMERS = """
attn_drop_rate class_token conv_mlp drop_path_rate dynamic_img_pad dynamic_img_size embed_dim embed_dims expand_ratio
expansion_factor fc_norm final_norm global_pool head_hidden_size img_size init_values layer_scale_init_value ls_init_value
mlp_ratio mlp_ratios no_embed_class norm_eps num_heads patch_drop_rate patch_size pool_include_prefix pos_drop_rate pos_embed
pre_norm proj_bias proj_drop_rate qk_norm qkv_bias reg_tokens scale_attn_norm scale_mlp_norm strict_img_size use_abs_pos
window_ratio window_size
"""
_CONVOLUTIONS = """
act_layer aa_layer avg_down base_width block_reduce_first cardinality dims down_kernel_size drop_block_rate drop_rate fix_stem
groups kernel_size kernel_sizes norm_layer num_features out_indices output_stride pad_type replace_stem_pool se_layer stem_chs
stem_size stem_type stem_width zero_init_last
"""
_NAMES = _COUNTS.union((_OURS + _TRANSFORMERS + _CONVOLUTIONS).split())
_LARGEST, _MOST, _DEEPEST = 1 << 16, 64, 512
_WORD = re.compile(r"[A-Za-z0-9_]{0,40}")


def check_options(model: str, options: Mapping[str, Any]) -> None:
    """Refuse options that are not plain arguments of an architecture.

    Args:
        model: its name, for the message.
        options: by name, numbers up to 65536, switches, words, and lists of them.

    Raises:
        ValueError: another name, such as one of a file or an address, or another value.
    """
    for name, value in options.items():
        told = f"model {model!r} does not take options={dict(options)}: {name!r}"
        if name not in _NAMES:
            raise ValueError(f"{told} is no option of an architecture{nearest(str(name), sorted(_NAMES))}")
        if not _plain(value):
            raise ValueError(
                f"{told} must be a number up to {_LARGEST}, true, false, a word, or a list of at most {_MOST} of them"
            )
        if name in _COUNTS:
            counts = value if isinstance(value, (list, tuple)) else [value]
            if not all(isinstance(each, int) for each in counts):
                raise ValueError(f"{told} must be a whole number, or a list of them")
            if sum(counts) > _DEEPEST:
                raise ValueError(f"{told} builds more than {_DEEPEST} layers")


def _plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, (list, tuple)):
        return depth < 2 and len(value) <= _MOST and all(_plain(each, depth + 1) for each in value)
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    if isinstance(value, (int, float)):
        return math.isfinite(value) and abs(value) <= _LARGEST
    return value is None
