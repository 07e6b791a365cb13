r"""What PyTorch computes: the reference that tfopt's transformers are compared with.

    python benchmarks/transformer_reference.py --sentences FILE --minilm FOLDER \
        --checkpoints FOLDER --output reference.npz [--create]

Needs torch, transformers and sentence-transformers (extra ``reference``), and not TensorFlow.
``benchmarks/transformer_parity.py`` runs it. ``--create`` first writes tiny models with random
weights to the folder of checkpoints.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
import transformers

TINY: Mapping[str, Mapping[str, Any]] = {
    "bert": {
        "vocab_size": 60,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 20,
    },
    "distilbert": {
        "vocab_size": 60,
        "dim": 24,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 40,
        "max_position_embeddings": 20,
    },
    "roberta": {
        "vocab_size": 60,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 22,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
    "gpt2": {"vocab_size": 60, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 20},
}
_LENGTHS = (12, 7, 1)
_PAD = {"roberta": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--minilm", type=Path, required=True)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--create", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.create:
        for family in TINY:
            create(family, options.checkpoints / family)
    values: dict[str, Any] = {"versions": np.array(versions())}
    sentences = options.sentences.read_text(encoding="utf-8").splitlines()
    embedder = sentence_transformers.SentenceTransformer(str(options.minilm), device="cpu")
    values["minilm_embeddings"] = embedder.encode(sentences, batch_size=20)
    for family in TINY:
        values.update(logits(family, options.checkpoints / family))
    np.savez_compressed(options.output, **values)


def versions() -> list[str]:
    packages = (torch, transformers, sentence_transformers)
    return [f"{package.__name__} {package.__version__}" for package in packages]


def create(family: str, folder: Path) -> None:
    """Write a tiny model whose every weight is random, GPT-2 as a PyTorch file."""
    config = transformers.AutoConfig.for_model(family, **TINY[family])
    torch.manual_seed(sorted(TINY).index(family))
    auto = transformers.AutoModelForCausalLM if family == "gpt2" else None
    model = (auto or transformers.AutoModelForMaskedLM).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Fresh norms and biases are ones and zeros, and fresh kernels too small to matter.
            spread = 0.3 if parameter.ndim == 2 else 0.1
            parameter.add_(torch.randn_like(parameter) * spread)
    model.save_pretrained(folder)
    if family == "gpt2":
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    for extra in folder.glob("generation_config.json"):
        extra.unlink()


def logits(family: str, folder: Path) -> dict[str, Any]:
    """Return the inputs and vocabulary logits of a tiny model, and likelihoods of GPT-2."""
    is_causal = family == "gpt2"
    auto = transformers.AutoModelForCausalLM if is_causal else transformers.AutoModelForMaskedLM
    model = auto.from_pretrained(folder, attn_implementation="eager").eval()
    rng = np.random.default_rng(7)
    longest = max(_LENGTHS)
    mask = np.array([[int(n < length) for n in range(longest)] for length in _LENGTHS], np.int32)
    ids = rng.integers(5, TINY[family]["vocab_size"], mask.shape).astype(np.int32)
    ids = np.where(mask, ids, _PAD.get(family, 0)).astype(np.int32)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family == "bert":
        inputs["token_type_ids"] = (np.arange(longest) >= 4).astype(np.int32) * mask
    tensors = {name: torch.from_numpy(array).long() for name, array in inputs.items()}
    with torch.no_grad():
        found = model(**tensors).logits
    values = {f"{family}_{name}": array for name, array in inputs.items()}
    values[f"{family}_logits"] = found.numpy()
    if is_causal:
        steps = torch.log_softmax(found[:, :-1], -1).gather(-1, tensors["input_ids"][:, 1:, None])
        likelihood = (steps[..., 0] * tensors["attention_mask"][:, 1:]).sum(-1)
        values[f"{family}_log_likelihood"] = likelihood.numpy()
    return values


if __name__ == "__main__":
    main()
