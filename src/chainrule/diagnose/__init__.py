"""The doctor: what is wrong with a training run, why, and what repairs it."""
