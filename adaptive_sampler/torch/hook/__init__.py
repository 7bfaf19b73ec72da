"""The loss hook and what stands behind it: from the call of a criterion to the scores of single samples."""
