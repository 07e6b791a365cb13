"""Paths of version 0.1.0 that files and scripts name; they go with version 0.3.0."""
