"""The models, and the statements of each table. Callers open and commit the transactions."""
