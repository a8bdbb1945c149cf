"""The whole study on one page: results.json and thresholds.json files in, figures, tables and HTML out.

Nothing here imports torch or reads a checkpoint.
"""
