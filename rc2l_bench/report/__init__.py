"""Many runs: results, statistics, tables, figures, one page.

Imports the ground floor only, and never torch.
"""
