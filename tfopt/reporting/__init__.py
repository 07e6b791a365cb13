"""What a run reports, on the console and as a page."""
