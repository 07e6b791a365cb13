"""From Keras 3 to tf_keras."""
