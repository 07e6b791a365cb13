"""Run a recipe: stages, exports, and the run folder."""
