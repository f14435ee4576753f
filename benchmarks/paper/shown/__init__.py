"""From tables to curves, from curves to claims: plots, terminal, and the page of the report."""
