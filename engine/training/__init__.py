"""Training networks: the task, the SGD step, teachers, labels and evaluation."""
