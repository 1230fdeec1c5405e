"""Stages of dvc.yaml: `python -m pipelines.<stage>`, each one function from paths to paths."""
