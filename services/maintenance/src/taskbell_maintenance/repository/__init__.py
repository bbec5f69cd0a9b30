"""All SQL. `statuses`, `archive` and `reports` work on the app's tables; `own_rows` prunes ours."""
