"""The whole study on one page: reads results.json and thresholds.json files; writes figures, tables and HTML.

Nothing here imports torch or reads a checkpoint.
"""
