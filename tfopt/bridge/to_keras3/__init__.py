"""From tf_keras back to Keras 3."""
