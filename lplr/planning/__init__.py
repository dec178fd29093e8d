"""What a budget of bits buys, predicted before anything is coded."""
