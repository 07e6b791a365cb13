"""Text: tokenizers, token batches and token labels."""
