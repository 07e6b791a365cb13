"""The report: one self-contained HTML page from results.json."""
