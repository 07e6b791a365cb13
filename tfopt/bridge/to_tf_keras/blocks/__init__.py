"""Attention and transformer blocks of Keras 3 as plain tf_keras layers."""
