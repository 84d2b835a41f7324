"""What a training run leaves behind: its settings, its model, its history and its report."""
