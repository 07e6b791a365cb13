"""Keras 3 models become tf_keras models, and go back, with numeric proof."""
