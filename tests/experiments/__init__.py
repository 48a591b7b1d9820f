"""The studies of docs/experiments: from seeds to the tables and plots on the page."""
