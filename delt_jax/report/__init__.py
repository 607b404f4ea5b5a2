"""The report of a run, from its work directory: results.json, report.html, the table at the end."""
