"""BERT-like encoders and GPT-2-like decoders made of plain tf_keras layers."""
