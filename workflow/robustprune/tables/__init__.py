"""From evaluations to the rows of a paper's table, beside the printed numbers."""
