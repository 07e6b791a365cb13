"""Run LiteRT files, and read what they hold."""
