"""Study: its runs, their rows as text, and the tables, claims and figures computed from these rows."""
