"""The strategies of tf.distribute."""
