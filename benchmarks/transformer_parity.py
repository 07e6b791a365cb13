"""Compare tfopt's transformers with PyTorch's: MiniLM-L6, and tiny random models.

    python benchmarks/transformer_parity.py [--python PYTHON] [--write FOLDER]

MiniLM-L6 embeds the 100 sentences of ``tests/models/transformers/data``, tokenized here and
there separately. BERT, DistilBERT, RoBERTa and GPT-2 with random weights give vocabulary
logits for padded rows. The largest absolute difference of each is printed; above 1e-4 the exit
code is 1.

PYTHON is an interpreter with the extra ``reference`` (PyTorch, transformers,
sentence-transformers); by default this one. ``--write`` makes the tiny models anew and keeps
what PyTorch computes as the fixtures of the tests.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tfopt.reporting.process_log import quiet_tensorflow

with quiet_tensorflow():
    import tfopt
    from tfopt.models.pretrained import checkpoint_folder

LIMIT = 1e-4
HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "tests" / "models" / "transformers" / "data"
FAMILIES = ("bert", "distilbert", "roberta", "gpt2")
NEEDED = ("torch", "transformers", "sentence_transformers")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.write or Path(scratch)
        checkpoints = options.write or DATA
        file = folder / "reference.npz"
        compute_reference(options.python, checkpoints, file, create=options.write is not None)
        with np.load(file) as reference:
            print("reference:", ", ".join(reference["versions"]))
            found = differences(reference, checkpoints)
    for name, difference in found.items():
        print(f"{name:<28} {difference:.2e}")
    return 0 if all(difference <= LIMIT for difference in found.values()) else 1


def compute_reference(python: str, checkpoints: Path, output: Path, *, create: bool) -> None:
    """Let PyTorch compute in a process of its own; both frameworks in one get in the way."""
    command = [python, str(HERE / "transformer_reference.py")]
    command += ["--sentences", str(DATA / "sentences.txt"), "--output", str(output)]
    command += ["--minilm", str(checkpoint_folder("minilm-l6")), "--checkpoints", str(checkpoints)]
    done = subprocess.run([*command, *(["--create"] if create else [])], capture_output=True)
    if done.returncode:
        sys.exit(f"The reference failed: {done.stderr.decode()[-2000:]}")


def differences(reference: Mapping[str, Any], checkpoints: Path) -> dict[str, float]:
    """Return the largest absolute difference of each model from the reference."""
    found = {"MiniLM-L6 embeddings": minilm_difference(reference["minilm_embeddings"])}
    for family in FAMILIES:
        found.update(logits_differences(family, reference, checkpoints / family))
    return found


def minilm_difference(expected: Any) -> float:
    inputs = sentence_inputs()
    model = tfopt.load_transformer("minilm-l6", head="embedding")
    return largest(model.predict(inputs, batch_size=50, verbose=0) - expected)


def sentence_inputs() -> dict[str, Any]:
    """Return the 100 sentences as token ids, padded to the longest."""
    tokenizer = Tokenizer.from_file(str(checkpoint_folder("minilm-l6") / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    rows = tokenizer.encode_batch((DATA / "sentences.txt").read_text("utf-8").splitlines())
    return {
        "input_ids": np.array([row.ids for row in rows], np.int32),
        "attention_mask": np.array([row.attention_mask for row in rows], np.int32),
    }


def logits_differences(
    family: str, reference: Mapping[str, Any], checkpoint: Path
) -> dict[str, float]:
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = {
        name: reference[f"{family}_{name}"] for name in names if f"{family}_{name}" in reference
    }
    model = tfopt.load_transformer(
        checkpoint, head="language_model", token_types="token_type_ids" in inputs
    )
    real = inputs["attention_mask"].astype(bool)
    expected = reference[f"{family}_logits"]
    found = model.predict(inputs, verbose=0)
    results = {f"{family} logits": largest((found - expected)[real])}
    if family == "gpt2":
        likelihood = tfopt.sequence_log_likelihood(
            model, inputs["input_ids"], inputs["attention_mask"]
        )
        expected = reference["gpt2_log_likelihood"]
        results["gpt2 log-likelihoods"] = largest(likelihood - expected)
    return results


def largest(values: Any) -> float:
    """Return the largest magnitude; NaN stays NaN, which no limit admits."""
    return float(np.max(np.abs(values)))


if __name__ == "__main__":
    sys.exit(main())
