"""The study: what runs, its rows as text, and the tables, claims and figures that follow from these rows."""
