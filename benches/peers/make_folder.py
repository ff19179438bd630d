"""Writes a Llama folder of the 8B shape with random bf16 weights in several shards.

For `load-bench`: 16 GB on disk, from a fixed seed. No tokenizer is written.

python make_folder.py FOLDER [--layers 32]
"""

import argparse
import json
from pathlib import Path

import numpy as np

HIDDEN, WIDE, VOCAB, HEADS, KV_HEADS, HEAD_DIM = 4096, 14336, 128256, 32, 8, 128
SHARD = 4 << 30


def tensors(layers):
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for layer in range(layers):
        name = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{name}.{norm}.weight", (HIDDEN,)
        kv = KV_HEADS * HEAD_DIM
        for part, shape in (("q", (HIDDEN, HIDDEN)), ("k", (kv, HIDDEN)), ("v", (kv, HIDDEN)), ("o", (HIDDEN, HIDDEN))):
            yield f"{name}.self_attn.{part}_proj.weight", shape
        for part, shape in (("gate", (WIDE, HIDDEN)), ("up", (WIDE, HIDDEN)), ("down", (HIDDEN, WIDE))):
            yield f"{name}.mlp.{part}_proj.weight", shape
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def shards(layers):
    shard, size = [], 0
    for name, shape in tensors(layers):
        bytes_ = 2 * int(np.prod(shape))
        if shard and size + bytes_ > SHARD:
            yield shard
            shard, size = [], 0
        shard.append((name, shape, bytes_))
        size += bytes_
    yield shard


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    all_shards, weight_map = list(shards(args.layers)), {}
    for number, shard in enumerate(all_shards, 1):
        file = f"model-{number:05}-of-{len(all_shards):05}.safetensors"
        header, at = {}, 0
        for name, shape, size in shard:
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
            weight_map[name] = file
            at += size
        head = json.dumps(header).encode()
        with open(args.folder / file, "wb") as out:
            out.write(len(head).to_bytes(8, "little") + head)
            for _, _, size in shard:
                # Exponents of small numbers, so that nothing is infinite.
                values = rng.integers(0, 1 << 16, size // 2, dtype=np.uint16)
                out.write((values & 0x807F | 0x3C00).tobytes())
    index = {"metadata": {}, "weight_map": weight_map}
    (args.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = dict(
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        hidden_size=HIDDEN,
        intermediate_size=WIDE,
        num_hidden_layers=args.layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        vocab_size=VOCAB,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )
    (args.folder / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
