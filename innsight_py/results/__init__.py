"""Numbers with names: attributions, their tables, and whether they add up."""
