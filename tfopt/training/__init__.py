"""Build, compile, fit and evaluate one model."""
