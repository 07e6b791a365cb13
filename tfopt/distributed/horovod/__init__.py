"""Gradients averaged over ranks by Horovod."""
