"""DAGs that benchmarks run."""
