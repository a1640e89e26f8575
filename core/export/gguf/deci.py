"""GGUF of a Llama without some blocks, and without some attentions and FFNs by llama.cpp's architecture
`deci`: a Llama whose blocks may each lack either.

Head counts and FFN widths are lists with 0 for what is gone, and its tensors are left out. Two traps of its
graph, both seen: a block without FFN silently drops its attention, too, so that an FFN of zeros stands there;
and a first block without attention does not load, so that one head of zeros stands there. Tensors that are
kept are the file's own bytes where the source is GGUF, of the checkpoint's own type where it is safetensors.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np
import torch

from core.errors import InputError
from core.export.gguf.vocabulary import add_vocabulary
from core.model.load import LoadedModel
from core.model.surgery import divided
from core.weights.gguf_files import GgufFiles

FILE = "model.gguf"
ARCHITECTURE, WHOLE = "deci", "llama"  # WHOLE: where only whole blocks go
TINY = 32  # width of an FFN of zeros
_PLAIN = {
    torch.float32: gguf.GGMLQuantizationType.F32,
    torch.float16: gguf.GGMLQuantizationType.F16,
    torch.bfloat16: gguf.GGMLQuantizationType.BF16,
}


class Tensor(NamedTuple):
    """One of a GGUF file."""

    name: str
    data: np.ndarray  # bytes where it is quantised
    kind: gguf.GGMLQuantizationType


class Layout(NamedTuple):
    """What is left of a model: its blocks by their old numbers, and of which attention or FFN is gone."""

    kept: list[int]
    no_attention: set[int]
    no_ffn: set[int]

    @property
    def architecture(self) -> str:
        """Of llama.cpp."""
        return ARCHITECTURE if self.no_attention or self.no_ffn else WHOLE


def check(loaded: LoadedModel, units: Sequence[int]) -> None:
    """Errors: InputError for a model that the architecture cannot hold."""
    files, config = loaded.files, loaded.config
    scaling = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    wrong = None
    if isinstance(files, GgufFiles):
        if files.header.architecture != "llama" or files.header.values.get("llama.expert_count"):
            wrong = f"it is a file of the architecture {files.header.architecture!r}, or has experts"
    elif config.model_type != "llama":
        wrong = f"it is of the type {config.model_type!r}"
    elif config.hidden_act != "silu" or config.mlp_bias or config.attention_bias:
        wrong = "it has biases, or another activation"
    elif scaling not in ("default", "llama3"):
        wrong = f"its positions are scaled by {scaling!r}"
    if wrong:
        raise InputError(
            f"{loaded.source!r} cannot be written as GGUF here, where only Llama models are, and {wrong}; "
            "choose another form, or convert a checkpoint of it with llama.cpp's own script."
        )


def layout_of(loaded: LoadedModel, units: Sequence[int]) -> Layout:
    """Of a state of a Llama."""
    whole, partial = divided(loaded, units)
    gone = {
        kind: {b for b, own in partial.items() if kind in (loaded.blocks[b].branches[k].kind for k in own)}
        for kind in ("attention", "FFN")
    }
    kept = [b for b in range(len(loaded.blocks)) if b not in whole]
    return Layout(kept, gone["attention"], gone["FFN"])


def zero_heads(loaded: LoadedModel, layout: Layout) -> int:
    """Bytes a token that the head of zeros keeps, in the type of the weights; mostly none."""
    b = layout.kept[0]
    return loaded.blocks[b].kv_bytes // loaded.config.num_key_value_heads if b in layout.no_attention else 0


def write(loaded: LoadedModel, units: Sequence[int], folder: Path) -> int:
    """Write FILE into a new folder; how many numbers its tensors hold."""
    folder.mkdir()
    layout = layout_of(loaded, units)
    writer = gguf.GGUFWriter(folder / FILE, layout.architecture)
    if isinstance(loaded.files, GgufFiles):
        reader = gguf.GGUFReader(loaded.files.path)
        _copy_entries(writer, reader)
        tensors: Iterator[Tensor] = (Tensor(t.name, t.data, t.tensor_type) for t in reader.tensors)
    else:
        _entries(writer, loaded)
        tensors = _tensors(loaded)
    _shape_entries(writer, loaded, layout)
    count = 0
    for tensor in _left(tensors, loaded, layout):
        each, held = gguf.GGML_QUANT_SIZES[tensor.kind]
        count += tensor.data.nbytes // held * each
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return count


def _shape_entries(writer: gguf.GGUFWriter, loaded: LoadedModel, layout: Layout) -> None:
    """What a block may lack, as lists."""
    config = loaded.config
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    has = [b not in layout.no_attention for b in layout.kept]
    first = int(not has[0])  # a head of zeros
    writer.add_block_count(len(layout.kept))
    if layout.architecture == WHOLE:
        writer.add_head_count(heads)
        writer.add_head_count_kv(kv)
        writer.add_feed_forward_length(config.intermediate_size)
    else:
        writer.add_head_count([heads if own else first * (n == 0) for n, own in enumerate(has)])
        writer.add_head_count_kv([kv if own else first * (n == 0) for n, own in enumerate(has)])
        writer.add_feed_forward_length(
            [TINY if b in layout.no_ffn else config.intermediate_size for b in layout.kept]
        )
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)


def _left(tensors: Iterator[Tensor], loaded: LoadedModel, layout: Layout) -> Iterator[Tensor]:
    """The tensors that stay, their blocks renumbered, and those of zeros."""
    for tensor in tensors:
        head, _, rest = tensor.name.removeprefix("blk.").partition(".")
        if not tensor.name.startswith("blk."):
            yield tensor
            continue
        b = int(head)
        if b not in layout.kept:
            continue
        gone = layout.no_attention if rest.startswith("attn_") else layout.no_ffn
        if b not in gone:
            yield tensor._replace(name=f"blk.{layout.kept.index(b)}.{rest}")
    width = loaded.config.hidden_size
    size = getattr(loaded.config, "head_dim", None) or width // loaded.config.num_attention_heads
    for n, b in enumerate(layout.kept):
        shapes: dict[str, tuple[int, ...]] = {}
        if b in layout.no_ffn:
            shapes |= {
                "ffn_norm": (width,),
                "ffn_gate": (TINY, width),
                "ffn_up": (TINY, width),
                "ffn_down": (width, TINY),
            }
        if n == 0 and b in layout.no_attention:
            shapes |= {
                "attn_norm": (width,),
                **{f"attn_{p}": (size, width) for p in "qkv"},
                "attn_output": (width, size),
            }
        for name, shape in shapes.items():
            zeros = np.zeros(shape, dtype=np.float32)
            yield Tensor(f"blk.{n}.{name}.weight", zeros, gguf.GGMLQuantizationType.F32)


# what `_shape_entries` says
_SHAPES = (
    "block_count",
    "attention.head_count",
    "attention.head_count_kv",
    "feed_forward_length",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
)


def _copy_entries(writer: gguf.GGUFWriter, reader: gguf.GGUFReader) -> None:
    """What a GGUF file of a Llama says of itself, but for what `_shape_entries` says."""
    for field in reader.fields.values():
        name = (
            field.name.replace(f"{WHOLE}.", f"{writer.arch}.", 1)
            if field.name.startswith(f"{WHOLE}.")
            else field.name
        )
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        if name.removeprefix(f"{writer.arch}.") in _SHAPES:
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)


# from safetensors


def _entries(writer: gguf.GGUFWriter, loaded: LoadedModel) -> None:
    config = loaded.config
    writer.add_name(loaded.name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    add_vocabulary(writer, loaded.tokenizer, config.vocab_size, loaded.source)


def _tensors(loaded: LoadedModel) -> Iterator[Tensor]:
    """All of the whole model, as convert_hf_to_gguf names and lays them out."""
    config = loaded.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.DECI, len(loaded.blocks))
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, value in loaded.model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        ours = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if ours is None:
            raise InputError(
                f"{loaded.source!r} has a tensor {name!r} that no Llama has; choose another form."
            )
        array = value.float().numpy()
        count = next((n for part, n in heads.items() if f".{part}." in ours), None)
        if count:  # halves to pairs
            array = array.reshape(count, 2, -1, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)
        kind = gguf.GGMLQuantizationType.F32 if array.ndim == 1 else _PLAIN[value.dtype]
        yield Tensor(ours, _packed(array, kind), kind)
    if config.rope_parameters.get("rope_type") == "llama3":
        own = loaded.model.get_submodule("model.rotary_emb").get_buffer("inv_freq").float()
        steps = torch.arange(len(own)) / len(own)
        plain = config.rope_parameters["rope_theta"] ** -steps
        yield Tensor("rope_freqs.weight", (plain / own).numpy(), gguf.GGMLQuantizationType.F32)


def _packed(array: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    array = np.ascontiguousarray(array)
    if kind == gguf.GGMLQuantizationType.F32:
        return array
    return array.astype(np.float16) if kind == gguf.GGMLQuantizationType.F16 else gguf.quantize(array, kind)
