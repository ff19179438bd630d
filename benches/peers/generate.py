"""Greedy generation by transformers on the CPU: the peer of `generate_bench`.

Prompts of random tokens, so that every row has the asked length; no row ends early. Prints one JSON
line a batch size: new tokens a second of the whole call and of its decoding steps alone.

python generate.py --model FOLDER --file NAME.gguf --batches 1 16 --prompt 128 --new 128
"""

import argparse
import json
import time
from importlib.metadata import version

import torch
from transformers import AutoModelForCausalLM


def seconds(model, ids, new, repeats):
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        best = min(best, time.perf_counter() - start)
        assert out.shape[1] == ids.shape[1] + new
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--file")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(
        args.model, gguf_file=args.file, dtype=getattr(torch, args.dtype)
    ).eval()
    model.generation_config.eos_token_id = None
    torch.manual_seed(0)
    for batch in args.batches:
        ids = torch.randint(3, model.config.vocab_size, (batch, args.prompt))
        seconds(model, ids, 8, 1)
        whole = seconds(model, ids, args.new, args.repeats)
        first = seconds(model, ids, 1, args.repeats)
        step = (whole - first) / (args.new - 1)
        row = {
            "peer": f"transformers {version('transformers')}, torch {version('torch')}",
            "dtype": args.dtype,
            "threads": torch.get_num_threads(),
            "batch": batch,
            "tokens_per_s": round(batch * args.new / whole, 1),
            "decode_tokens_per_s": round(batch / step, 1),
            "prefill_ms": round(first * 1e3, 1),
            "decode_ms": round(step * 1e3, 2),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
