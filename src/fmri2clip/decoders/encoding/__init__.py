"""What a picture would evoke, turned round: which picture evoked this."""
