"""tf_keras: the one place that imports it, and what tfopt knows of its models."""
