# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a model of a few hundred kilobytes that any llama.cpp-based server loads: tiny_gguf.py OUT.gguf

It stands in for the weights of a language model, nothing else: they are random, so what it says is noise, and everything about
how it is loaded, scheduled, streamed and counted is real. The same seed gives the same file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

SEED = 20
LAYERS = 1
HEADS = 2
WIDTH = 64
HIDDEN = 2 * WIDTH
CONTEXT = 4096

TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def vocabulary() -> list[tuple[str, TokenType]]:
    """A byte-fallback vocabulary: any text can be tokenized, the printable ASCII characters as themselves."""
    special = [("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL)]
    raw = [(f"<0x{value:02X}>", TokenType.BYTE) for value in range(256)]
    # U+2581 is SentencePiece's visible space.
    printable = [(character, TokenType.NORMAL) for character in ["\u2581", *map(chr, range(0x21, 0x7F))]]
    return special + raw + printable


def tensors(tokens: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a llama model by name; the one-dimensional ones are norms."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (tokens, WIDTH), "output_norm": (WIDTH,), "output": (tokens, WIDTH)}
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        shapes[f"{block}.attn_norm"] = shapes[f"{block}.ffn_norm"] = (WIDTH,)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"{block}.{part}"] = (WIDTH, WIDTH)
        shapes[f"{block}.ffn_gate"] = shapes[f"{block}.ffn_up"] = (HIDDEN, WIDTH)
        shapes[f"{block}.ffn_down"] = (WIDTH, HIDDEN)
    return shapes


def write(path: Path) -> None:
    words = vocabulary()
    writer = GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_file_type(0)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _kind in words])
    writer.add_token_scores([-float(rank) for rank in range(len(words))])
    writer.add_token_types([int(kind) for _text, kind in words])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    random = np.random.default_rng(SEED)
    for name, shape in tensors(len(words)).items():
        values = np.ones(shape) if len(shape) == 1 else random.normal(scale=0.05, size=shape)
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
