"""What a daemon shows of itself: health, metrics, logs."""
