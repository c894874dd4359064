"""Betas and masks of one subject, as NSD stores them."""
